"""A missing dependency of a stage is told with what brings it, in the project and in a clone of it."""

from __future__ import annotations

from pathlib import Path

from refit.runtime.stage_faults import fault_of_dvc


def test_a_missing_file_that_dvc_keeps_is_pulled_and_another_is_added_where_it_is(tmp_path: Path) -> None:
    error = FileNotFoundError(2, "No such file or directory", str(tmp_path / "raw"))
    said = str(fault_of_dvc(error, "ingest"))
    assert "`dvc add raw` and `dvc push` where it is" in said
    (tmp_path / "raw.dvc").write_text("outs: []\n")
    said = str(fault_of_dvc(error, "ingest"))
    assert said.endswith("raw does not exist; raw.dvc says that DVC keeps it: `dvc pull` brings it from DVC's remote")
