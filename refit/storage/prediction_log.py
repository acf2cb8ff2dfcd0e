"""The append-only prediction log: every scored row, once for each model version, in one folder per day.

It lies in the checkout; where the ledger is in a database that many machines share, so is the log, and the checkout has
a copy of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from feature_store.compile import OWN, own
from feature_store.sql_text import literal, quote
from refit.config.windows import local_days
from refit.errors import RefitError, first_line
from refit.files.artifacts import PREDICTIONS, atomic, sha256
from refit.runtime.context import Context
from refit.runtime.registry_store import opened
from refit.storage.shared_log import SEALED, SharedLog, day_named

if TYPE_CHECKING:
    import pyarrow as pa
    from duckdb import DuckDBPyConnection

LOG = PREDICTIONS
# Columns in addition to the features; the underscore distinguishes them.
KEY, EVENT_TIME, PREDICTION_TIME, PREDICTION = "_key", "_event_time", "_prediction_time", "_prediction"
VERSION, DIGEST, SNAPSHOT, AS_OF, PREDICTED_AT = "_version", "_model_digest", "_snapshot", "_as_of", "_predicted_at"
DAY = "_day"  # column for the day of the folder, when the log is read
META = (KEY, EVENT_TIME, PREDICTION_TIME, PREDICTION, VERSION, DIGEST, SNAPSHOT, AS_OF, PREDICTED_AT)


def append(context: Context, version: str, rows: pa.Table) -> int:
    """Log the rows that this version has not predicted before. Returns their number.

    A row keeps its first prediction, which is the one evaluated later. The caller holds the project's lock.
    """
    with opened(context) as store:
        if (shared := SharedLog.of(context, store)) is None:
            return _append(context, version, rows)
        run = shared.run()
        with shared.writing() as check:
            return _append(context, version, rows, lambda name, file, count: shared.add(run, name, file, count, check))


def _append(
    context: Context, version: str, rows: pa.Table, share: Callable[[str, Path, int], None] | None = None
) -> int:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    seen = keys(context, version)[KEY]
    rows = rows.filter(pc.invert(pc.is_in(rows[KEY], value_set=seen.combine_chunks())))
    days = local_days(rows[EVENT_TIME], context.params.project.zone)
    new = 0
    for day in np.unique(days):
        part = rows.filter(days == day)
        content = pa.BufferOutputStream()
        pq.write_table(part, content, compression="zstd", write_page_checksum=True)
        whole = content.getvalue()
        name = f"day={day}/v{version}-{SEALED}{hashlib.sha256(whole).hexdigest()}.parquet"
        with atomic(context.path(LOG) / name) as scratch:
            scratch.write_bytes(whole)
            if share is not None:
                share(name, scratch, part.num_rows)
        new += part.num_rows
    return new


def adopt(context: Context, digests: Mapping[str, str]) -> int:
    """Log the rows of files in the checkout's folder that the shared log does not list. Returns their number.

    Args:
        digests: of the registered models, by version; rows that another model predicted under that number are left out.

    Raises:
        RefitError: a file cannot be read.
    """
    import pyarrow.parquet as pq

    with opened(context) as store:
        if (shared := SharedLog.of(context, store)) is None:
            return 0
        listed, new = set(shared.names()), 0
    for path in sorted(context.path(LOG).glob("day=*/v*.parquet")):
        version = path.name.removeprefix("v").partition("-")[0]
        if f"{path.parent.name}/{path.name}" in listed or version not in digests:
            continue
        rows = pq.read_table(checked(path))
        if set(rows[DIGEST].unique().to_pylist()) == {digests[version]}:
            new += append(context, version, rows)
    return new


def checked(path: Path) -> Path:
    """A file of the log, after checking its content against the digest in its name.

    Files of an older Refit have no digest in their names; in them only damaged pages are detected, by page checksums.

    Raises:
        RefitError: the file cannot be read, or was changed.
    """
    _, sealed, digest = path.stem.partition(f"-{SEALED}")
    try:
        whole = not sealed or sha256(path) == digest
    except OSError as error:
        raise _damaged(path, str(error.strerror)) from None
    if not whole:
        raise _damaged(path, "its content is not what its name says")
    return path


def files(context: Context, version: str, first: date, end: date) -> list[Path]:
    """The log's files of a version for local days from `first` up to, not including, `end`.

    Those of a shared log are copied to the checkout first, where it lacks them.
    """
    with opened(context) as store:
        if shared := SharedLog.of(context, store):
            return shared.fetch(version, first, end)
    paths = sorted(context.path(LOG).glob(f"day=*/v{version}-*.parquet"))
    return [path for path in paths if (day := day_named(path.parent.name)) and first <= day < end]


def keys(context: Context, version: str) -> pa.Table:
    """All keys that a version has predicted, as the column `_key`."""
    import pyarrow as pa

    paths = files(context, version, date.min, date.max)
    nothing = pa.table({KEY: pa.array([], pa.string())})
    return pa.concat_tables([nothing, *(keys_in(path) for path in paths)])


def relation(connection: DuckDBPyConnection, paths: Sequence[Path], name: str) -> str:
    """Create a view of log files with the local day of each row as `_day`; the connection must be able to read them."""
    listed = ", ".join(literal(str(checked(path))) for path in paths)
    connection.execute(
        f"create or replace view {quote(name)} as select * exclude ({own('file')}), "
        f"regexp_extract({own('file')}, 'day=([0-9-]+)[^0-9a-z-][^=]*$', 1)::date as {DAY} "
        f"from read_parquet([{listed}], hive_partitioning = false, filename = {literal(OWN + 'file')})"
    )
    return quote(name)


def keys_in(path: Path) -> pa.Table:
    """The keys in one file of the log.

    Raises:
        RefitError: it cannot be read.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_table(checked(path), columns=[KEY], page_checksum_verification=True)
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, first_line(error)) from None


def _damaged(path: Path, why: str) -> RefitError:
    return RefitError(
        f"{path} is damaged or cannot be read ({why}); put it back from a copy, or move it away: the log of a team "
        "is copied again; without one its rows are scored again, and what was predicted at first is lost"
    )
