"""Scores rows with the model in charge, by the definitions stored with it, and logs every prediction."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from feature_store.compile import quote
from refit.config import ForecastParams, nearest
from refit.config.section import free, row_column
from refit.errors import RefitError, UserError
from refit.files import artifacts, csv_cells
from refit.learners import Learner
from refit.problems.target import Floats, as_column, of_column
from refit.runtime.context import Context
from refit.storage import prediction_log, quarantine
from refit.storage.batches import Manifest, manifests, utc_moment, utc_text
from refit.storage.quarantine import Refusal
from tasks import featurize
from tasks.featurize.warehouse import Warehouse, open_warehouse, sql_time
from tasks.score.champion_model import Champion, in_charge
from tasks.score.data_as_of import NOW, known_at
from tasks.score.missing import NAMED, lost_zeros, new_horizons, newly_missing
from tasks.score.scored_intervals import Ranges, ranges

if TYPE_CHECKING:
    import pyarrow as pa

SCORES = artifacts.REPORTS / "scores"
SUFFIXES = (".parquet", ".csv")
NEWEST = "newest"
_UPCOMING = re.compile(r"next[ -]?([1-9][0-9]{0,3})([hdw])")
_UNITS = {"h": "hours", "d": "days", "w": "weeks"}


@dataclass(frozen=True)
class Given:
    """Rows to score as a relation of the warehouse, and what became of all that were asked for."""

    name: str  # a file name for what comes of them
    relation: str
    read: int
    refusals: tuple[Refusal, ...] = ()
    refused: int = 0
    notes: tuple[str, ...] = ()
    lines: Mapping[str, int] | None = None  # of a file: key -> line


def run(context: Context, rows: str, *, as_of: str = NOW, out: Path | None = None) -> dict[str, Any]:
    """Score `rows`, write them to `out`, log them, and say what became of each.

    Args:
        rows: a CSV or Parquet file in the layout of the source that is predicted, the name of a batch such as
            `2013-11`, `next 24h`: what happens within that time after `as_of` and is known by then, or `newest`: of
            each series the forecasts of its newest moment.
        as_of: nothing that became known later is used; each row is predicted at its own prediction time at the latest.
        out: where to write, as Parquet or `.csv`; none: `reports/scores/`.

    Raises:
        UserError: nobody is in charge, there is no such file, batch or row, or a row does not fit the declaration.
        RefitError: the model's files are not those that were registered, or it predicts what is no probability.
    """
    started = time.monotonic()
    if out and out.suffix not in SUFFIXES:
        raise UserError(f"{out}: predictions are written as .parquet or .csv; give --out such a name")
    if out and out.is_dir():
        raise UserError(f"{out} is a folder; --out names a file, such as {out / 'scores.csv'}")
    champion = in_charge(context)
    known = known_at(context, as_of)
    with open_warehouse(context.project, known, context.params) as warehouse:
        given = _given(context, warehouse, champion, rows, known)
        context.progress("features")
        features = featurize.features_of(warehouse, champion.definitions, given.relation, context.params)
        found = ranges(context, warehouse, champion, features, given.relation)
        asked = _forecast_of(context, warehouse, champion, given.relation, features[champion.key])
    context.progress(f"scoring {features.num_rows:,} rows")
    table = predicted(champion, features, known, context.now())
    target = out or context.path(SCORES / f"{given.name}-v{champion.version.version}.parquet")
    logged = prediction_log.append(context, champion.version.version, table)
    _write(target, _shown(champion, table, given.lines, found, asked))
    refused = _write_refusals(target, given)
    scored = table.num_rows
    return {
        "model": champion.version.model,
        "version": champion.version.version,
        "as_of": known["as_of"],
        "snapshot": known["snapshot"],
        "rows": {
            "read": given.read,
            "scored": scored,
            "quarantined": given.refused,
            "left_out": given.read - given.refused - scored,
        },
        "logged": {"new": logged, "known": scored - logged},
        **_told(champion.learner, of_column(table[prediction_log.PREDICTION])),
        "intervals": found.told() if found else None,
        "out": str(target),
        "quarantine": str(refused) if refused else None,
        "notes": [
            *given.notes,
            *newly_missing(champion, features),
            *lost_zeros(champion, features),
            *new_horizons(champion, features),
        ],
        "seconds": round(time.monotonic() - started, 3),
    }


def between(context: Context, champion: Champion, known: dict[str, Any], start: datetime, end: datetime) -> int:
    """Score what happened from `start` up to `end` and was not scored yet, as it would have been then, and log it.

    Returns how many rows that were.
    """
    with open_warehouse(context.project, known, context.params) as warehouse:
        relation = _known_rows(warehouse, champion, start, end)
        warehouse.connection.register("logged", prediction_log.keys(context, champion.version.version))
        relation = f"(select * from {relation} where {quote(champion.key)}::varchar not in (select _key from logged))"
        if not warehouse.one(f"select count(*) from {relation}")[0]:
            return 0
        features = featurize.features_of(warehouse, champion.definitions, relation, context.params)
    table = predicted(champion, features, known, context.now())
    return prediction_log.append(context, champion.version.version, table)


def predicted(champion: Champion, features: pa.Table, known: dict[str, Any], now: datetime) -> pa.Table:
    """The features with the prediction and what it was made by, as the log keeps them.

    Raises:
        RefitError: a prediction is none of the task.
    """
    import numpy as np
    import pyarrow as pa

    rows, version = features.num_rows, champion.version
    target = champion.learner.spec.target
    predicted = champion.learner.predict(features) if rows else np.zeros(target.shape(0))
    if problem := target.problem(predicted, rows):
        raise RefitError(
            f"version {version.version} of {version.model} predicts {problem}; put another one in charge: refit "
            "promote VERSION"
        )
    constants = {
        prediction_log.VERSION: version.version,
        prediction_log.DIGEST: version.tags.get("refit.model_digest"),
        prediction_log.SNAPSHOT: known["snapshot"],
        prediction_log.AS_OF: known["as_of"],
        prediction_log.PREDICTED_AT: utc_text(now.replace(microsecond=0)),
    }
    columns = {
        prediction_log.KEY: features[champion.key].cast(pa.string()),
        prediction_log.EVENT_TIME: features["event_time"],
        prediction_log.PREDICTION_TIME: features["prediction_time"],
        prediction_log.PREDICTION: as_column(predicted),
        **{name: pa.repeat(pa.scalar(value, pa.string()), rows) for name, value in constants.items()},
    }
    return pa.table(columns | {name: features[name] for name in champion.definitions.feature_set.names()})


def _given(context: Context, warehouse: Warehouse, champion: Champion, rows: str, known: dict[str, Any]) -> Given:
    """The rows that were asked for: of a file, of a batch, or of the time to come."""
    if match := _UPCOMING.fullmatch(rows):
        ahead = timedelta(**{_UNITS[match[2]]: int(match[1])})
        return _upcoming(context, warehouse, champion, ahead, rows)
    if rows == NEWEST and context.params.forecast:
        return _newest(warehouse, champion, context.params.forecast)
    path = Path(rows)
    for file in (path, context.path(path)):
        if file.is_file():
            return of_file(context, warehouse, champion, file)
    stored = manifests(context.project, champion.table)
    parts = [batch for batch in stored if batch.name.partition(".")[0] == rows]
    if not parts:
        names = sorted({batch.name.partition(".")[0] for batch in stored})
        raise UserError(
            f"{rows!r} is no file, and {champion.table} has no such batch{nearest(rows, names)}; give a CSV or Parquet "
            f"file, a batch ({names[0]} to {names[-1]}), `next 24h` (1 to 9999 of h, d or w), or of forecasts `newest`"
        )
    return _of_batch(warehouse, champion, parts, known)


def of_file(context: Context, warehouse: Warehouse, champion: Champion, file: Path) -> Given:
    """The rows of a file that can be scored, and why the others cannot."""
    from tasks.score.input_rows import arrivals

    context.progress(f"reading {file.name}")
    found = arrivals(context, champion.table, file)
    cut = warehouse.given(champion.spine, found.rows)
    relation = f"(select * from {cut} order by event_time, {quote(champion.key)})"
    warehouse.connection.register("arrived", found.rows)
    number = quote(row_column(context.params.ingest.sources[champion.table].columns))
    key = champion.spine.columns[champion.key]
    named = warehouse.connection.sql(f"select ({key})::varchar, {number} from arrived")
    return Given(
        file.stem, relation, found.read, found.refusals, found.refused, found.notes, lines=dict(named.fetchall())
    )


def _of_batch(warehouse: Warehouse, champion: Champion, parts: list[Manifest], known: dict[str, Any]) -> Given:
    name, start, end = parts[0].name.partition(".")[0], str(parts[0].start), str(parts[0].end)
    entries = [e for e in known["batches"] if (e["source"], e["start"]) == (champion.table, parts[0].start)]
    if not entries:
        raise UserError(f"batch {name} of {champion.table} is not known by {known['as_of']}; give a later --as-of")
    relation = _known_rows(warehouse, champion, utc_moment(start), utc_moment(end))
    refused = sum(entry["quarantined"] for entry in entries)
    return Given(name, relation, sum(entry["read"] for entry in entries), refused=refused)


def _upcoming(context: Context, warehouse: Warehouse, champion: Champion, ahead: timedelta, rows: str) -> Given:
    start = warehouse.as_of
    if start > datetime.max.replace(tzinfo=UTC) - ahead:
        raise UserError(f"{rows!r} after {start:%Y-%m-%d} ends beyond the calendar; give an earlier --as-of")
    relation = _known_rows(warehouse, champion, start, start + ahead)
    (count,) = warehouse.one(f"select count(*) from {relation}")
    zone = context.params.project.zone
    if not count:
        table = warehouse.relation(champion.definitions.feature_set.spine.source, champion.definitions.sources)
        (newest,) = warehouse.one(f"select max(event_time) from {table}")
        raise UserError(
            f"no row of {champion.definitions.feature_set.spine.source!r} happens in the {rows} "
            f"after {start.astimezone(zone):%Y-%m-%d %H:%M} that is known by then; the newest known row is of {newest} "
            "(UTC): give an --as-of before it, or a file"
        )
    name = f"next-{rows.removeprefix('next').strip(' -')}-{start:%Y%m%dT%H%M}"
    return Given(name, relation, count)


def _newest(warehouse: Warehouse, champion: Champion, forecast: ForecastParams) -> Given:
    series = ", ".join(map(quote, forecast.series))
    table = warehouse.relation(champion.definitions.feature_set.spine.source, champion.definitions.sources)
    relation = (
        f"(select * from {table} qualify event_time = max(event_time) over ({series and f'partition by {series}'}) "
        f"order by {series and f'{series}, '}horizon)"
    )
    (count,) = warehouse.one(f"select count(*) from {relation}")
    notes = tuple(_ended(warehouse, series, relation)) if series else ()
    return Given(f"newest-{warehouse.as_of:%Y%m%dT%H%M}", relation, count, notes=notes)


def _ended(warehouse: Warehouse, series: str, relation: str) -> Iterator[str]:
    """A note that names the series whose newest moment is older than that of others: a shop that closed, or is late."""
    found = warehouse.connection.execute(
        f"select concat_ws(', ', {series}), event_time, max(event_time) over () as newest from "
        f"(select distinct {series}, event_time from {relation}) qualify event_time < newest order by event_time, 1"
    ).fetchall()
    if found:
        named = "; ".join(f"{name} ({end:%Y-%m-%d %H:%M})" for name, end, _ in found[:NAMED])
        more = f"; and {len(found) - NAMED} more" if len(found) > NAMED else ""
        yield (
            f"these series end before {found[0][2]:%Y-%m-%d %H:%M} (UTC), to which others reach, and are forecast from "
            f"there: {named}{more}"
        )


def _known_rows(warehouse: Warehouse, champion: Champion, start: datetime, end: datetime) -> str:
    """The rows of the spine's source in a stretch of event time, oldest first."""
    table = warehouse.relation(champion.definitions.feature_set.spine.source, champion.definitions.sources)
    return (
        f"(select * from {table} where event_time >= {sql_time(start)} and event_time < {sql_time(end)} "
        f"order by event_time, {quote(champion.key)})"
    )


def _forecast_of(
    context: Context, warehouse: Warehouse, champion: Champion, relation: str, keys: pa.ChunkedArray
) -> dict[str, pa.ChunkedArray]:
    """What each forecast is of, in the order of `keys`: its series, its horizon and its target; else nothing."""
    forecast, spine = context.params.forecast, champion.definitions.feature_set.spine
    if forecast is None or spine.source != context.params.forecast_source:
        return {}
    columns = (*forecast.series, "horizon", "target_time")
    named = ", ".join(map(quote, (champion.key, *columns)))
    found = warehouse.connection.sql(f"select {named} from {relation}").to_arrow_table()
    places = {key: place for place, key in enumerate(found[champion.key].to_pylist())}
    found = found.take([places[key] for key in keys.to_pylist()])
    return {name: found[name] for name in columns}


def _shown(
    champion: Champion,
    table: pa.Table,
    lines: Mapping[str, int] | None,
    found: Ranges | None,
    asked: Mapping[str, pa.ChunkedArray],
) -> pa.Table:
    """What a user of predictions wants to see; the features are in the log. A file's rows have their line in it.

    The key and the series go by their own names, with an underscore where a column here is called so.
    """
    import pyarrow as pa

    columns = {
        **(
            {"line": pa.array([lines[key] for key in table[prediction_log.KEY].to_pylist()], pa.int64())}
            if lines
            else {}
        ),
        "event_time": table[prediction_log.EVENT_TIME],
        "prediction_time": table[prediction_log.PREDICTION_TIME],
        **_columns(champion.learner, of_column(table[prediction_log.PREDICTION])),
        **(found.columns() if found else {}),
        "model": pa.repeat(champion.version.model, table.num_rows),
        "model_version": table[prediction_log.VERSION],
        "snapshot": table[prediction_log.SNAPSHOT],
        "as_of": table[prediction_log.AS_OF],
        "predicted_at": table[prediction_log.PREDICTED_AT],
    }
    named = {free(champion.key, columns): table[prediction_log.KEY]} | {
        free(name, columns): asked[name] for name in asked
    }
    return pa.table(named | columns)


def _columns(learner: Learner, predicted: Floats) -> dict[str, Any]:
    """What is predicted: a probability and the label it makes, a class and the probability of each, or a number."""
    target = learner.spec.target
    columns: dict[str, Any] = {"prediction": target.predicted_values(predicted)}
    if target.task == "binary":
        columns["predicted_label"] = (predicted >= learner.threshold).astype("int64")
    return columns | {f"probability_{name}": predicted[:, place] for place, name in enumerate(target.classes)}


def _told(learner: Learner, predicted: Floats) -> dict[str, Any]:
    """What a summary says of predictions; none were made: nothing."""
    import numpy as np

    target = learner.spec.target
    if target.classes:
        names, counts = np.unique(target.predicted_values(predicted).to_pylist(), return_counts=True)
        return {
            "threshold": None,
            "mean_prediction": None,
            "called": dict(zip(names.tolist(), counts.tolist(), strict=True)),
        }
    threshold = learner.threshold if target.task == "binary" else None
    return {
        "threshold": threshold,
        "mean_prediction": float(predicted.mean()) if len(predicted) else None,
        "called": None,
    }


def _write(path: Path, table: pa.Table) -> None:
    """Write predictions, as CSV where the name says so."""
    import pyarrow.csv
    import pyarrow.parquet

    with artifacts.atomic(path) as scratch:
        if path.suffix == ".csv":
            pyarrow.csv.write_csv(csv_cells.escaped_columns(table), scratch)
        else:
            pyarrow.parquet.write_table(table, scratch, compression="zstd", write_page_checksum=True)


def _write_refusals(target: Path, given: Given) -> Path | None:
    """Keep the refused rows of a file beside its predictions; those of a batch are in the quarantine already."""
    path = target.with_name(f"{target.stem}.quarantined.parquet")
    if not given.refusals:
        path.unlink(missing_ok=True)
        return None
    quarantine.write(path, given.refusals)
    return path
