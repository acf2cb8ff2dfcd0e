"""A script that should write stand-in rows and cannot: one line that names it and what it did."""

from __future__ import annotations

from pathlib import Path

import pytest

from refit.config import SourceParams
from refit.errors import UserError
from refit.sources import synthetic_data

SOURCE = SourceParams(
    kind="files",
    path="raw/rows.csv",
    published="https://example.org/rows.csv",
    stand_in="stand_in.py",
    columns={"key": "text"},
    key=("key",),
)


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (None, "no file stand_in.py in the project"),
        ("def write(folder:\n", "stand_in.py failed: SyntaxError"),
        ("import sys\nsys.exit(3)\n", "stand_in.py failed: SystemExit: 3"),
        ("import sys\ndef write(folder):\n    sys.exit('no')\n", "stand_in.py failed: SystemExit: no"),
        ("x = 1\n", "has no function write"),
        ("def write(folder):\n    pass\n", "wrote nothing, and no rows.csv"),
        ("import nowhere_to_be_found\n", "stand_in.py failed: ModuleNotFoundError"),
    ],
    ids=["missing", "torn", "exits", "exits late", "no function", "writes nothing", "imports nothing"],
)
def test_a_script_that_does_not_write_is_named(tmp_path: Path, script: str | None, said: str) -> None:
    if script is not None:
        (tmp_path / "stand_in.py").write_text(script)
    with pytest.raises(UserError, match=said) as error:
        synthetic_data.files(tmp_path, SOURCE, "ingest.sources.rows", tmp_path)
    assert "ingest.sources.rows" in str(error.value)
    assert "\n" not in str(error.value)
