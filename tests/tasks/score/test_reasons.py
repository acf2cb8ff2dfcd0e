"""Why a row is predicted what it is: the logged row, one of the sources, or a file; what is told adds up."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from refit.cli.explain import explain_row
from refit.cli.registry_commands import explain
from refit.errors import UserError
from refit.runtime import run_file
from refit.runtime.context import Context
from refit.schemas.explanations import ExplainedRow
from tasks import score
from tasks.score import reasons

HEADER = "subscription,renewal,plan,country,tenure_months,monthly_price,support_calls,logins"


def context(project: Path) -> Context:
    return Context(
        project=project, params=run_file.params_of(project), now=lambda: datetime(2026, 1, 1, 12, tzinfo=UTC)
    )


def assert_it_adds_up(row: ExplainedRow) -> None:
    total = row.base + sum(each.adds for each in row.features)
    assert row.total == pytest.approx(total)
    meant = 1 / (1 + math.exp(-total)) if row.log_odds else total
    assert row.prediction == pytest.approx(meant, abs=1e-6)
    sizes = [abs(each.adds) for each in row.features]
    assert sizes == sorted(sizes, reverse=True)


def test_a_row_is_explained_as_it_was_scored_or_as_the_sources_have_it(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    judged = pq.read_table(project / "reports/predictions.parquet")
    key, seen = judged["subscription"][0].as_py(), judged["candidate"][0].as_py()
    of_sources = reasons.run(context(project), key)
    score.run(context(project), f"{judged['event_time'][0].as_py():%Y-%m}")
    of_log = explain_row(project, key, out=project / "why.png", wait_seconds=0, quiet=False)
    assert (of_sources.source, of_log.source) == ("as the sources have it", "as it was scored")
    assert of_sources.rows == of_log.rows
    (row,) = of_log.rows
    assert row.prediction == pytest.approx(seen, abs=1e-12)
    assert_it_adds_up(row)
    printed = capsys.readouterr().out
    assert key in printed
    assert row.features[0].name in printed
    assert (project / "why.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_rows_of_a_file_are_explained_up_to_a_limit(project: Path, tmp_path: Path) -> None:
    rows = [f"N{n},2026-02-01,basic,FR,{n},9.89,0,0" for n in range(reasons.MOST_ROWS + 3)]
    file = tmp_path / "new.csv"
    file.write_text("\n".join([HEADER, *rows]) + "\n")
    told = reasons.run(context(project), str(file))
    assert (len(told.rows), told.not_shown) == (reasons.MOST_ROWS, 3)
    for row in told.rows:
        assert_it_adds_up(row)


def test_rows_of_a_file_that_are_refused_are_counted_and_the_first_is_named(project: Path, tmp_path: Path) -> None:
    file = tmp_path / "new.csv"
    rows = [f"N{n},2026-02-01,basic,FR,26,{price},0,0" for n, price in enumerate(("9.89", "dear", "9.99"))]
    file.write_text("\n".join([HEADER, *rows]) + "\n")
    told = reasons.run(context(project), str(file))
    assert [row.key for row in told.rows] == ["N0", "N2"]
    assert told.source.startswith("rows of new.csv (1 of 3 refused; the first, line 3: ")


def test_what_cannot_be_explained_is_one_clear_line(project: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no row of 'cases' has this subscription, .* such as 'S\d+', one of"):
        reasons.run(context(project), "nobody's")
    file = tmp_path / "new.csv"
    file.write_text(f"{HEADER}\nN1,soon,basic,FR,26,9.89,0,0\n")
    with pytest.raises(UserError, match="none of its 1 rows can be scored"):
        reasons.run(context(project), str(file))
    with pytest.raises(UserError, match=r"written as \.png"):
        explain_row(project, "N1", out=tmp_path / "why.pdf", wait_seconds=0, quiet=True)
    for version, row in ((None, None), ("1", "N1")):
        with pytest.raises(UserError, match=r"`refit explain VERSION` says why .* `refit explain --row KEY`"):
            explain(version, row, None, project)
