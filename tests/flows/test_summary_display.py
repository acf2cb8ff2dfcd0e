"""What a run says at its end reads well on a screen of 80 columns."""

from __future__ import annotations

import io
import re
from datetime import UTC, datetime
from pathlib import Path

from driving import summary_of

from flows.evaluation_lines import next_steps
from flows.run_summary import IntervalSummary
from flows.summary_display import _scores, print_summary, score_rows, summary_rows
from refit.runtime import run_file
from refit.runtime.terminal import Terminal
from refit.schemas.gate_decision import GateCheck
from refit.schemas.measured import Measured
from refit.schemas.score_report import LoggedRows, RowTotals, ScoreReport


def test_every_metric_has_one_line_with_its_intervals_and_every_stage_one_column(project: Path) -> None:
    told = summary_of(project)
    assert told.confidence == run_file.params_of(project).evaluate.confidence
    coverage, width = Measured(value=0.893, lower=0.883, upper=0.902), Measured(value=214.6, lower=None, upper=None)
    told = told.model_copy(
        update={
            "evaluation": {**told.evaluation, "champion": told.evaluation["candidate"]},
            "confidence": 0.9,
            "intervals": IntervalSummary(level=0.9, coverage=coverage, width=width, winkler=width),
        }
    )
    console = Terminal(file=io.StringIO(), width=80)
    print_summary(told, console)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    number = r"\d\.\d{4} ± \d\.\d{4}"
    for metric in ("roc_auc", "log_loss", "brier"):
        assert [line for line in lines if re.fullmatch(rf"{metric} +{number} +{number} +{number} *", line)], lines
    assert any(line.startswith("Latency one row ") and "1,000 rows" in line for line in lines)
    assert any("there was no champion to compare with" in line for line in lines), "told too"
    assert "90 % intervals held 89.3 ± 1.0 % of the labels; mean width 214.6" in lines
    heads = next(line.split() for line in lines if line.startswith("stage "))
    states = next(line.split() for line in lines if line.startswith("ended "))
    assert heads == ["stage", *told.stages]
    assert states == ["ended", *["unchanged"] * 6]
    same = "Nothing has changed since the run that made this model"
    assert any(line.startswith(same) for line in lines)
    ran = {**told.stages, "evaluate": told.stages["evaluate"].model_copy(update={"state": "ran"})}
    console = Terminal(file=io.StringIO(), width=80)
    print_summary(told.model_copy(update={"stages": ran}), console)
    assert same not in console.file.getvalue()  # type: ignore[attr-defined]
    assert any(
        line.startswith("test window 2024-") and line.rstrip().endswith("± is the 90 % interval") for line in lines
    )


def test_test_rows_that_a_rule_kept_apart_are_not_called_a_window_of_time(project: Path) -> None:
    console = Terminal(file=io.StringIO(), width=80)
    summary = summary_of(project)
    print_summary(summary.model_copy(update={"split": "0.2 of the rows, seed 0"}), console)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    judged = f"{summary.windows.test.rows:,} test rows, kept apart by a rule: 0.2 of the rows, seed 0; ± is"
    assert judged in " ".join(shown.split())
    assert "test window" not in shown


def test_a_search_says_how_many_trials_were_given_up(project: Path) -> None:
    summary = summary_of(project)
    console = Terminal(file=io.StringIO(), width=80)
    print_summary(summary, console)
    assert "Search" not in console.file.getvalue()  # type: ignore[attr-defined]
    tuned = summary.learners[-1].model_copy(update={"name": "gru", "trials": 14, "pruned": 5, "search_seconds": 12.34})
    summary = summary.model_copy(update={"learners": (*summary.learners, tuned)})
    print_summary(summary, console)
    assert "Search gru 14 trials, 5 given up early, 12.3 s" in console.file.getvalue()  # type: ignore[attr-defined]
    assert ("search", "gru 14 trials, 5 given up early, 12.3 s") in summary_rows(summary)


def test_a_learner_that_cannot_be_chosen_is_named_with_the_reason(project: Path) -> None:
    summary = summary_of(project)
    assert "not chosen" not in dict(summary_rows(summary))
    own = summary.learners[-1].model_copy(update={"name": "own", "not_chosen": "name it: registry.trusted_types"})
    summary = summary.model_copy(update={"learners": (*summary.learners, own)})
    console = Terminal(file=io.StringIO(), width=80)
    print_summary(summary, console)
    assert "Not chosen own: name it: registry.trusted_types" in console.file.getvalue()  # type: ignore[attr-defined]
    assert ("not chosen", "own: name it: registry.trusted_types") in summary_rows(summary)


def test_rows_in_quarantine_come_with_the_command_that_says_why(project: Path) -> None:
    summary = summary_of(project)
    assert "refit quarantine list" not in dict(summary_rows(summary))["rows"]
    assert not summary.findings, "labels tell what this model is worth"
    until = f"; of rows before {summary.windows.test.end:%Y-%m-%d}"
    assert dict(summary_rows(summary))["labels"].endswith(until), "newer rows are in no window yet"
    assert until not in dict(summary_rows(summary.model_copy(update={"split": "by a rule"})))["labels"]
    nothing = Measured(value=None, lower=None, upper=None)
    assert "error reduction" not in dict(summary_rows(summary.model_copy(update={"error_reduction": nothing})))
    rows = summary.rows.model_copy(update={"quarantined": 4})
    shown = dict(summary_rows(summary.model_copy(update={"rows": rows})))["rows"]
    assert "4 quarantined" in shown
    assert shown.endswith("; why: refit quarantine list")


def test_a_feature_that_may_give_the_label_away_is_named_next_to_the_decision(project: Path) -> None:
    summary = summary_of(project)
    assert not summary.leaks
    suspected = summary.model_copy(update={"leaks": ("refund alone tells 100.0% of the labels right",)})
    console = Terminal(file=io.StringIO(), width=100)
    print_summary(suspected, console)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "Leak? refund alone tells 100.0% of the labels right\n" in shown
    assert shown.index("featurize.exclude") < shown.index("Gate (")
    assert ("leak?", suspected.leaks[0]) in summary_rows(suspected)


def test_who_scores_to_parquet_is_told_how_a_spreadsheet_opens_it() -> None:
    report = ScoreReport(
        model="toy",
        version="1",
        as_of=datetime(2024, 1, 1, tzinfo=UTC),
        snapshot="c0ffee",
        rows=RowTotals(read=2, scored=2, quarantined=0, left_out=0),
        logged=LoggedRows(new=2, known=0),
        threshold=None,
        mean_prediction=0.5,
        called=None,
        intervals=None,
        out="reports/scores/new.parquet",
        quarantine=None,
        notes=(),
        seconds=0.1,
    )
    assert dict(score_rows(report))["as CSV"].startswith("`--out predictions.csv`")
    assert "as CSV" not in dict(score_rows(report.model_copy(update={"out": "predictions.csv"})))


def test_an_interval_that_the_metrics_range_cuts_off_is_shown_by_its_longer_side() -> None:
    console = Terminal(file=io.StringIO(), width=80)
    console.print(_scores({"candidate": {"roc_auc": Measured(value=0.99, lower=0.95, upper=1.0)}}))
    assert "0.9900 ± 0.0400" in console.file.getvalue()  # type: ignore[attr-defined]


def test_a_metric_that_the_rows_cannot_show_takes_no_line() -> None:
    console = Terminal(file=io.StringIO(), width=80)
    console.print(
        _scores(
            {
                "candidate": {
                    "log_volume": Measured(value=8.65, lower=8.1, upper=9.2),
                    "roc_auc": Measured(value=None, lower=None, upper=None),
                }
            }
        )
    )
    assert "log_volume" in console.file.getvalue()  # type: ignore[attr-defined]
    assert "roc_auc" not in console.file.getvalue()  # type: ignore[attr-defined]


def test_no_command_is_named_that_spends_another_look_at_the_same_rows(project: Path) -> None:
    summary = summary_of(project)
    assert summary.decision.promote
    assert next_steps(summary).startswith("refit show · refit ui · refit drift")
    waits = summary.model_copy(update={"model": summary.model.model_copy(update={"awaits_approval": True})})
    assert f"refit approve {summary.model.version}" in next_steps(waits)
    for each in (summary, waits):
        assert "refit run" not in next_steps(each)
    refused = summary.model_copy(update={"decision": summary.decision.model_copy(update={"promote": False})})
    assert next_steps(refused).startswith(f"refit explain {summary.model.version} · refit ui; more rows or a larger ")
    assert "featurize.windows.test" in next_steps(refused)
    assert "featurize.split.test" in next_steps(refused.model_copy(update={"split": "0.2 of the rows, seed 0"}))
    console = Terminal(file=io.StringIO(), width=80)
    print_summary(refused, console)
    assert "train.seed" not in console.file.getvalue()  # type: ignore[attr-defined]


def test_the_advice_after_a_refusal_is_about_the_check_that_failed(project: Path) -> None:
    summary = summary_of(project)

    def advice(*failed: str, upper: float = 0.02) -> str:
        checks = [GateCheck(name=name, passed=False, sentence=name) for name in failed]
        gain = summary.decision.compared[0].model_copy(
            update={"passed": False, "upper": upper, "lower": -0.05, "must_exceed": -0.01}
        )
        update = {"promote": False, "checks": (*summary.decision.checks, *checks), "compared": (gain,)}
        return next_steps(summary.model_copy(update={"decision": summary.decision.model_copy(update=update)}))

    assert "more rows or a larger featurize.windows.test" in advice("gain over champion")
    assert "more rows or a larger featurize.windows.test" in advice("rows", "clusters")
    for same in ("change", "different"):
        assert "it brings no change" in advice(same, "gain over champion")
        assert "larger" not in advice(same, "gain over champion")
    for shown in (advice("gain over champion", upper=-0.02), advice("floor: roc_auc"), advice("behaviour: refunds")):
        assert "can make a better candidate" in shown
        assert "larger" not in shown
    assert advice("unseen").endswith("refit ui"), "its sentence says all"
