"""Scoring with the champion: every row answered for, every prediction the one that the gate saw, logged once."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

import refit
from refit.config import ResourcesParams, parse
from refit.errors import RefitError, UserError
from refit.models import export
from refit.runtime import dvc_runner, registry_store, run_file
from refit.runtime.context import Context
from refit.schemas.score_report import LoggedRows, RowTotals
from refit.storage import prediction_log, quarantine
from registry.client import client
from tasks import score
from tasks.featurize import parts
from tasks.score.input_rows import read_rows

HEADER = "subscription,renewal,plan,country,tenure_months,monthly_price,support_calls,logins"


def context(project: Path) -> Context:
    return Context(
        project=project, params=run_file.params_of(project), now=lambda: datetime(2026, 1, 1, 12, tzinfo=UTC)
    )


def write(path: Path, *rows: str, header: str = HEADER) -> Path:
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def test_window_of_the_gate_scored_again_gives_the_predictions_that_the_gate_saw(project: Path) -> None:
    judged = pq.read_table(project / "reports/predictions.parquet")
    ours: dict[str, float] = {}
    for month in sorted({f"{moment:%Y-%m}" for moment in judged["event_time"].to_pylist()}):
        told = score.run(context(project), month)
        scored = pq.read_table(told.out)
        of_month = dict(zip(scored["subscription"].to_pylist(), scored["prediction"].to_pylist(), strict=True))
        assert told.rows == RowTotals(read=len(of_month), scored=len(of_month), quarantined=0, left_out=0)
        assert set(scored["model_version"].to_pylist()) == {"1"}
        assert set(scored["snapshot"].to_pylist()) == {told.snapshot}
        ours |= of_month
    seen = dict(zip(judged["subscription"].to_pylist(), judged["candidate"].to_pylist(), strict=True))
    assert ours == pytest.approx(seen, abs=1e-12)


@pytest.mark.slow
def test_rows_whose_features_several_workers_compute_are_scored_as_by_one(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "FEWEST", 10)
    one = context(project)
    two = replace(one, params=one.params.model_copy(update={"resources": ResourcesParams(workers=2)}))
    outs = [pq.read_table(score.run(each, "2024-05", out=project / "out.parquet").out) for each in (one, two)]
    assert outs[0].num_rows >= 20, "or one worker computed them"
    assert outs[0].equals(outs[1])


def test_row_is_logged_once_for_a_version_and_keeps_its_first_prediction(project: Path) -> None:
    first = score.run(context(project), "2024-05")
    again = score.run(context(project), "2024-05")
    assert first.logged == LoggedRows(new=first.rows.scored, known=0)
    assert again.logged == LoggedRows(new=0, known=first.rows.scored)
    files = sorted((project / prediction_log.LOG).glob("day=*/v1-*.parquet"))
    rows = pa.concat_tables([pq.read_table(path) for path in files])
    assert rows.num_rows == len(set(rows["_key"].to_pylist())) == first.rows.scored
    day = files[0].parent.name.removeprefix("day=")
    assert {f"{time:%Y-%m-%d}" for time in pq.read_table(files[0])["_event_time"].to_pylist()} == {day}
    assert {"plan", "logins"} <= set(rows.column_names)


def test_damaged_file_of_the_log_is_named_and_nothing_is_written_over_it(project: Path) -> None:
    score.run(context(project), "2024-05")
    damaged = sorted((project / prediction_log.LOG).glob("day=*/v1-*.parquet"))[0]
    damaged.write_bytes(damaged.read_bytes()[:100])
    with pytest.raises(RefitError, match=rf"{damaged} is damaged.*; put it back from a copy, or move it away"):
        score.run(context(project), "2024-05")
    damaged.rename(project / "moved.parquet")
    again = score.run(context(project), "2024-05").logged
    assert again.new > 0, "the rows of the file that was moved away are logged again"
    assert again.known > again.new


def test_key_is_logged_once_for_a_version_even_if_its_time_has_moved(project: Path, tmp_path: Path) -> None:
    for name, day, new in (("a", "2026-02-01", 1), ("b", "2026-03-05", 0)):
        file = write(tmp_path / f"{name}.csv", f"N1,{day},basic,FR,26,9.89,0,0")
        assert score.run(context(project), str(file)).logged.new == new


def test_every_row_of_a_file_is_scored_or_quarantined_with_a_reason(project: Path, tmp_path: Path) -> None:
    file = write(
        tmp_path / "new.csv",
        "N1,2026-02-01,basic,FR,26,9.89,0,0",
        "N2,2026-02-02,never seen before,,,,,",
        "N3,2026-02-03,basic,FR,many,9.89,0,0",
        "N4,2026-02-04,basic,FR,1,9.89,0,0",
        "N4,2026-02-04,basic,FR,2,9.89,0,0",
        "N5,,basic,FR,2,9.89,0,0",
        "N1,2026-02-01,basic,FR,26,9.89,0,0",
    )
    told = score.run(context(project), str(file), out=tmp_path / "scores.csv")
    assert told.rows == RowTotals(read=7, scored=2, quarantined=5, left_out=0)
    scores = pyarrow.csv.read_csv(tmp_path / "scores.csv")
    assert scores["subscription"].to_pylist() == ["N1", "N2"]
    assert scores["line"].to_pylist() == [2, 3]
    refused = {refusal.row: refusal.reason for refusal in quarantine.read(Path(told.quarantine or ""))}
    assert sorted(refused) == [4, 5, 6, 7, 8]
    assert refused[4] == "is no integer"
    assert refused[7] == "has no event time"
    assert "repeats another row" in refused[8]
    as_csv = pyarrow.csv.read_csv(tmp_path / "scores.quarantined.csv")
    assert dict(zip(as_csv["_row"].to_pylist(), as_csv["reason"].to_pylist(), strict=True)) == refused
    assert told.notes == (
        "new.csv has no column churned: taken as missing",
        "the first refused row, line 4: tenure_months is no integer, such as 'many'",
    )


def test_label_that_a_file_brings_along_changes_no_prediction(project: Path, tmp_path: Path) -> None:
    row = "N1,2026-02-01,basic,FR,26,9.89,0,0"
    predictions = []
    for name, label in (("a", "yes"), ("b", "no")):
        file = write(tmp_path / f"{name}.csv", f"{row},{label}", header=f"{HEADER},churned")
        told = score.run(context(project), str(file), out=tmp_path / f"{name}.parquet")
        predictions.append(pq.read_table(told.out)["prediction"].to_pylist())
    assert predictions[0] == predictions[1]


@pytest.mark.parametrize("label", ["?", "", "0.5", "perhaps"])
def test_whatever_a_file_has_as_label_refuses_no_row(project: Path, tmp_path: Path, label: str) -> None:
    """It stands for what is not known yet, and need not be of the label's type."""
    file = write(tmp_path / "new.csv", f"N1,2026-02-01,basic,FR,26,9.89,0,0,{label}", header=f"{HEADER},churned")
    told = score.run(context(project), str(file), out=tmp_path / "new.parquet")
    assert (told.rows.scored, told.rows.quarantined) == (1, 0)


@pytest.mark.parametrize(("column", "refused"), [("churned", 0), ("plan", 1)])
def test_a_suite_judges_no_label_and_every_column_that_features_use(
    project: Path, tmp_path: Path, column: str, refused: int
) -> None:
    changed = run_file.params_of(project).model_dump(by_alias=True)
    source = changed["ingest"]["sources"]["table"]
    source["columns"]["churned"] = "text"
    source["required"] = [*source["required"], "churned"]
    check = {"expect_column_values_to_be_in_set": {"column": column, "value_set": ["none of these"]}}
    changed["validate"]["suites"] = {"table": [check]}
    file = write(tmp_path / "new.csv", "N1,2026-02-01,basic,FR,26,9.89,0,0,maybe", header=f"{HEADER},churned")
    found = read_rows(Context(project, parse(changed)), "table", file)
    assert (found.rows.num_rows, found.refused) == (1 - refused, refused)


def test_scoring_leaves_the_pipeline_unchanged(project: Path) -> None:
    settings = (project / "run.yaml").read_bytes()
    score.run(context(project), "2024-05")
    assert dvc_runner.stale(project) == {}
    assert (project / "run.yaml").read_bytes() == settings


@pytest.mark.parametrize(
    ("rows", "as_of", "said"),
    [
        ("2031-01", "now", r"'2031-01' is no file, and table has no such batch.*a batch \(20"),
        ("missing.csv", "now", "missing.csv: no such file, here or in "),
        ("next 24h", "now", "no row of 'cases' happens in the next 24h after 2026-01-01 12:00"),
        ("2024-05", "soon", "as_of 'soon' is no time"),
        ("2024-05", "2024-01-10", r"batch 2024-05 of table is not known by 2024-01-10"),
    ],
)
def test_rows_that_are_not_there_are_one_clear_line(project: Path, rows: str, as_of: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        score.run(context(project), rows, as_of=as_of)


@pytest.mark.parametrize(
    ("header", "row", "said"),
    [
        (HEADER.replace("subscription", "subscriber"), "N1,2026-02-01,basic,FR,26,9.89,0,0", "'subscription'.*missing"),
        (HEADER + ",extra", "N1,2026-02-01,basic,FR,26,9.89,0,0,1", "column 'extra' is not declared"),
        (
            HEADER.replace("tenure_months", "tenure_month"),
            "N1,2026-02-01,basic,FR,26,9.89,0,0",
            r"column 'tenure_months' \(near 'tenure_month'\) is missing, and column 'tenure_month' .*not declared",
        ),
    ],
)
def test_file_with_other_columns_is_refused(project: Path, tmp_path: Path, header: str, row: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        score.run(context(project), str(write(tmp_path / "new.csv", row, header=header)))


@pytest.mark.parametrize(
    ("encoding", "said"),
    [("latin-1", "new.csv line 2 is not UTF-8"), ("utf-16", "new.csv is UTF-16 text; save it as UTF-8")],
)
def test_file_that_is_not_utf_8_is_one_clear_line(project: Path, tmp_path: Path, encoding: str, said: str) -> None:
    file = tmp_path / "new.csv"
    file.write_text(f"{HEADER}\nN1,2026-02-01,d\u00e9luxe,FR,26,9.89,0,0\n", encoding=encoding)
    with pytest.raises(UserError, match=said):
        score.run(context(project), str(file))


def test_file_of_which_no_row_can_be_scored_is_quarantined_whole(project: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "new.csv", "N1,soon,basic,FR,26,9.89,0,0", ",2026-02-01,basic,FR,26,9.89,0,0")
    told = score.run(context(project), str(file))
    assert told.rows == RowTotals(read=2, scored=0, quarantined=2, left_out=0)
    assert {refusal.row for refusal in quarantine.read(Path(told.quarantine or ""))} == {2, 3}
    assert pq.read_table(told.out).num_rows == 0


def test_scores_are_written_as_parquet_or_csv_only(project: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"written as .parquet or .csv"):
        score.run(context(project), "2024-05", out=tmp_path / "scores.xlsx")


def test_a_missing_champion_is_said(project: Path) -> None:
    for name in ("mlflow.db", "ledger.db"):
        (project / ".refit" / name).unlink()
    with pytest.raises(UserError, match="no version of demo is champion yet; `refit run`"):
        score.run(context(project), "2024-05")


@pytest.mark.slow
def test_a_champion_whose_alias_was_set_outside_of_refit_is_used_with_a_warning(project: Path, tmp_path: Path) -> None:
    told: list[str] = []
    asking = replace(context(project), progress=lambda what, *_: told.append(what))
    mlflow = client(registry_store.store_of(project, asking.params))
    first = mlflow.get_model_version("demo", "1")
    mlflow.create_model_version("demo", first.source, first.run_id, tags=first.tags)
    mlflow.set_registered_model_alias("demo", "champion", "2")
    warning = "version 2 of demo has the alias champion, but by the ledger version 1 is champion"
    report = score.run(asking, "2024-05")
    assert report.version == "2"
    assert warning in report.notes[0]
    assert any(f"warning: {warning}" in line for line in told)
    told.clear()
    export.export(asking, None, tmp_path / "exported")
    assert any(warning in line for line in told)
    with pytest.warns(UserWarning, match=warning):
        refit.load(project)
    mlflow.set_registered_model_alias("demo", "champion", "1")
    assert not any(warning in note for note in score.run(asking, "2024-05").notes)


@pytest.mark.ci
def test_a_log_file_with_any_bit_flipped_is_noticed_by_who_scores_and_by_who_watches(project: Path) -> None:
    score.run(context(project), "2024-05")
    path = sorted((project / prediction_log.LOG).glob("day=*/v1-*.parquet"))[0]
    whole = path.read_bytes()
    for place in range(0, len(whole), len(whole) // 30):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        for read in (
            prediction_log.keys_in,
            prediction_log.checked,
            lambda path: prediction_log.relation(duckdb.connect(), [path], "logged"),
        ):
            with pytest.raises(RefitError, match=rf"{path} is damaged or cannot be read"):
                read(path)
    path.write_bytes(whole)
    assert len(prediction_log.keys_in(path)) == pq.read_metadata(path).num_rows


def test_a_log_file_of_an_older_refit_is_still_read(project: Path) -> None:
    first = score.run(context(project), "2024-05")
    for path in (project / prediction_log.LOG).glob("day=*/v1-*.parquet"):
        path.rename(path.with_name("v1-0123456789abcdef.parquet"))
    assert score.run(context(project), "2024-05").logged == LoggedRows(new=0, known=first.rows.scored)
