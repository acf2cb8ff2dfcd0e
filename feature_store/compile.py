"""From definitions to DuckDB SQL: text only, so that the same definition gives the same statement whoever runs it, and
when.

Aggregates over any window cost two ASOF joins on running totals: the total known at the prediction less the total known
when the window began. Totals are integers (values scaled by a power of ten), so that differences lose nothing, a
variance is never negative and no order of rows matters. Rows that became known at the same instant are peers: a total
holds all of them or none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from feature_store import clocks
from feature_store.definition import Age, Aggregate, Expression, FeatureView, Lag, Latest, Lookup, Spine, interval

OWN = "\ue000"  # begins the names of our own columns, beside which a user's may have any; none of those may begin so


def quote(name: str) -> str:
    """A name as an SQL identifier.

    >>> print(quote('say "x" twice'))
    "say ""x"" twice"
    """
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text as an SQL literal.

    >>> print(literal("it's"))
    'it''s'
    """
    return "'" + text.replace("'", "''") + "'"


def own(name: str) -> str:
    """A column of ours as an SQL identifier, unlike any of the user's: `_n` or `y0` may be columns of theirs.

    >>> own("n") == quote(OWN + "n")
    True
    """
    return quote(OWN + name)


N, KNOWN, ENTITY, ZONE = own("n"), own("known"), own("entity"), own("zone")
EVERYONE = OWN + "everyone"


def commas(parts: Iterable[str]) -> str:
    return ", ".join(parts)


def spine_sql(spine: Spine, relation: str) -> str:
    """The spine's rows numbered in their order (`N`), with prediction time, the columns that views meet by, and the
    time zone (`ZONE`) whose days are counted, where there is one.
    """
    entities = "".join(f", ({sql}) as {quote(name)}" for name, sql in spine.entities.items())
    entities += f", ({spine.calendar}) as {ZONE}" if spine.calendar else ""
    return (
        f"select *{entities} from (select row_number() over () as {N}, *, ({spine.prediction_time}) as prediction_time "
        f"from (select * from {relation}))"
    )


def _ago(time: str, duration: str, zone: str | None, *, exact: bool = False) -> str:
    """SQL of a time less a duration: in days, weeks, months and years of a zone's calendar, where there is one.

    Args:
        exact: missing where there is no such day; else the moment at which it would have been.
    """
    if zone is None or duration.endswith(("m", "h")):
        return f"{time} - {interval(duration)}"
    return (clocks.met if exact else clocks.moved)(time, f"- {interval(duration)}", zone)


def row_sql(features: Sequence[Expression], spine: str, kept: Sequence[str]) -> str:
    """The features of the row itself beside the spine's columns to keep."""
    columns = [N, *map(quote, kept), *(f"({feature.sql}) as {quote(feature.name)}" for feature in features)]
    return f"select {commas(columns)} from {spine}"


def lookup_sql(lookup: Lookup, spine: str, table: str) -> str:
    """What the static table adds, one row for each row of the spine."""
    on = " and ".join(f"spine.{quote(key)} = {quote(lookup.name)}.{quote(key)}" for key in lookup.key)
    columns = commas(f"({feature.sql}) as {quote(feature.name)}" for feature in lookup.features)
    return f"select spine.{N}, {columns} from {spine} as spine left join {table} as {quote(lookup.name)} on {on}"


def reach_sql(view: FeatureView, spine: str, zone: str | None = None) -> str:
    """The time up to which rows count no more for any row of the spine; null where they always may.

    A calendar's days may begin up to a day earlier than as many times 24 hours.
    """
    reaches: list[str | None] = []
    for feature in view.features:
        if isinstance(feature, Lag):
            reaches.append(None)  # it may have become known long before its event
        else:
            reaches += feature.windows if isinstance(feature, Aggregate) else [feature.max_age or view.ttl]
    first = "min(prediction_time)" if zone is None else "min(prediction_time) - interval '2 day'"
    earliest = [f"{first} - {interval(reach)}" for reach in dict.fromkeys(reaches) if reach]
    return f"select {f'least({commas(earliest)})' if all(reaches) else 'null'} from {spine}"


@dataclass(frozen=True)
class Term:
    """A quantity with running totals: its count `<x>_n`, sum `<x>_s` and sum of squares `<x>_q`."""

    x: str
    value: str  # SQL of an integer, or of anything where only a count is asked
    scale: int  # digits after the point that the integer holds
    sums: bool
    squares: bool

    @property
    def cell(self) -> str:
        return own(self.x)

    def total(self, part: str) -> str:
        return own(f"{self.x}_{part}")

    def totals(self) -> list[str]:
        sum_type = "bigint" if self.scale == 0 else "hugeint"  # half the width to sort where values are not scaled
        columns = [f"count({self.cell}) over known as {self.total('n')}"]
        if self.sums:
            columns.append(f"(sum({self.cell}) over known)::{sum_type} as {self.total('s')}")
        if self.squares:
            columns.append(f"sum({self.cell}::hugeint * {self.cell}) over known as {self.total('q')}")
        return columns


def _scale(feature: Aggregate) -> int:
    return 0 if feature.function in ("count", "rate") else feature.decimals


def _value(feature: Aggregate) -> str:
    if feature.column is None:
        return "1"
    if feature.function == "count":
        return f"case when ({feature.column}) is not null then 1 end"
    number = f"({feature.column})::double"
    scaled = f"round({number} * 1e{feature.decimals})"
    integer = f"({number} <> 0)::bigint" if feature.function == "rate" else f"{scaled}::bigint"
    return f"case when isfinite({number}) then {integer} end"


def terms(view: FeatureView) -> dict[str, Term]:
    """The distinct quantities that a view's aggregates need: SQL of the value -> term."""
    found: dict[str, Term] = {}
    for feature in view.features:
        if isinstance(feature, Aggregate):
            value = _value(feature)
            before = found.get(value, Term(f"x{len(found)}", value, _scale(feature), sums=False, squares=False))
            sums = before.sums or feature.function != "count"
            found[value] = replace(before, sums=sums, squares=before.squares or feature.function == "std")
    return found


def known_sql(view: FeatureView, source: str, as_of: str, columns: Iterable[str]) -> str:
    """The source's rows that a view may see: with an entity, known by `as_of`, and as its `where` says."""
    conditions = [f"available_at <= {as_of}", *(f"{quote(name)} is not null" for name in view.entity)]
    conditions += [f"({view.where})"] if view.where else []
    kept = commas([*map(quote, view.entity), "available_at", *columns])
    return f"select {kept} from {source} where {' and '.join(conditions)}"


def view_sql(view: FeatureView, spine: str, source: str, as_of: str, *, numbered: bool, zone: str | None = None) -> str:
    """Every aggregate and age of the spine's rows that have the entity; `KNOWN` of the newest row, for `latest_sql`.

    With `numbered`, entities meet by a number given to each that the spine holds: texts are slow to sort. With a
    `zone`, SQL over the spine, windows of days and weeks are those of its calendar.
    """
    keys = [ENTITY] if numbered else [quote(name) for name in view.entity]
    windows = list(dict.fromkeys(w for f in view.features if isinstance(f, Aggregate) for w in f.windows))
    joins = [_asof(keys, "now", "spine.prediction_time")]
    joins += [_asof(keys, f"before_{window}", _ago("spine.prediction_time", window, zone)) for window in windows]
    columns, needed = [f"spine.{N}"], terms(view)
    if any(isinstance(feature, Latest) for feature in view.features):
        columns += [f"spine.{quote(name)}" for name in view.entity]
        columns += ["spine.prediction_time", f"now.available_at as {KNOWN}"]
    for feature in view.features:
        if isinstance(feature, Aggregate):
            term = needed[_value(feature)]
            for name, window in feature.columns().items():
                columns.append(f"{_aggregate(feature, term, window)} as {quote(name)}")
        elif isinstance(feature, Age):
            hours = "epoch(spine.prediction_time - now.available_at) / 3600"
            columns.append(f"{_fresh(view, feature, 'now.available_at', hours)} as {quote(feature.name)}")
    tables = _tables(view, spine, source, as_of, keys, numbered=numbered, zone=zone)
    return f"with {tables} select {commas(columns)} from predicted as spine {' '.join(joins)}"


def _tables(
    view: FeatureView, spine: str, source: str, as_of: str, keys: Sequence[str], *, numbered: bool, zone: str | None
) -> str:
    """What a view joins: the rows `predicted`, and the running `totals` of the rows known."""
    needed, entity = terms(view), commas(map(quote, view.entity))
    someone = " and ".join(f"{quote(name)} is not null" for name in view.entity)
    calendar = f", {ZONE}" if zone else ""
    predicted = f"select {N}, {entity}, prediction_time{calendar} from {spine} where {someone}"
    known = known_sql(view, source, as_of, (f"{term.value} as {term.cell}" for term in needed.values()))
    tables = {}
    if numbered:
        tables["entities"] = (
            f"select *, row_number() over () as {ENTITY} from (select distinct {entity} from ({predicted}))"
        )
        predicted, known = (f"select * from ({rows}) join entities using ({entity})" for rows in (predicted, known))
    if needed:
        totals = commas(column for term in needed.values() for column in term.totals())
        order = f"partition by {commas(keys)} order by available_at"
        known = f"select {commas(keys)}, available_at, {totals} from ({known}) window known as ({order})"
    tables |= {"predicted": predicted, "totals": known}
    once = () if needed else ("predicted", "totals")  # without windows they are read once; entities always twice
    kept = {name: "not materialized" if name in once else "materialized" for name in tables}
    return commas(f"{name} as {kept[name]} ({query})" for name, query in tables.items())


def _asof(keys: Sequence[str], alias: str, time: str) -> str:
    on = " and ".join(f"spine.{key} = {alias}.{key}" for key in keys)
    return f"asof left join totals as {alias} on {on} and {time} >= {alias}.available_at"


def _aggregate(feature: Aggregate, term: Term, window: str) -> str:
    """What was known at the prediction less what was known when the window began."""

    def within(part: str) -> str:
        column = term.total(part)
        return f"(coalesce(now.{column}, 0) - coalesce(before_{window}.{column}, 0))"

    n, scale = within("n"), term.scale
    if feature.function == "count":
        return n
    if feature.function == "sum":
        return f"{within('s')} / 1e{scale}"
    if feature.function == "std":
        spread = f"({n} * {within('q')} - {within('s')}::hugeint * {within('s')})::double"
        return f"case when {n} > 1 then sqrt({spread} / ({n}::double * ({n} - 1))) / 1e{scale} end"
    return f"case when {n} > 0 then {within('s')} / ({n} * 1e{scale}) end"


def latest_sql(view: FeatureView, joined: str, source: str, as_of: str) -> str:
    """The values of the newest known row for each row of the spine; several where some became known together."""
    wanted = [feature for feature in view.features if isinstance(feature, Latest)]
    values = [f"({feature.column}) as {own(f'y{index}')}" for index, feature in enumerate(wanted)]
    known = known_sql(view, source, as_of, ["event_time", *values])
    on = " and ".join(f"joined.{quote(name)} = known.{quote(name)}" for name in view.entity)
    columns = [
        f"{_fresh(view, feature, KNOWN, f'known.{own(place)}')} as {quote(feature.name)}"
        for place, feature in ((f"y{index}", feature) for index, feature in enumerate(wanted))
    ]
    return (
        f"select joined.{N}, known.event_time, {commas(columns)} from {joined} as joined "
        f"join ({known}) as known on {on} and joined.{KNOWN} = known.available_at"
    )


def one_of_peers_sql(view: FeatureView, latest: str) -> str:
    """Of rows known at the same instant the one whose event is newest; of those, the one with the largest values."""
    names = [quote(feature.name) for feature in view.features if isinstance(feature, Latest)]
    order = commas(f"{column} desc nulls last" for column in ["event_time", *names])
    return f"select * from {latest} qualify row_number() over (partition by {N} order by {order}) = 1"


def _fresh(view: FeatureView, feature: Latest | Age, known: str, value: str) -> str:
    max_age = feature.max_age or view.ttl
    return f"case when {known} > prediction_time - {interval(max_age)} then {value} end" if max_age else value


def revised_sql(view: FeatureView, source: str, as_of: str) -> str:
    """Whether the source tells of one moment of an entity more than once."""
    known = known_sql(view, source, as_of, ["event_time"])
    moment = commas([*map(quote, view.entity), "event_time"])
    return f"select exists (select 1 from ({known}) group by {moment} having count(*) > 1)"


def lag_sql(
    view: FeatureView, time: str, names: Mapping[str, str], spine: str, source: str, as_of: str, *, revised: bool
) -> str:
    """The lags that look at one time, for each row of the spine that has them.

    Args:
        time: SQL over the spine's columns.
        names: column -> SQL of its value.
        revised: a moment may be told of more than once.
    """
    values = [f"({column}) as {own(f'y{index}')}" for index, column in enumerate(names.values())]
    known = known_sql(view, source, as_of, ["event_time", *values])
    on = "".join(f"spine.{quote(name)} = known.{quote(name)} and " for name in view.entity)
    on += f"known.event_time = {time}"
    columns = commas(f"known.{own(f'y{index}')} as {quote(name)}" for index, name in enumerate(names))
    found = (
        f"select spine.{N}, {columns} from {spine} as spine join ({known}) as known on {on} "
        "where known.available_at <= spine.prediction_time"
    )
    if not revised:
        return found
    order = commas(
        f"known.{each} desc nulls last" for each in ("available_at", *(own(f"y{i}") for i in range(len(names))))
    )
    return f"{found} qualify row_number() over (partition by spine.{N} order by {order}) = 1"


def lags(view: FeatureView, zone: str | None = None) -> dict[str, dict[str, str]]:
    """The columns of a view's lags and the SQL of their values, by the time that they look at."""
    found: dict[str, dict[str, str]] = {}
    for feature in view.features:
        if isinstance(feature, Lag):
            for name, before in feature.columns().items():
                time = f"spine.{quote(feature.of)}::timestamp"
                time = _ago(time, before, zone, exact=True) if before else time
                found.setdefault(time, {})[name] = feature.column
    return found


def assemble_sql(row: str, kept: Sequence[str], places: Mapping[str, str]) -> str:
    """Every feature from the table it lies in, beside the kept columns of the row."""
    tables = {table: f"part{index}" for index, table in enumerate(dict.fromkeys([row, *places.values()]))}
    columns = [f"{tables[row]}.{each}" for each in (N, *map(quote, kept))]
    columns += [f"{tables[table]}.{quote(name)}" for name, table in places.items()]
    joins = " ".join(f"left join {table} as {alias} using ({N})" for table, alias in tables.items() if table != row)
    return f"select {commas(columns)} from {row} as {tables[row]} {joins}"
