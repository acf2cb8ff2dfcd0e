"""The stage `featurize`: labelled rows with their features as known at their prediction time, in windows of time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from feature_store.errors import DefinitionError
from feature_store.offline import compute
from tasks import artifacts
from tasks.context import Context
from tasks.definitions import Definitions, resolve
from tasks.errors import RefitError, UserError
from tasks.params import nearest
from tasks.profile import profile
from tasks.warehouse import Warehouse, open_warehouse, quote, sources, sql_time
from tasks.windows import Window, earliest_as_of, period_start, windows

if TYPE_CHECKING:
    import pyarrow as pa

WINDOWS = ("train", "validation", "test")
_HEAD = ("event_time", "prediction_time", "window", "label")


def run(context: Context) -> None:
    """Write the training table, what it is made of, and a profile of each feature.

    Raises:
        UserError: definitions, label or windows that do not fit the data.
        RefitError: a batch that is gone or changed.
    """
    validated = artifacts.read_json(context.path(artifacts.VALIDATED))
    definitions = resolve(context)
    with open_warehouse(context.project, validated, context.params) as warehouse:
        context.progress("labels")
        counts = _label_rows(warehouse, definitions, context)
        context.progress("features")
        table = _features(warehouse, definitions, context)
    key = definitions.feature_set.spine.key
    features = definitions.feature_set.names()
    categorical = [name for name in features if str(table.schema.field(name).type) == "string"]
    context.progress("profile")
    summary = profile(table, features)
    _write_table(context, table)
    ref = context.path(artifacts.TABLE)
    dumped = definitions.dump()
    artifacts.write_json(context.path(artifacts.PROFILE), summary)
    artifacts.write_json(
        context.path(artifacts.FEATURE_SET),
        {
            "key": key,
            "definitions": dumped,
            "definitions_digest": artifacts.digest(dumped),
            "features": features,
            "numeric": [name for name in features if name not in categorical],
            "categorical": categorical,
            "windows": _describe(table, windows(warehouse.as_of, context.params), context),
            "labels": counts,
            "table": {"sha256": artifacts.sha256(ref), "rows": table.num_rows},
            "snapshot": validated["snapshot"],
            "as_of": validated["as_of"],
        },
    )


def rows_for(context: Context, definitions: Mapping[str, Any], window: str) -> pa.Table:
    """The rows of one window of the training table (same keys, order and labels) with the features of other
    definitions.

    Raises:
        RefitError: the definitions name rows otherwise, or the sources no longer give one of the rows.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    if window not in WINDOWS:
        raise ValueError(f"window {window!r} is none of {', '.join(WINDOWS)}")
    other = Definitions.load(definitions)
    current = artifacts.read_json(context.path(artifacts.FEATURE_SET))
    key = current["key"]
    if other.feature_set.spine.key != key:
        raise RefitError(
            f"rows are named by {key!r} now and by {other.feature_set.spine.key!r} in the stored definitions"
        )
    head = pq.read_table(context.path(artifacts.TABLE), columns=[key, *_HEAD])
    head = head.filter(pc.equal(head["window"], window))
    validated = artifacts.read_json(context.path(artifacts.VALIDATED))
    if validated["snapshot"] != current["snapshot"]:
        raise RefitError("data/validated.json is newer than the training table; `refit run` makes them agree")
    with open_warehouse(context.project, validated, context.params) as warehouse:
        spine = warehouse.relation(other.feature_set.spine.source, other.sources)
        warehouse.connection.register("wanted_rows", head.select([key]))
        name = quote(key)
        warehouse.connection.execute(
            f"create temp table chosen as select s.* from (select {name}, row_number() over () as _place from wanted_rows) w "
            f"join {spine} s using ({name}) order by _place"
        )
        features = _compute(warehouse, other, "chosen")
    if features[key].combine_chunks() != head[key].combine_chunks():
        raise RefitError(
            f"source {other.feature_set.spine.source!r} of the stored definitions gives {features.num_rows} of the "
            f"{head.num_rows} rows of the {window} window; the two feature sets cannot be compared"
        )
    columns = {key: head[key], "event_time": head["event_time"], "prediction_time": features["prediction_time"]}
    columns |= {"window": head["window"], "label": head["label"]}
    columns |= {feature: features[feature] for feature in other.feature_set.names()}
    return pa.table(columns)


def _label_rows(warehouse: Warehouse, definitions: Definitions, context: Context) -> dict[str, int]:
    """Make the tables `candidates`, rows to predict that lie in a window, and `chosen`, those whose label is known, in
    order.

    Raises:
        UserError: labels that are not 0 and 1, a key twice, or a row or a label known at the wrong side of its
        prediction.
    """
    label = context.params.featurize.label
    declared = sources(context.params)
    spine_name, key = definitions.feature_set.spine.source, quote(definitions.feature_set.spine.key)
    spine = warehouse.relation(spine_name, definitions.sources)
    labels = warehouse.relation(label.source, declared)
    for name, table in {spine_name: spine, label.source: labels}.items():
        _require_key(warehouse, name, table, definitions.feature_set.spine.key)
    value = _binary(warehouse, labels, label.source, label.column)
    cases = " ".join(
        f"when event_time < {sql_time(window.end)}"
        + (f" and event_time >= {sql_time(window.start)}" if window.start else "")
        + f" then '{window.name}'"
        for window in windows(warehouse.as_of, context.params)
    )
    warehouse.connection.execute(
        f"create temp table candidates as select s.*, case {cases} end as _window, l._label, l._known_at "
        f"from {spine} s left join (select {key}, {value} as _label, available_at as _known_at from {labels}) l using ({key}) "
        f"where _window is not null"
    )
    warehouse.connection.execute(
        f"create temp table chosen as select * from candidates where _label is not null order by event_time, {key}"
    )
    _require_rows(warehouse, spine, spine_name, context)
    _require_foresight(warehouse, definitions, label.source)
    known, pending, none = warehouse.one(
        "select count(_label), count(*) filter (_known_at is null), count(_known_at) - count(_label) from candidates"
    )
    return {"known": known, "pending": pending, "none": none}


def _require_key(warehouse: Warehouse, name: str, table: str, key: str) -> None:
    columns = warehouse.connection.table(table.strip('"')).columns
    if key not in columns:
        raise UserError(f"source {name!r} has no column {key!r} to name its rows by{nearest(key, columns)}")
    twice = warehouse.connection.execute(
        f"select {quote(key)}::varchar, count(*) from {table} group by 1 having count(*) > 1 order by 1 limit 1"
    ).fetchone()
    if twice:
        raise UserError(
            f"source {name!r} has {twice[1]} rows with {key} = {twice[0]}; a key names one row (params.yaml: ingest)"
        )


def _binary(warehouse: Warehouse, labels: str, source: str, column: str) -> str:
    """SQL of the label as 0, 1 or missing."""
    text = f"lower({quote(column)}::varchar)"
    value = f"coalesce(try_cast({text} as double), case {text} when 'true' then 1 when 'false' then 0 end)"
    odd = warehouse.connection.execute(
        f"select distinct {text} from {labels} where {quote(column)} is not null and ({value} not in (0, 1) or {value} is null) "
        f"order by 1 limit 3"
    ).fetchall()
    if odd:
        raise UserError(
            f"label {source}.{column} holds {', '.join(repr(row[0]) for row in odd)}; a binary task needs 0 and 1: cut an event "
            f"source whose column says which is 1, such as `late: (delay >= 15)::integer` (params.yaml: ingest.sources)"
        )
    return f"{value}::bigint"


def _require_rows(warehouse: Warehouse, spine: str, name: str, context: Context) -> None:
    """Every window has rows of both labels, or the run cannot go on: say from which as_of it could."""
    found = dict(
        warehouse.connection.execute("select _window, (count(*), sum(_label)) from chosen group by 1").fetchall()
    )
    first = warehouse.one(f"select min(event_time) from {spine}")[0]
    as_of = warehouse.as_of.astimezone(context.params.project.zone)
    for window in windows(warehouse.as_of, context.params):
        span = f"{window.name} window (up to {window.end.astimezone(context.params.project.zone):%Y-%m-%d %H:%M})"
        if window.name not in found:
            if first is None:
                raise UserError(f"no rows of {name!r} are known by as_of {as_of:%Y-%m-%d}; give a later --as-of")
            earliest = earliest_as_of(first.replace(tzinfo=UTC), context.params)
            hint = (
                f"the earliest --as-of that leaves some is {earliest:%Y-%m-%dT%H:%M}"
                if earliest > as_of
                else "the sources have no labelled rows there; see featurize.windows in params.yaml"
            )
            raise UserError(f"as_of {as_of:%Y-%m-%dT%H:%M} leaves no labelled rows in the {span}; {hint}")
        rows, positive = found[window.name]
        if positive in (0, rows):
            raise UserError(
                f"label {context.params.featurize.label.column!r} is {int(bool(positive))} in all {rows} rows of the {span}; "
                f"there is nothing to tell apart: check the label's column, or take longer windows (featurize.windows)"
            )


def _require_foresight(warehouse: Warehouse, definitions: Definitions, label_source: str) -> None:
    """A row is known by its prediction, and its label is not, wherever features are made of the source of labels."""
    spine = definitions.feature_set.spine
    late, known = warehouse.one(
        f"select count(*) filter (available_at > p), count(*) filter (_known_at <= p) "
        f"from (select *, ({spine.prediction_time}) as p from chosen)"
    )
    if late:
        raise UserError(
            f"{late} rows of {spine.source!r} become known only after their prediction_time ({spine.prediction_time}), so they "
            f"cannot be predicted from; declare `events` that tell what is known first from what is known later (params.yaml)"
        )
    if known and any(view.source == label_source for view in definitions.feature_set.views):
        raise UserError(
            f"{known} labels of {label_source!r} are known at their prediction_time already, and views read that source: a row "
            f"would be predicted from its own label; state the true available_at (params.yaml: ingest.sources)"
        )


def _features(warehouse: Warehouse, definitions: Definitions, context: Context) -> pa.Table:
    """The training table."""
    import pyarrow as pa

    spine = definitions.feature_set.spine
    label = context.params.featurize.label
    hidden = [label.column] if label.source == spine.source else []
    features = _compute(warehouse, definitions, "chosen", hidden)
    head = warehouse.arrow("select _window, _label from chosen")
    columns = {name: features[name] for name in (spine.key, "event_time", "prediction_time")}
    columns |= {"window": head["_window"], "label": head["_label"]}
    return pa.table(columns | {name: features[name] for name in definitions.feature_set.names()})


def _compute(warehouse: Warehouse, definitions: Definitions, rows: str, hidden: Sequence[str] = ()) -> pa.Table:
    feature_set = definitions.feature_set
    known = [*definitions.sources[feature_set.spine.source].columns, "event_time", "available_at"]
    columns = ", ".join(quote(name) for name in known if name not in hidden)
    tables = {name: warehouse.relation(name, definitions.sources) for name in feature_set.sources()}
    try:
        result = compute(warehouse.connection, feature_set, f"(select {columns} from {rows})", tables, warehouse.as_of)
    except DefinitionError as error:
        raise UserError(f"features: {error}") from None
    return result.to_arrow_table()


def _write_table(context: Context, table: pa.Table) -> None:
    import pyarrow.parquet as pq

    with artifacts.atomic(context.path(artifacts.TABLE)) as scratch:
        pq.write_table(table, scratch, compression="zstd", compression_level=1)


def _describe(table: pa.Table, spans: Sequence[Window], context: Context) -> dict[str, Any]:
    """Bounds, rows and positive labels of each window; an open start is that of the first row's period."""
    import pyarrow.compute as pc

    params = context.params
    first = pc.min(table["event_time"]).as_py().replace(tzinfo=UTC)
    opened = period_start(first, params.ingest.period, params.project.zone)
    described = {}
    for window in spans:
        labels = table["label"].filter(pc.equal(table["window"], window.name))
        described[window.name] = {
            "start": _text(window.start or opened),
            "end": _text(window.end),
            "rows": len(labels),
            "positive": pc.sum(labels).as_py(),
        }
    return described


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
