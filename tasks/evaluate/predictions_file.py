"""Writes `predictions.parquet`: what each model and each naive opponent predicts of the test rows."""

from __future__ import annotations

from pathlib import Path

from refit.config.section import free
from refit.evaluation import opponents
from refit.evaluation.holdout import Holdout
from refit.evaluation.scored import Scored
from refit.files import artifacts
from refit.problems.contract import aligned, as_column


def write(path: Path, key: str, classes: tuple[str, ...], test: Holdout, scored: Scored) -> None:
    """Write the predictions of the test rows.

    Args:
        key: the column of the rows' keys.
        classes: those of the candidate, in the order in which it predicts them.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    p = {role: test.problem.reported(judged) for role, judged in scored.p.items()}
    key_column = free(key, artifacts.JUDGED)
    columns = {
        key_column: test.table.column(key),
        "event_time": test.table.column("event_time"),
        "label": test.table.column("label"),
        "candidate": as_column(aligned(p["candidate"], test.problem.classes, classes)),
        "baseline": as_column(p["baseline"]),
        "champion": as_column(p["champion"]) if "champion" in p else pa.nulls(test.rows, pa.float64()),
    }
    if scored.bands:
        columns |= {"low": scored.bands.reported[:, 0], "high": scored.bands.reported[:, 1]}
    for name, guess in opponents.predictions(test.problem, test.table, scored.opponents).items():
        columns[free(f"opponent_{name}", [key_column])] = as_column(test.problem.reported(guess))
    with artifacts.atomic(path) as scratch:
        pq.write_table(pa.table(columns), scratch, compression="zstd", write_page_checksum=True)
