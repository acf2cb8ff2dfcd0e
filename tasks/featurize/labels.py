"""Joins rows with their labels and the time since when these are known, and assigns them to windows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from feature_store.compile import OWN, SINCE, UNTIL
from feature_store.sql_text import quote
from refit.config import ForecastParams, Params, SplitParams, nearest
from refit.config.windows import LATE, LEARNED, UNLABELLED, Window, earliest_as_of, windows
from refit.errors import UserError
from refit.problems import problem_of
from refit.schemas.feature_table import LabelCounts
from tasks.featurize.known_rows import has_versions, newest
from tasks.featurize.warehouse import Warehouse, sources, sql_time

if TYPE_CHECKING:
    import pyarrow as pa

    from refit.schemas.feature_definitions import Definitions

LABEL, LABEL_KNOWN_AT, WINDOW = f"{OWN}label", f"{OWN}known_at", f"{OWN}window"  # added to the spine's columns
IS_LEARNED = f"{OWN}learned"  # likewise, for a replay: whether the row is learned from where it is in a training window
CANDIDATES = "candidates"  # all rows of a window, with LABEL and LABEL_KNOWN_AT if known
CHOSEN = "chosen"  # the spine's columns, WINDOW, LABEL and LABEL_KNOWN_AT; ordered by event_time, then key
_LABEL, _KNOWN_AT, _WINDOW, _PREDICTED = map(quote, (LABEL, LABEL_KNOWN_AT, WINDOW, f"{OWN}predicted"))
_MOMENT = quote(f"{OWN}moment")


def label_rows(warehouse: Warehouse, definitions: Definitions, params: Params) -> LabelCounts:
    """Create the table `chosen` of rows in a window with a known label; returns the counts of rows by label.

    `known` rows have a label by as_of; for `none` the outcome is known but is not a label (a cancelled flight);
    `pending` rows have no known outcome yet. With `featurize.label.use_unlabelled` the table also holds the rows that
    `_unlabelled` selects, with `keep_late` those of `_late`. In a problem whose labels only judge, it holds all rows:
    otherwise the label would choose what a model learns from.

    Raises:
        UserError: labels are invalid for the task or constant; a key is not unique; a window has no rows; a row is
            known only after its prediction, or a label before it.
    """
    spine_name = definitions.feature_set.spine.source
    key = definitions.feature_set.spine.key
    spine = warehouse.rows(definitions.feature_set.spine, definitions.sources)
    rows = _with_labels(warehouse, definitions, params, _opening(warehouse, params))
    warehouse.connection.execute(
        f"create temp table {CANDIDATES} as select *, {_window(warehouse, definitions, params)} as {_WINDOW} "
        f"from {rows} where {_WINDOW} is not null and ({_WINDOW} not like 'train%' or {_learned(params)})"
    )
    optional = problem_of(params.train.task).optional_label  # then a row without a label is a row like any other
    labelled = "true" if optional else f"{_LABEL} is not null"
    chosen = f"select * from {CANDIDATES} where {labelled} and not {_WINDOW} like '% {LATE}'"
    if params.featurize.label.keep_late:
        chosen += f" union all by name {_late(warehouse, params)}"
    if params.featurize.label.use_unlabelled and not optional:
        chosen += f" union all by name {_unlabelled(warehouse, definitions, params)}"
    warehouse.connection.execute(
        f"create temp table {CHOSEN} as select * from ({chosen}) order by event_time, {quote(key)}"
    )
    _require_rows(warehouse, spine, spine_name, params)
    _require_foresight(warehouse, definitions, params)
    counted, pending, none, pending_test = warehouse.one(
        f"select count({_LABEL}), count(*) - count({_KNOWN_AT}), count({_KNOWN_AT}) - count({_LABEL}), "
        f"count(*) filter ({_WINDOW} = 'test' and {_KNOWN_AT} is null) from {CANDIDATES}"
    )
    (unlabelled,) = warehouse.one(f"select count(*) from {CHOSEN} where {_WINDOW} like '% {UNLABELLED}'")
    return LabelCounts(
        known=counted,
        pending=pending,
        no_label=none,
        pending_test=pending_test,
        unlabelled=unlabelled,
        contradicting=_contradicting(warehouse, params, key),
    )


def _learned(params: Params) -> str:
    """Return SQL of whether a row of the training window is learned from: all are, but of forecasts with `learn`."""
    if (forecast := params.forecast) is None:
        return "true"
    return forecast.is_learned(f"concat_ws('|', {', '.join(map(quote, [*forecast.series, 'forecast_time']))})")


def _contradicting(warehouse: Warehouse, params: Params, key: str) -> int:
    """Count the rows in the windows whose label has had different values by now."""
    labels, versions = _labels(warehouse, params, key)
    if not versions:
        return 0
    different = f"select {quote(key)} from {labels} group by all having count(distinct {_LABEL}) > 1"
    (count,) = warehouse.one(f"select count(*) from {CANDIDATES} where {quote(key)} in ({different})")
    return int(count)


def _unlabelled(warehouse: Warehouse, definitions: Definitions, params: Params) -> str:
    """Return a query for the rows that may be learned from without a label.

    They are the rows of training and validation that were predicted before the next window opened and whose label was
    not known by then: those without one, and `late` ones, whose label is removed. None is of the test window.
    """
    predicted = definitions.feature_set.spine.prediction_time
    in_time = " or ".join(
        f"{_WINDOW} like '{span.name}%'" + (f" and ({predicted}) <= {sql_time(span.opens)}" if span.opens else "")
        for span in windows(warehouse.as_of, params)
        if span.name in LEARNED
    )
    return (
        f"select * replace (split_part({_WINDOW}, ' ', 1) || ' {UNLABELLED}' as {_WINDOW}, null as {_LABEL}, "
        f"null as {_KNOWN_AT}) from {CANDIDATES} where ({_LABEL} is null or {_WINDOW} like '% {LATE}') and ({in_time})"
    )


def _late(warehouse: Warehouse, params: Params) -> str:
    """Return a query for the late rows of training whose label was due and known when the test window opened."""
    opens = windows(warehouse.as_of, params)[1].opens
    assert opens is not None  # `Params` refuses keep_late with random windows
    due = opens - timedelta(hours=params.featurize.label.delay_hours)
    return (
        f"select * from {CANDIDATES} where {_LABEL} is not null and {_WINDOW} = 'train {LATE}' "
        f"and event_time < {sql_time(due)} and {_KNOWN_AT} <= {sql_time(opens)}"
    )


def late_rows(warehouse: Warehouse) -> dict[str, int]:
    """Count the labelled rows that each window loses, because the label was not final when the next window opened."""
    return dict(
        warehouse.connection.execute(
            f"select split_part({_WINDOW}, ' ', 1), count({_LABEL}) from {CANDIDATES} "
            f"where {_WINDOW} like '% {LATE}' group by 1"
        ).fetchall()
    )


def rows_until(warehouse: Warehouse, definitions: Definitions, params: Params, until: datetime) -> None:
    """Create the table `chosen` of every row to predict before `until`, with IS_LEARNED, LABEL and LABEL_KNOWN_AT.

    Raises:
        UserError: labels are invalid for the task; a key is not unique; a row is known only after its prediction, or a
            label before it.
    """
    rows = _with_labels(warehouse, definitions, params, sql_time(warehouse.as_of))
    warehouse.connection.execute(
        f"create temp table {CHOSEN} as select *, {_learned(params)} as {quote(IS_LEARNED)} from {rows} "
        f"where event_time < {sql_time(until)} "
        f"order by event_time, {quote(definitions.feature_set.spine.key)}"
    )
    _require_foresight(warehouse, definitions, params)


def _opening(warehouse: Warehouse, params: Params) -> str:
    """Return SQL for the moment whose knowledge a row is learned or judged by: when the window after its own opened."""
    opens = [span.opens for span in windows(warehouse.as_of, params) if span.opens]
    cases = " ".join(f"when event_time < {sql_time(each)} then {sql_time(each)}" for each in opens)
    return f"case {cases} else {sql_time(warehouse.as_of)} end" if cases else sql_time(warehouse.as_of)


def _with_labels(warehouse: Warehouse, definitions: Definitions, params: Params, moment: str) -> str:
    """Return a relation of the rows to predict, their label, and the time since when it is known.

    Of a label that was corrected, the version that was known at a moment counts, or else the first one after it.

    Args:
        moment: SQL over the columns of the rows to predict.
    """
    spine_name = definitions.feature_set.spine.source
    key = quote(definitions.feature_set.spine.key)
    spine = warehouse.rows(definitions.feature_set.spine, definitions.sources)
    _require_key(warehouse, spine_name, spine, definitions.feature_set.spine.key)
    labels, versions = _labels(warehouse, params, definitions.feature_set.spine.key)
    if not versions:
        labels = f"select {key}, {_LABEL}, {_KNOWN_AT} from {labels}"
        return f"(select s.*, {_LABEL}, {_KNOWN_AT} from {spine} s left join ({labels}) using ({key}))"
    labels = f"select {key}, {_LABEL}, {_KNOWN_AT}, {UNTIL} from {labels}"
    return (
        f"(select * exclude ({UNTIL}, {_MOMENT}) from (select *, ({moment}) as {_MOMENT} from {spine}) s "
        f"left join ({labels}) l on s.{key} = l.{key} and (l.{UNTIL} > s.{_MOMENT}) is distinct from false "
        f"qualify row_number() over (partition by s.{key} order by {_KNOWN_AT}) = 1)"
    )


def _labels(warehouse: Warehouse, params: Params, key: str) -> tuple[str, bool]:
    """Return a relation of known labels by the key of their row, and whether there are several versions of one.

    Its columns: LABEL, LABEL_KNOWN_AT and the row's `event_time`; with versions also UNTIL, when a newer one was known.
    A forecast's label is the value of its series at the target time.
    """
    label, declared = params.featurize.label, sources(params)
    table = warehouse.relation(label.source, declared)
    versions = has_versions(warehouse.connection, table)
    known_at, more = (f"{SINCE} as {_KNOWN_AT}", f", {UNTIL}") if versions else (f"available_at as {_KNOWN_AT}", "")
    current = newest(warehouse.connection, table)
    if params.forecast is None:
        _require_key(warehouse, label.source, current, key)
        value = _value(warehouse, table, params)
        return f"(select {quote(key)}, {value} as {_LABEL}, {known_at}, event_time{more} from {table})", versions
    on = [*map(quote, params.forecast.series), "target_time"]
    _require_key(warehouse, label.source, current, *params.forecast.series, "event_time")
    value = _value(warehouse, table, params)
    series = "".join(f", {quote(name)}" for name in params.forecast.series)
    came = f"select {value} as {_LABEL}, {known_at}, event_time as target_time{series}{more} from {table}"
    rows = warehouse.relation(params.forecast_source, declared)
    columns = f"{quote(key)}, {_LABEL}, {_KNOWN_AT}, event_time{more}"
    return f"(select {columns} from {rows} join ({came}) using ({', '.join(on)}))", versions


def known_labels(warehouse: Warehouse, params: Params, key: str, until: datetime) -> pa.Table:
    """Return the labels of rows before `until`, as known by the warehouse's as_of: `_key`, `label`, `event_time` and
    `known_at`, the time since when a label counts: it has arrived, and the label's delay has passed.

    Rows whose outcome is known but is not a label are left out, as in training.

    Raises:
        UserError: labels are invalid for the task, or a key is not unique: predictions would get other rows' labels.
    """
    delay = round(params.featurize.label.delay_hours * 3_600_000_000)
    counts = f"greatest({_KNOWN_AT}, event_time + to_microseconds({delay}))"
    labels, versions = _labels(warehouse, params, key)
    now = f" and {UNTIL} is null" if versions else ""
    return warehouse.arrow(
        f"select {quote(key)}::varchar as _key, {_LABEL} as label, event_time, {counts} as known_at "
        f"from {labels} where event_time < {sql_time(until)} and {_LABEL} is not null{now}"
    )


def _window(warehouse: Warehouse, definitions: Definitions, params: Params) -> str:
    """Return SQL for the name of a row's window: by its event time, or by a hash if a split is configured.

    A row of training or validation is `late` and left out if the label's delay had not passed when the next window
    opened, or if its own label became known only afterwards. A model trained on it would know too much on that window,
    and among the newest rows those with early labels are a biased sample.
    """
    spans, split = windows(warehouse.as_of, params), params.featurize.split
    if split:
        return _split(warehouse, definitions, split, spans)
    cases = []
    for span in spans:
        end = span.opens if span.opens and params.featurize.label.keep_late else span.end  # with those between windows
        inside = f"event_time < {sql_time(end)}"
        inside += f" and event_time >= {sql_time(span.start)}" if span.start else ""
        if span.opens:
            until = span.until(timedelta(hours=params.featurize.label.delay_hours))
            late = f"event_time >= {sql_time(until)}"
            if not problem_of(params.train.task).optional_label:
                late = f"({late} or {_KNOWN_AT} > {sql_time(span.opens)})"
            cases.append(f"when {inside} and {late} then '{span.name} {LATE}'")
        cases.append(f"when {inside} then '{span.name}'")
    return f"case {' '.join(cases)} end"


def _split(warehouse: Warehouse, definitions: Definitions, split: SplitParams, spans: tuple[Window, ...]) -> str:
    """Return SQL for a random window, or for a window given by a column.

    A random window depends only on the row's key (or group) and the seed, so a row never changes its window.

    Raises:
        UserError: the column to split by does not exist.
    """
    spine = definitions.feature_set.spine
    by = split.column or split.by or spine.key
    columns = warehouse.connection.sql(f"select * from {warehouse.rows(spine, definitions.sources)}").columns
    if by not in columns:
        raise UserError(
            f"params.yaml: featurize.split.{'column' if split.column else 'by'}: source {spine.source!r} has no column "
            f"{by!r}{nearest(by, columns)}"
        )
    text = f"concat('{split.seed}:', coalesce({quote(by)}::varchar, {quote(spine.key)}::varchar))"
    chance = f"(md5_number_lower({text})::double / 18446744073709551616.0)"
    whole = spans[0]  # all three cover the same time
    early = f" or event_time < {sql_time(whole.start)}" if whole.start else ""
    outside = f"case when event_time >= {sql_time(whole.end)}{early} then null"
    if split.column:
        named = " ".join(f"when {quote(by)} = '{window.name}' then '{window.name}'" for window in spans)
        return f"{outside} {named} end"
    return (
        f"{outside} when {chance} < {split.test} then 'test' "
        f"when {chance} < {split.test + split.validation} then 'validation' else 'train' end"
    )


def _require_key(warehouse: Warehouse, name: str, table: str, *key: str) -> None:
    columns = warehouse.connection.sql(f"select * from {table}").columns
    for column in key:
        if column not in columns:
            raise UserError(f"source {name!r} has no column {column!r} to name its rows by{nearest(column, columns)}")
    values = f"concat_ws(', ', {', '.join(map(quote, key))})"
    twice = warehouse.connection.execute(
        f"select {values}, count(*) from {table} group by 1 having count(*) > 1 order by 1 limit 1"
    ).fetchone()
    if twice:
        raise UserError(
            f"source {name!r} has {twice[1]} rows with {', '.join(key)} = {twice[0]}, one is right: give a key that "
            "names each row (params.yaml: ingest.sources), or remove the row that came twice"
        )


def _value(warehouse: Warehouse, labels: str, params: Params) -> str:
    """Return SQL for the label in the form of its problem; null if there is none.

    Raises:
        UserError: a value is invalid, or there are too many different ones.
    """
    label = params.featurize.label
    problem = problem_of(params.train.task)
    sql = problem.label_sql("" if label.column is None else quote(label.column))
    fault = ""
    if sql.most_values is not None:
        (count,) = warehouse.one(f"select count(distinct {sql.text}) from {labels}")
        fault = f"has {count:,} different values" if count > sql.most_values else ""
    elif invalid_labels := _examples(warehouse, labels, sql.text, sql.invalid):
        fault = f"holds {invalid_labels}"
    if fault:
        raise UserError(f"label {label.source}.{label.column} {fault}; {sql.demand}")
    return sql.value


def _examples(warehouse: Warehouse, labels: str, text: str, condition: str) -> str:
    """Return up to three values that meet a condition, as a list in text."""
    query = f"select distinct {text} from {labels} where {text} is not null and {condition} order by 1 limit 3"
    return ", ".join(repr(row[0]) for row in warehouse.connection.execute(query).fetchall())


def _require_rows(warehouse: Warehouse, spine: str, name: str, params: Params) -> None:
    """Require that every window has rows with different labels; the error names an as_of that could work."""
    counted = warehouse.connection.execute(
        f"select {_WINDOW}, count(*), count(distinct {_LABEL}), min({_LABEL}) from {CHOSEN} group by 1"
    ).fetchall()
    by_window = {window: rest for window, *rest in counted}
    first = warehouse.one(f"select min(event_time) from {spine}")[0]
    as_of = warehouse.as_of.astimezone(params.project.zone)
    if first is None:
        raise UserError(f"no row of source {name!r} is known by as_of {as_of:%Y-%m-%d}; give a later --as-of")
    earliest = earliest_as_of(first.replace(tzinfo=UTC), params)
    for window in windows(warehouse.as_of, params):
        if params.featurize.split and window.name == "validation" and not params.featurize.split.validation:
            continue
        span = f"{window.name} window, which ends {window.end.astimezone(params.project.zone):%Y-%m-%d %H:%M}"
        rows, distinct, one = by_window.get(window.name, (0, 0, None))
        if not rows and earliest > as_of:
            raise UserError(
                f"as_of {as_of:%Y-%m-%dT%H:%M} leaves no rows with a label for the {span}; the earliest --as-of that "
                f"could leave some is {earliest:%Y-%m-%dT%H:%M}"
            )
        if not rows:
            raise UserError(
                f"no row with a label lies in the {span}: check that label {params.featurize.label.column!r} has "
                f"values there{_apart(params.forecast)}, or set other lengths (params.yaml: featurize.windows)"
            )
        if distinct == 1 and params.featurize.label.column and not problem_of(params.train.task).optional_label:
            raise UserError(
                f"label {params.featurize.label.column!r} is {one} in all {rows} rows of the {span}: "
                "there is nothing to tell apart; check the label's column, or take longer windows (params.yaml: "
                "featurize.windows)"
            )


def _apart(forecast: ForecastParams | None) -> str:
    """Return other reasons why a forecast may have no outcome."""
    if forecast is None:
        return ""
    (first, *_), step = forecast.horizons, forecast.step
    return f", that the rows of {forecast.of!r} are {step} apart, and that {first} steps ahead still lie in the window"


def _require_foresight(warehouse: Warehouse, definitions: Definitions, params: Params) -> None:
    """Require that rows are known by their prediction, and that labels are not if features read the label's source."""
    spine, label_source = definitions.feature_set.spine, params.featurize.label.source
    late, early = warehouse.one(
        f"select count(*) filter (available_at > {_PREDICTED}), count(*) filter ({_KNOWN_AT} <= {_PREDICTED}) "
        f"from (select *, ({spine.prediction_time}) as {_PREDICTED} from {CHOSEN})"
    )
    if late:
        raise UserError(
            f"{late} rows of {spine.source!r} are known only after their prediction_time ({spine.prediction_time}): "
            "they cannot be predicted from; declare two event sources, of what is known before and after (params.yaml: "
            "events)"
        )
    if params.featurize.label.column is None:
        return
    if early and any(view.source == label_source for view in definitions.feature_set.views):
        raise UserError(
            f"{early} labels of {label_source!r} are known at their prediction_time, and views read that source: rows "
            "would be predicted from their own labels; state its true available_at (params.yaml: ingest.sources)"
        )
