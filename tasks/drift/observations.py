"""Collects the inputs of drift detection: scored rows, their labels so far, and the champion's training reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from refit.config import DriftParams, Params
from refit.config.windows import as_numpy, label_wait, local_days, period_start, shift
from refit.config.windows import windows as retraining_windows
from refit.drift import inputs
from refit.drift.measures import ScoredRows
from refit.drift.retrain_decision import EmptyWindow
from refit.errors import RefitError
from refit.files import artifacts
from refit.learners import Floats
from refit.models.verification import BACKTEST, MODEL
from refit.problems import problem_of
from refit.problems.contract import Problem, of_column
from refit.runtime.context import Context
from refit.schemas.drift_decision import DayWindow, InputVerdict
from refit.schemas.feature_table import FeatureTable
from refit.schemas.validated import Validated
from refit.storage import prediction_log
from tasks import score
from tasks.featurize.labels import known_labels
from tasks.featurize.profile import read_profile
from tasks.featurize.warehouse import open_warehouse
from tasks.score.champion_model import Champion

if TYPE_CHECKING:
    import pyarrow as pa
    from duckdb import DuckDBPyConnection

    from feature_store.sketches import Sketch

LABEL = "label"
SHOWN_PREDICTION = "prediction"  # the display name of the log's prediction column


@dataclass(frozen=True)
class Reference:
    """The champion's training rows and its predictions of held-out rows, as stored with its version."""

    learned: Sketch  # features and label of its training rows
    predicted: Sketch  # its predictions of held-out rows
    backtest: ScoredRows  # the same predictions, with labels
    rows: pa.Table  # the features of a sample of its training rows
    days: NDArray[np.datetime64]  # the local day of each sampled row
    end: date  # the first local day whose data it has not seen

    @property
    def after(self) -> date:
        """The first local day whose rows the champion was neither trained nor evaluated on."""
        return new_from(self.backtest.days, self.end)


@dataclass(frozen=True)
class Observed:
    """The scored rows of some windows, with the labels that have arrived."""

    sketch: Sketch
    scored: ScoredRows
    rows: pa.Table


def windows(as_of: datetime, after: date, params: Params, most: int) -> list[DayWindow]:
    """Return up to `most` complete windows that ended by `as_of` and began on or after `after`, the newest last.

    There are more where it takes more to have `drift.windows` whose labels are due.
    """
    length, zone = params.drift.window, params.project.zone
    end = period_start(as_of, length, zone)
    complete, due = list[DayWindow](), 0
    while (len(complete) < most or due < params.drift.windows) and (start := shift(end, -1, length)).date() >= after:
        complete.append(DayWindow(first=start.date(), end=end.date()))
        due += end <= as_of - label_wait(params)
        end = start
    return complete[::-1]


def with_every_horizon(
    labels: Floats, times: NDArray[np.datetime64], opens: Sequence[datetime], params: Params
) -> Floats:
    """Return the labels of a forecast's backtest, nan at times of which only shorter horizons have one.

    Long horizons are harder, so a reference with fewer of them than production would be one of better skill.

    Args:
        times: (rows,) of the forecasts, in UTC.
        opens: when the validation window and the test window opened, and as of when the model was made: a row's label
            was known by the first of them that is later than the row.
    """
    if params.forecast is None:
        return labels
    known_by = np.array([moment.astimezone(UTC).replace(tzinfo=None) for moment in opens], dtype="datetime64[us]")
    opened = known_by[np.searchsorted(known_by[:-1], times, side="right")]
    whole: Floats = np.where(times + np.timedelta64(label_wait(params)) <= opened, labels, np.nan)
    return whole


def reference(context: Context, champion: Champion) -> Reference:
    """Load the champion's reference.

    Raises:
        RefitError: the version was registered before references were stored.
    """
    import pyarrow.parquet as pq

    backtest_path = champion.folder.parents[len(MODEL.parts) - 1] / BACKTEST
    counts_path = champion.folder / artifacts.PROFILE_COUNTS.name
    for path in (backtest_path, counts_path, champion.folder / artifacts.REFERENCE):
        if not path.is_file():
            raise RefitError(
                f"version {champion.version.version} of {champion.version.model} holds no {path.name}: an older Refit "
                "registered it; `refit run --force` makes one that can be watched"
            )
    backtest, target = pq.read_table(backtest_path), champion.learner.spec.problem
    zone, features = context.params.project.zone, FeatureTable.read(champion.folder / artifacts.FEATURE_SET.name)
    opens = (features.windows.validation.start, features.windows.test.start, features.as_of)
    labels, times = target.labels_or_nan(backtest["label"]), backtest["event_time"].to_numpy()
    sample = pq.read_table(champion.folder / artifacts.REFERENCE)
    return Reference(
        learned=read_profile(champion.folder),
        predicted=predictions(backtest["event_time"], of_column(backtest["prediction"]), target, zone),
        backtest=ScoredRows(
            days=local_days(backtest["event_time"], zone),
            predictions=of_column(backtest["prediction"]),
            labels=with_every_horizon(labels, times, opens, context.params),
            problem=target,
        ),
        rows=sample.drop_columns(["event_time"]),
        days=local_days(sample["event_time"], zone),
        end=champion.seen_until.astimezone(zone).date(),
    )


def new_from(tested: NDArray[np.datetime64], seen_until: date) -> date:
    """Return the first production day, from the days of the backtest and the day up to which data was seen."""
    return max(seen_until, tested.max().astype(date) + timedelta(days=1)) if len(tested) else seen_until


def predictions(event_time: pa.ChunkedArray, predicted: Floats, target: Problem, zone: ZoneInfo) -> Sketch:
    """Sketch a backtest's predictions by day: numbers, or predicted classes."""
    import pyarrow as pa

    from feature_store.sketches import count, local_day, make_layout

    values = target.predicted_values(predicted)
    numbers, names = (
        ([], [prediction_log.PREDICTION]) if pa.types.is_string(values.type) else ([prediction_log.PREDICTION], [])
    )
    with connected() as connection:
        connection.register("backtest", pa.table({"event_time": event_time, prediction_log.PREDICTION: values}))
        layout = make_layout(connection, "backtest", numbers, names)
        return count(connection, "backtest", layout, local_day("event_time", zone))


def labels(context: Context, champion: Champion, validated: Validated) -> pa.Table:
    """Return the labels that have arrived: `_key`, `label`, `event_time` and `known_at`."""
    with open_warehouse(context.project, validated, context.params) as warehouse:
        return known_labels(warehouse, context.params, champion.key, warehouse.as_of)


def ripe(arrived: pa.Table, as_of: datetime, params: Params) -> pa.Table:
    """Return the labels that count, of those that have arrived.

    A label counts only after `label.delay_hours`, or after a forecast's longest horizon, the same for every row. Some
    outcomes arrive late, so taking those that are there would be a biased selection.
    """
    return arrived.filter(arrived["event_time"].to_numpy() < as_numpy(as_of - label_wait(params)))


def empty_window(labelled: NDArray[np.datetime64], as_of: datetime, params: Params) -> EmptyWindow | None:
    """Return the first window of a retraining at `as_of` without a labelled row, for want of which it would fail.

    None if each window holds one, or if the problem's labels only judge: its windows need none.

    Args:
        labelled: (rows,) event times, in UTC, of the rows whose labels have arrived.
    """
    if problem_of(params.train.task).optional_label:
        return None
    delay, zone = timedelta(hours=params.featurize.label.delay_hours), params.project.zone
    for span in retraining_windows(as_of, params):
        inside = labelled < as_numpy(span.until(delay))
        if span.start:
            inside &= labelled >= as_numpy(span.start)
        if not inside.any():
            newest = labelled.max().astype("datetime64[us]").item().replace(tzinfo=UTC) if len(labelled) else None
            end = span.end.astimezone(zone).date()
            return EmptyWindow(span.name, end, newest and newest.astimezone(zone).date())
    return None


def observe(
    context: Context,
    champion: Champion,
    validated: Validated,
    labels: pa.Table,
    spans: Sequence[DayWindow],
    against: Reference,
) -> Observed | None:
    """Return the rows of some windows, or None if there are none; rows that were never scored are scored as of then."""
    from feature_store.sketches import count

    params, target = context.params, champion.learner.spec.problem
    first, end = spans[0].first, spans[-1].end
    start = datetime.combine(first, datetime.min.time(), params.project.zone)
    until = datetime.combine(end, datetime.min.time(), params.project.zone)
    context.progress(f"scoring {first} to {end - timedelta(days=1)}, where not done yet")
    score.between(context, champion, validated, start, until)
    files = prediction_log.files(context, champion.version.version, first, end)
    if not files:
        return None
    with connected() as connection:
        connection.register("labels", labels.select(["_key", "label"]))
        scored = prediction_log.relation(connection, files, "scored")
        connection.execute(
            f"create temp view rows as select s.*, l.label from {scored} s left join labels l using (_key)"
        )
        layout = against.learned.layout
        features = layout.only(name for name in layout.columns if name != LABEL)
        context.progress(f"counting {len(features.columns)} columns")
        sketch = count(connection, "rows", features, "_day")
        value = target.predicted_value_sql(prediction_log.PREDICTION)
        classes_query = f"(select {value} as {prediction_log.PREDICTION}, _day from rows)"
        sketch = sketch.join(count(connection, classes_query, against.predicted.layout, "_day"))
        labelled = "(select label, _day from rows where label is not null)"
        table = connection.sql(
            f"select * exclude ({', '.join(prediction_log.META)}), {prediction_log.PREDICTION}, "
            "_event_time as event_time from rows order by _event_time, _key"
        ).to_arrow_table()
        sketch = sketch.join(count(connection, labelled, layout.only([LABEL]), "_day"))
    return Observed(
        sketch=sketch,
        scored=ScoredRows(
            days=table["_day"].to_numpy().astype("datetime64[D]"),
            predictions=of_column(table[prediction_log.PREDICTION]),
            labels=target.labels_or_nan(table[LABEL]),
            problem=target,
        ),
        rows=table,
    )


def judged_inputs(
    learned: Sketch, predicted: Sketch, current: Sketch, window: DayWindow, policy: DriftParams
) -> InputVerdict:
    """Judge features and label against the training rows, and predictions against the out-of-sample predictions."""
    of_features, of_predictions = (
        inputs.judge_window(reference, current, window, policy) for reference in (learned, predicted)
    )
    shown = (each.model_copy(update={"column": SHOWN_PREDICTION}) for each in of_predictions.columns)
    columns = tuple(sorted((*of_features.columns, *shown), key=lambda each: (-each.severity, each.column)))
    judged = (of_features, of_predictions)
    notes = [note for each in judged for note in (each.reasons[1:] if each.columns else each.reasons)]
    return of_features.model_copy(
        update={
            "columns": columns,
            "breached": of_features.breached or of_predictions.breached,
            "reasons": (*([inputs.moved(columns)] if columns else []), *notes),
        }
    )


def connected() -> DuckDBPyConnection:
    """Open a separate DuckDB connection with time zone UTC."""
    import duckdb

    connection = duckdb.connect()
    connection.execute("set TimeZone = 'UTC'")
    return connection
