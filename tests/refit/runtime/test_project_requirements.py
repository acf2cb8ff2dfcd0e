"""A project's own packages: read from its files, recorded with a model, compared where it is loaded."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import pytest

from refit.errors import RefitError, UserError
from refit.runtime.project_requirements import RECORD, check_recorded, installed, unchecked

DUCKDB = f"duckdb=={metadata.version('duckdb')}"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("requirements.txt", "# ours\n--index-url https://example.org\n-r more.txt\n\nDuckDB>=1  # a database\n"),
        (
            "requirements.txt",
            f"{DUCKDB} \\\n    --hash=sha256:{'0' * 64} \\\n    --hash=sha256:{'1' * 64}\n    # via own.in\n",
        ),
        ("requirements.txt", "duckdb @ https://example.org/duckdb-9.whl\n"),
        (
            "requirements.txt",
            "\ufeffgit+https://example.org/own@v1#egg=own\nduckdb\n./own.whl\nown-1-py3-none-any.whl\n",
        ),
        ("requirements.txt", "duckdb\nno-such-package; python_version < '3'\n"),
        ("pyproject.toml", '[project]\nname = "churn"\ndependencies = ["duckdb>=1"]\n'),
    ],
)
def test_the_installed_releases_of_what_a_project_asks_for_are_recorded(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    assert [line.lower() for line in installed(tmp_path)] == [DUCKDB]


def test_lines_that_name_no_package_are_passed_over_with_one_line_that_shows_no_password(tmp_path: Path) -> None:
    assert unchecked(tmp_path) is None
    file = tmp_path / "requirements.txt"
    file.write_text("--index-url https://a.org/b\nduckdb @ https://a.org/c.whl\nduckdb>=1; python_version > '3.0'\n")
    assert unchecked(tmp_path) is None
    file.write_text("duckdb\n-r more.txt\n# a comment\ngit+https://user:secret@a.org/own@v1\n-e .\n")
    assert (unchecked(tmp_path) or "").startswith(
        "requirements.txt: line 2 (-r more.txt), line 4 (git+https://a.org/own@v1), line 5 (-e .): no package is named"
    )


def test_a_file_that_powershell_wrote_is_read(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("duckdb\r\n", encoding="utf-16")
    assert [line.lower() for line in installed(tmp_path)] == [DUCKDB]


def test_a_project_without_requirements_and_refit_itself_record_nothing(root: Path, tmp_path: Path) -> None:
    assert installed(tmp_path) == []
    assert installed(root) == []


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("no-such-package>=2", "line 1, asks for no-such-package>=2, which is not installed; .*pip install"),
        ("duckdb>=99", f"asks for duckdb>=99, which is {metadata.version('duckdb')} here"),
        ("duckdb >< 1", "line 1, 'duckdb >< 1': .*; a requirement such as"),
    ],
)
def test_a_requirement_that_is_not_met_is_an_error_before_a_run(line: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text(line + "\n")
    with pytest.raises(UserError, match=words):
        installed(tmp_path)


def recorded(folder: Path, *lines: str) -> Path:
    (folder / "provenance").mkdir()
    (folder / "provenance" / RECORD).write_text("\n".join(lines) + "\n")
    return folder


def test_code_of_a_project_is_not_loaded_without_a_package_that_it_was_trained_with(tmp_path: Path) -> None:
    stored = recorded(tmp_path, "no-such-package==2.0", DUCKDB)
    (line,) = check_recorded(stored, "version 3 of churn")  # a model without code needs none: jupyter, pytest
    assert line.startswith("version 3 of churn was trained with no-such-package 2.0 (not installed here): its pred")
    (stored / "model").mkdir()
    (stored / "model/own.py").write_text("import no_such_package\n")
    with pytest.raises(RefitError, match=r"version 3 of churn was trained with no-such-package==2.0 .*not installed"):
        check_recorded(stored, "version 3 of churn")


def test_another_release_is_reported_in_one_line_and_the_same_one_is_not(tmp_path: Path) -> None:
    (line,) = check_recorded(recorded(tmp_path, "pydantic==1.0", DUCKDB), "version 3 of churn")
    assert line.startswith("version 3 of churn was trained with pydantic 1.0 (here ")
    assert "duckdb" not in line


def test_a_model_that_recorded_no_packages_loads_as_ever(tmp_path: Path) -> None:
    assert check_recorded(tmp_path, "version 1 of churn") == []
