"""A trial of a new project with the code of its runs, so that an accepted project runs."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from refit.config import Params, parse
from refit.errors import UserError
from refit.files import artifacts
from refit.files.yaml_files import YamlTree
from refit.runtime.context import Context
from refit.schemas.feature_table import Giveaway
from refit.schemas.snapshot import Snapshot, SnapshotBatch


@dataclass(frozen=True)
class UnreadCells:
    """Cells of a column that do not fit its type, so that a run puts their rows into quarantine."""

    column: str  # empty where the whole line is no row
    reason: str
    example: str  # a value, empty if it is missing
    count: int


@dataclass(frozen=True)
class FirstLook:
    """What a first run would find."""

    params: YamlTree
    label_leaks: tuple[Giveaway, ...]
    unread: tuple[UnreadCells, ...]


def look(project: Path, params: YamlTree, table: str) -> FirstLook:
    """Ingest, validate and label the rows; return params that fit them, and what is wrong with columns.

    A small batch may have a larger share of bad rows than validation allows, although the whole table has not.

    Raises:
        UserError: a stage refuses the table `table`; the message is the stage's.
    """
    from tasks import featurize, ingest, validate

    try:
        ingest.run(Context(project, parse(params)))
        batches = Snapshot.read(project / artifacts.SNAPSHOT).batches
        fitting = _with_share(project, params, parse(params), batches)
        context = Context(project, parse(fitting))
        validate.run(context)
        return FirstLook(fitting, tuple(featurize.rehearse(context)), tuple(_unread(project, batches)))
    except UserError as error:
        raise UserError(f"{table} would be refused by a first run: {error}") from None


def _with_share(project: Path, params: YamlTree, parsed: Params, batches: Sequence[SnapshotBatch]) -> YamlTree:
    """Return the params with the allowed share of quarantined rows raised to that of the worst batch.

    Raises:
        UserError: the whole table has too many rows that cannot be read.
    """
    most = parsed.validate_.max_quarantined_share
    bad, read = sum(batch.uncast for batch in batches), sum(batch.rows_read for batch in batches)
    if bad > most * read:
        line = next(_first_fault(project / batch.uncast_path) for batch in batches if batch.uncast_path)
        raise UserError(f"{bad:,} of {read:,} rows cannot be read, at most {most:.0%} may be; {line}; correct the file")
    worst = max((batch.uncast / batch.rows_read for batch in batches if batch.rows_read), default=0.0)
    if worst <= most:
        return params
    return {**params, "validate": {**params["validate"], "max_quarantined_share": math.ceil(worst * 100) / 100}}


def _first_fault(path: Path) -> str:
    import pyarrow.parquet as pq

    fault = pq.read_table(path).slice(0, 1).to_pylist()[0]
    where = f"column {fault['column']}: {fault['value']!r} " if fault["column"] else ""
    return f"the first in line {fault['_row']}: {where}{fault['reason']}"


def _unread(project: Path, batches: Sequence[SnapshotBatch]) -> Iterator[UnreadCells]:
    """Count the cells that cannot be read by column and reason; the example is the first one."""
    import pyarrow.parquet as pq

    counts = Counter[tuple[str, str]]()
    examples = dict[tuple[str, str], str]()
    for batch in batches:
        if batch.uncast_path is None:
            continue
        for fault in pq.read_table(project / batch.uncast_path, columns=["column", "value", "reason"]).to_pylist():
            where = (fault["column"] or "", fault["reason"])
            counts[where] += 1
            examples.setdefault(where, fault["value"] or "")
    for (column, reason), count in counts.items():
        yield UnreadCells(column, reason, examples[column, reason], count)
