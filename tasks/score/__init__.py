"""Scores rows with the champion, using the feature definitions stored with it, and logs every prediction."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from feature_store.sql_text import quote
from refit.config import nearest
from refit.config.section import free, row_column, span
from refit.errors import RefitError, UserError, counted
from refit.files import artifacts, csv_cells
from refit.learners import Floats, Learner
from refit.learners.embeddings import EMBEDDING, embedded
from refit.learners.prediction_intervals import IntervalLearner
from refit.problems.contract import as_column, of_column
from refit.runtime.context import Context
from refit.schemas.artifact import utc_text
from refit.schemas.manifest import Manifest
from refit.schemas.score_report import LoggedRows, RowTotals, ScoreReport
from refit.schemas.validated import Validated
from refit.storage import adoption, prediction_log, quarantine
from refit.storage.arrays import summarised
from refit.storage.batches import manifests
from refit.storage.quarantine import Refusal
from tasks import featurize
from tasks.featurize.warehouse import Warehouse, open_warehouse, sql_time
from tasks.score import sinks
from tasks.score.champion_model import Champion, load_champion
from tasks.score.data_as_of import NOW, validated_data_at
from tasks.score.missing import lost_zeros, new_horizons, newly_missing
from tasks.score.newest_forecasts import newest_forecasts
from tasks.score.scored_intervals import ScoredIntervals, intervals_of

if TYPE_CHECKING:
    import pyarrow as pa

SCORES = artifacts.REPORTS / "scores"
SUFFIXES = (".parquet", ".csv")
NEWEST = "newest"
_UPCOMING = re.compile(r"next[ -]?([1-9][0-9]{0,3}[hdw])")


@dataclass(frozen=True)
class RowsToScore:
    """Rows to score as a relation of the warehouse, with counts of the requested rows and the refused ones."""

    name: str  # the stem of the output file
    relation: str
    read: int
    refusals: tuple[Refusal, ...] = ()
    refused: int = 0
    notes: tuple[str, ...] = ()
    lines: Mapping[str, int] | None = None  # of a file: key -> line


def run(context: Context, rows: str, *, as_of: str = NOW, out: Path | None = None) -> ScoreReport:
    """Score `rows`, write the predictions to `out`, log them, and return a summary.

    Args:
        rows: a CSV or Parquet file in the layout of the source that is predicted, the name of a batch such as
            `2013-11`, `next 24h` (rows within that time after `as_of` that are known by then), or `newest` (the
            forecasts of each series' newest moment).
        as_of: nothing that became known later is used; each row is predicted at its own prediction time at the latest.
        out: where to write, as Parquet or `.csv`; `reports/scores/` if None.

    Raises:
        UserError: there is no champion, no such file, batch or row, or a row does not fit the declaration.
        RefitError: the model's files differ from the registered ones, or its predictions are invalid.
    """
    started = time.monotonic()
    if out and out.suffix not in SUFFIXES:
        raise UserError(f"{out}: predictions are written as .parquet or .csv; give --out such a name")
    if out and out.is_dir():
        raise UserError(f"{out} is a folder; --out names a file, such as {out / 'scores.csv'}")
    if re.fullmatch(r".*\.[a-z]+", rows, re.IGNORECASE) and not any(map(Path.exists, (Path(rows), context.path(rows)))):
        raise UserError(f"{rows}: no such file, here or in {context.project}")  # before data is brought up to date
    champion = load_champion(context)
    validated = validated_data_at(context, as_of)
    with open_warehouse(context.project, validated, context.params) as warehouse:
        requested = _requested_rows(context, warehouse, champion, rows, validated)
        context.progress("features")
        features = featurize.features_of(
            warehouse, champion.definitions, requested.relation, context, champion.find(context)
        )
        intervals = intervals_of(context, warehouse, champion, features, requested.relation)
        forecast_columns = _forecast_of(context, warehouse, champion, requested.relation, features[champion.key])
    context.progress(f"scoring {counted(features.num_rows, 'row')}")
    table = predicted(champion, features, validated, context.now())
    target = out or context.path(SCORES / f"{requested.name}-v{champion.version.version}.parquet")
    adoption.adopt(context)
    logged = prediction_log.append(context, champion.version.version, table)
    _write(target, output := _output_table(champion, table, requested.lines, intervals, forecast_columns))
    refused = _write_refusals(target, requested)
    scored = table.num_rows
    predictions = of_column(table[prediction_log.PREDICTION])
    return ScoreReport(
        model=champion.version.model,
        version=champion.version.version,
        as_of=validated.as_of,
        snapshot=validated.snapshot,
        rows=RowTotals(
            read=requested.read,
            scored=scored,
            quarantined=requested.refused,
            left_out=requested.read - requested.refused - scored,
        ),
        logged=LoggedRows(new=logged, known=scored - logged),
        threshold=champion.learner.threshold if champion.learner.spec.task == "binary" else None,
        mean_prediction=None if predictions.ndim > 1 or not scored else float(predictions.mean()),
        called=_classes(champion.learner, predictions),
        intervals=intervals.summary() if intervals else None,
        out=str(target),
        quarantine=str(refused) if refused else None,
        notes=(
            *champion.warnings,
            *requested.notes,
            *([f"the first refused row, {requested.refusals[0].told}"] if requested.refusals else ()),
            *newly_missing(champion, features),
            *lost_zeros(champion, features),
            *new_horizons(champion, features),
        ),
        seconds=round(time.monotonic() - started, 3),
        sinks=sinks.deliver(context.project, context.params.sinks, requested.name, champion.version, output),
    )


def between(context: Context, champion: Champion, validated: Validated, start: datetime, end: datetime) -> int:
    """Score and log the rows from `start` up to `end` that are not scored yet, as they would have been at the time.

    Returns the number of rows scored.
    """
    with open_warehouse(context.project, validated, context.params) as warehouse:
        relation = _rows_between(warehouse, champion, start, end)
        warehouse.connection.register("logged", prediction_log.keys(context, champion.version.version))
        relation = f"(select * from {relation} where {quote(champion.key)}::varchar not in (select _key from logged))"
        if not warehouse.one(f"select count(*) from {relation}")[0]:
            return 0
        features = featurize.features_of(warehouse, champion.definitions, relation, context, champion.find(context))
    table = predicted(champion, features, validated, context.now())
    return prediction_log.append(context, champion.version.version, table)


def intervals_between(
    context: Context, champion: Champion, validated: Validated, start: datetime, end: datetime
) -> tuple[pa.Table, ScoredIntervals] | None:
    """The keys and prediction intervals of the rows from `start` up to `end`, as they would have been at the time.

    None if the champion has no intervals, or there is no row.
    """
    if not isinstance(champion.learner, IntervalLearner):
        return None
    with open_warehouse(context.project, validated, context.params) as warehouse:
        relation = _rows_between(warehouse, champion, start, end)
        features = featurize.features_of(warehouse, champion.definitions, relation, context, champion.find(context))
        intervals = intervals_of(context, warehouse, champion, features, relation)
    if intervals is None or not features.num_rows:
        return None
    return features.select([champion.key, "event_time"]).rename_columns([prediction_log.KEY, "event_time"]), intervals


def predicted(champion: Champion, features: pa.Table, validated: Validated, now: datetime) -> pa.Table:
    """Return features, predictions and their origin, in the layout of the log.

    Raises:
        RefitError: a prediction is invalid for the task.
    """
    import numpy as np
    import pyarrow as pa

    rows, version = features.num_rows, champion.version
    target = champion.learner.spec.problem
    predicted = champion.learner.predict(features) if rows else np.zeros(target.shape(0))
    if problem := target.check_predictions(predicted, rows):
        raise RefitError(
            f"version {version.version} of {version.model} predicts {problem}; promote another one: refit "
            "promote VERSION"
        )
    constants = {
        prediction_log.VERSION: version.version,
        prediction_log.DIGEST: version.tags.get("refit.model_digest"),
        prediction_log.SNAPSHOT: validated.snapshot,
        prediction_log.AS_OF: utc_text(validated.as_of),
        prediction_log.PREDICTED_AT: utc_text(now.replace(microsecond=0)),
    }
    columns = {
        prediction_log.KEY: features[champion.key].cast(pa.string()),
        prediction_log.EVENT_TIME: features["event_time"],
        prediction_log.PREDICTION_TIME: features["prediction_time"],
        prediction_log.PREDICTION: as_column(predicted),
        **{name: pa.repeat(pa.scalar(value, pa.string()), rows) for name, value in constants.items()},
    }
    arrays = champion.arrays
    inputs = summarised(features.select(champion.definitions.feature_set.names()), arrays)
    columns |= {name: inputs[name] for name in inputs.column_names}
    embeddings = embedded(features, arrays) if has_embeddings(champion) else {}
    return pa.table(columns | {name: pa.array(each, from_pandas=True) for name, each in embeddings.items()})


def has_embeddings(champion: Champion) -> bool:
    """Whether embeddings are stored with a version; those of an older Refit have none, and their log stays as it is."""
    import pyarrow.parquet as pq

    path = champion.folder / artifacts.REFERENCE
    return path.is_file() and any(EMBEDDING in name for name in pq.read_schema(path).names)


def _requested_rows(
    context: Context, warehouse: Warehouse, champion: Champion, rows: str, validated: Validated
) -> RowsToScore:
    """Select the requested rows: of a file, of a batch, or of a coming period."""
    if match := _UPCOMING.fullmatch(rows):
        return _upcoming(context, warehouse, champion, span(match[1]), rows)
    if rows == NEWEST and context.params.forecast:
        newest = newest_forecasts(warehouse, champion, context.params)
        return RowsToScore(f"newest-{warehouse.as_of:%Y%m%dT%H%M}", newest.relation, newest.count, notes=newest.notes)
    path = Path(rows)
    source = context.params.ingest.sources.get(champion.table)
    has_pictures = source is not None and source.format == "images"  # a folder of them is rows
    for file in (path, context.path(path)):
        if file.is_file() or (has_pictures and file.is_dir()):
            return of_file(context, warehouse, champion, file)
    stored = manifests(context.project, champion.table)
    parts = [batch for batch in stored if batch.name.partition(".")[0] == rows]
    if not parts:
        names = sorted({batch.name.partition(".")[0] for batch in stored})
        raise UserError(
            f"{rows!r} is no file, and {champion.table} has no such batch{nearest(rows, names)}; give a CSV or Parquet "
            f"file, a batch ({names[0]} to {names[-1]}), `next 24h` (1 to 9999 of h, d or w), or of forecasts `newest`"
        )
    return _of_batch(warehouse, champion, parts, validated)


def of_file(context: Context, warehouse: Warehouse, champion: Champion, file: Path) -> RowsToScore:
    """Read the rows of a file that can be scored, and why the others cannot."""
    from tasks.score.input_rows import read_rows

    context.progress(f"reading {file.name}")
    rows = read_rows(context, champion.table, file)
    cut = warehouse.given(champion.spine, rows.rows)
    relation = f"(select * from {cut} order by event_time, {quote(champion.key)})"
    warehouse.connection.register("arrived", rows.rows)
    number = quote(row_column(context.params.ingest.sources[champion.table].columns))
    key = champion.spine.columns[champion.key]
    key_and_line = warehouse.connection.sql(f"select ({key})::varchar, {number} from arrived")
    return RowsToScore(
        file.stem, relation, rows.read, rows.refusals, rows.refused, rows.notes, lines=dict(key_and_line.fetchall())
    )


def _of_batch(warehouse: Warehouse, champion: Champion, parts: list[Manifest], validated: Validated) -> RowsToScore:
    name, start, end = parts[0].name.partition(".")[0], parts[0].start, parts[0].end
    batches = [each for each in validated.batches if (each.source, each.start) == (champion.table, start)]
    if not batches or start is None or end is None:
        as_of = utc_text(validated.as_of)
        raise UserError(f"batch {name} of {champion.table} is not known by {as_of}; give a later --as-of")
    relation = _rows_between(warehouse, champion, start, end)
    refused = sum(batch.quarantined for batch in batches)
    return RowsToScore(name, relation, sum(batch.rows_read for batch in batches), refused=refused)


def _upcoming(context: Context, warehouse: Warehouse, champion: Champion, ahead: timedelta, rows: str) -> RowsToScore:
    start = warehouse.as_of
    if start > datetime.max.replace(tzinfo=UTC) - ahead:
        raise UserError(f"{rows!r} after {start:%Y-%m-%d} ends beyond the calendar; give an earlier --as-of")
    relation = _rows_between(warehouse, champion, start, start + ahead)
    (count,) = warehouse.one(f"select count(*) from {relation}")
    zone = context.params.project.zone
    if not count:
        table = warehouse.rows(champion.definitions.feature_set.spine, champion.definitions.sources)
        (newest,) = warehouse.one(f"select max(event_time) from {table}")
        raise UserError(
            f"no row of {champion.definitions.feature_set.spine.source!r} happens in the {rows} "
            f"after {start.astimezone(zone):%Y-%m-%d %H:%M} that is known by then; the newest known row is of {newest} "
            "(UTC): give an --as-of before it, or a file"
        )
    name = f"next-{rows.removeprefix('next').strip(' -')}-{start:%Y%m%dT%H%M}"
    return RowsToScore(name, relation, count)


def _rows_between(warehouse: Warehouse, champion: Champion, start: datetime, end: datetime) -> str:
    """Select the rows of the spine's source in a range of event time, oldest first."""
    table = warehouse.rows(champion.definitions.feature_set.spine, champion.definitions.sources)
    return (
        f"(select * from {table} where event_time >= {sql_time(start)} and event_time < {sql_time(end)} "
        f"order by event_time, {quote(champion.key)})"
    )


def _forecast_of(
    context: Context, warehouse: Warehouse, champion: Champion, relation: str, keys: pa.ChunkedArray
) -> dict[str, pa.ChunkedArray]:
    """Return series, horizon and target time of each forecast, in the order of `keys`; empty for other tasks."""
    forecast, spine = context.params.forecast, champion.definitions.feature_set.spine
    if forecast is None or spine.source != context.params.forecast_source:
        return {}
    columns = (*forecast.series, "horizon", "target_time")
    named = ", ".join(map(quote, (champion.key, *columns)))
    table = warehouse.connection.sql(f"select {named} from {relation}").to_arrow_table()
    index_of = {key: index for index, key in enumerate(table[champion.key].to_pylist())}
    table = table.take([index_of[key] for key in keys.to_pylist()])
    return {name: table[name] for name in columns}


def _output_table(
    champion: Champion,
    table: pa.Table,
    lines: Mapping[str, int] | None,
    intervals: ScoredIntervals | None,
    forecast_columns: Mapping[str, pa.ChunkedArray],
) -> pa.Table:
    """Return the table of predictions that users get, without features; rows of a file have their line number.

    Key and series keep their own names, with an underscore added where that is the name of another column.
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
        **_columns(champion.learner, of_column(table[prediction_log.PREDICTION]), table),
        **(intervals.columns() if intervals else {}),
        "model": pa.repeat(champion.version.model, table.num_rows),
        "model_version": table[prediction_log.VERSION],
        "snapshot": table[prediction_log.SNAPSHOT],
        "as_of": table[prediction_log.AS_OF],
        "predicted_at": table[prediction_log.PREDICTED_AT],
    }
    leading = {free(champion.key, columns): table[prediction_log.KEY]} | {
        free(name, columns): forecast_columns[name] for name in forecast_columns
    }
    return pa.table(leading | columns)


def _columns(learner: Learner, predicted: Floats, rows: pa.Table) -> dict[str, object]:
    """Return prediction columns: probability and label, class and probability of each class, numbers, or items."""
    target = learner.spec.problem
    items = learner.recommendations(rows) if hasattr(learner, "recommendations") else None
    columns: dict[str, object] = {"prediction": items or target.predicted_values(predicted)}
    if target.task == "binary":
        columns["predicted_label"] = (predicted >= learner.threshold).astype("int64")
    columns |= {name: predicted[:, index] for index, name in enumerate(target.parts) if index}
    return columns | {f"probability_{name}": predicted[:, index] for index, name in enumerate(target.classes)}


def _classes(learner: Learner, predicted: Floats) -> dict[str, int] | None:
    """Return the number of rows by predicted class; None if there are no classes."""
    import numpy as np
    import pyarrow as pa

    values = learner.spec.problem.predicted_values(predicted)
    if not pa.types.is_string(values.type):
        return None
    names, counts = np.unique(values.to_pylist(), return_counts=True)
    return dict(zip(names.tolist(), counts.tolist(), strict=True))


def _write(path: Path, table: pa.Table) -> None:
    """Write predictions, as CSV if the file name ends in `.csv`, else as Parquet."""
    import pyarrow.csv
    import pyarrow.parquet

    with artifacts.atomic(path) as scratch:
        if path.suffix == ".csv":
            pyarrow.csv.write_csv(csv_cells.escaped_columns(table), scratch)
        else:
            pyarrow.parquet.write_table(table, scratch, compression="zstd", write_page_checksum=True)


def _write_refusals(target: Path, requested: RowsToScore) -> Path | None:
    """Write the refused rows of a file next to its predictions, as CSV too if those are CSV.

    Those of a batch are in the quarantine already.
    """
    path = target.with_name(f"{target.stem}.quarantined.parquet")
    as_csv = path.with_suffix(".csv") if target.suffix == ".csv" else None
    if not requested.refusals:
        for each in filter(None, (path, as_csv)):
            each.unlink(missing_ok=True)
        return None
    quarantine.write(path, requested.refusals)
    if as_csv:
        _write(as_csv, quarantine.table_of(requested.refusals))
    return path
