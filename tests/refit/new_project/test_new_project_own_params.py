"""A folder with params of one's own becomes a project."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from refit.errors import UserError
from refit.new_project.project_folder import create


@pytest.mark.slow
def test_a_folder_with_params_of_ones_own_becomes_their_project(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made, mine = tmp_path / "demo", tmp_path / "mine/demo"
    create(made, csv=None, time=None, label=None, key=()).print()
    mine.mkdir(parents=True)
    shutil.copytree(made / "raw", mine / "raw")
    shutil.copy(made / "params.yaml", mine / "params.yaml")
    capsys.readouterr()
    create(mine, csv=None, time=None, label=None, key=()).print()
    assert f"next    cd {mine} && refit run" in capsys.readouterr().out
    for name in ("params.yaml", "dvc.yaml", "prefect.yaml"):
        assert (mine / name).read_text() == (made / name).read_text(), name
    own_files = "/raw/*\n!/raw/subscriptions.csv\n"  # where one's own rows lie, only their owner knows
    assert (mine / ".gitignore").read_text() + own_files == (made / ".gitignore").read_text()
    with pytest.raises(UserError, match="holds a project already"):
        create(mine, csv=None, time=None, label=None, key=())
