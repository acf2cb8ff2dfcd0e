"""A missing dependency of a stage is told with what brings it, in the project and in a clone of it."""

from __future__ import annotations

from pathlib import Path

from refit.config import SourceParams
from refit.runtime.dvc_files import kept_elsewhere
from refit.runtime.stage_faults import fault_of_dvc
from refit.sources.absent_files import absence


def test_a_missing_file_that_dvc_keeps_is_pulled_and_another_is_added_where_it_is(tmp_path: Path) -> None:
    error = FileNotFoundError(2, "No such file or directory", str(tmp_path / "raw"))
    said = str(fault_of_dvc(error, "ingest"))
    assert "`dvc add raw` and `dvc push` where it is" in said
    (tmp_path / "raw.dvc").write_text("outs: []\n")
    (tmp_path / ".dvc").mkdir()
    kept = "raw.dvc says that DVC keeps it: `dvc pull` brings it from DVC's remote"
    none = f"{kept}; no remote is configured here: `dvc remote add -d NAME URL` first"
    assert str(fault_of_dvc(error, "ingest")).endswith(f"raw does not exist; {none}")
    assert kept_elsewhere(tmp_path / "raw/**/*.csv") == none
    (tmp_path / ".dvc/config").write_text("[core]\n    remote = shared\n")
    assert str(fault_of_dvc(error, "ingest")).endswith(f"raw does not exist; {kept}")


def test_a_source_whose_folder_dvc_keeps_says_so_for_a_pattern_too(tmp_path: Path) -> None:
    source = SourceParams.model_validate(
        {"kind": "files", "path": "raw/*.csv", "columns": {"id": "text"}, "key": ("id",)}
    )
    assert "raw/*.csv matches no file, looked in" in absence(tmp_path, source, "ingest.sources.table")
    (tmp_path / ".dvc").mkdir()
    (tmp_path / "raw.dvc").write_text("outs: []\n")
    said = absence(tmp_path, source, "ingest.sources.table")
    assert said.startswith("raw/*.csv matches no file; raw.dvc says that DVC keeps it: `dvc pull` brings it"), said
    assert "no remote is configured here" in said
    (tmp_path / "raw").mkdir()
    assert "no remote is configured here" in absence(tmp_path, source, "ingest.sources.table")
    (tmp_path / "raw/table.txt").touch()
    assert "looked in" in absence(tmp_path, source, "ingest.sources.table"), "the folder has been brought"
    (tmp_path / "raw/table.csv.dvc").touch()
    assert "table.csv.dvc" in absence(tmp_path, source, "t")
