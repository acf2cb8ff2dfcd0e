"""Compiles definitions to DuckDB SQL; the same definition always gives the same text.

Aggregates over any window cost two look-ups of running totals: the total known at the prediction minus the total known
when the window began. Totals are integers (values scaled by a power of ten), so that differences are exact, a variance
is never negative and the order of rows does not matter. Rows that became known at the same instant are peers: a total
contains all of them or none.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from feature_store import clocks
from feature_store.definition import Age, Aggregate, Expression, FeatureView, Lag, Latest, Lookup, Spine, interval
from feature_store.definition import Sequence as SequenceOf
from feature_store.sql_text import quote

OWN = "\ue000"  # prefix of the engine's own columns; no column of a user may begin with it


def own(name: str) -> str:
    """The SQL identifier of one of the engine's own columns; users may have columns such as `_n` or `y0`.

    >>> own("n") == quote(OWN + "n")
    True
    """
    return quote(OWN + name)


N, KNOWN_AT, ENTITY, ZONE = own("n"), own("known"), own("entity"), own("zone")
EVERYONE = OWN + "everyone"
SINCE, UNTIL = own("since"), own("until")  # of a source of versions: when a version was known, and a newer one


def commas(parts: Iterable[str]) -> str:
    return ", ".join(parts)


def spine_sql(spine: Spine, relation: str) -> str:
    """Number the spine's rows in order (`N`) and add prediction time, entity columns and, if set, the zone (`ZONE`)."""
    entities = "".join(f", ({sql}) as {quote(name)}" for name, sql in spine.entities.items())
    entities += f", ({spine.calendar}) as {ZONE}" if spine.calendar else ""
    return (
        f"select *{entities} from (select row_number() over () as {N}, *, ({spine.prediction_time}) as prediction_time "
        f"from (select * from {relation}))"
    )


def ago(time: str, duration: str, zone: str | None, *, exact: bool = False) -> str:
    """SQL of a time minus a duration; days and longer follow the zone's calendar, if there is one.

    Args:
        exact: missing if there is no such day; else the moment at which it would have been.
    """
    if zone is None or duration.endswith(("m", "h")):
        return f"{time} - {interval(duration)}"
    return (clocks.met if exact else clocks.moved)(time, f"- {interval(duration)}", zone)


def row_sql(features: Sequence[Expression], spine: str, spine_columns: Sequence[str]) -> str:
    """Select the given columns of the spine and the features of the row itself."""
    columns = [N, *map(quote, spine_columns), *(f"({feature.sql}) as {quote(feature.name)}" for feature in features)]
    return f"select {commas(columns)} from {spine}"


def lookup_sql(lookup: Lookup, spine: str, table: str) -> str:
    """Select the features of a static table, one row for each row of the spine."""
    on = " and ".join(f"spine.{quote(key)} = {quote(lookup.name)}.{quote(key)}" for key in lookup.key)
    columns = commas(f"({feature.sql}) as {quote(feature.name)}" for feature in lookup.features)
    return f"select spine.{N}, {columns} from {spine} as spine left join {table} as {quote(lookup.name)} on {on}"


def reach_sql(view: FeatureView, spine: str, zone: str | None = None) -> str:
    """Select the time up to which source rows cannot count for any row of the spine; null if there is no such time.

    Calendar days may begin up to a day earlier than the same number of 24-hour days.
    """
    reaches: list[str | None] = []
    for feature in view.features:
        if isinstance(feature, Lag):
            reaches.append(None)  # a row may become known long before its event
        elif isinstance(feature, Aggregate):
            reaches += feature.windows
        else:
            reaches.append(feature.window if isinstance(feature, SequenceOf) else feature.max_age or view.ttl)
    first = "min(prediction_time)" if zone is None else "min(prediction_time) - interval '2 day'"
    earliest = [f"{first} - {interval(reach)}" for reach in dict.fromkeys(reaches) if reach]
    return f"select {f'least({commas(earliest)})' if all(reaches) else 'null'} from {spine}"


@dataclass(frozen=True)
class Term:
    """A quantity of which there are running totals."""

    x: str
    value: str  # SQL of an integer, or of any value if only its count is needed
    scale: int  # decimal digits that the integer contains
    sums: bool
    squares: bool

    @property
    def cell(self) -> str:
        return own(self.x)

    @property
    def parts(self) -> str:
        """The totals: `n` is the count of values, `s` their sum, `q` the sum of their squares."""
        return "n" + "s" * self.sums + "q" * self.squares

    def total(self, part: str, window: str) -> str:
        return own(f"{self.x}_{part}_{window}")


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
    """The distinct quantities of a view's aggregates: SQL of the value -> term."""
    by_value: dict[str, Term] = {}
    for feature in view.features:
        if isinstance(feature, Aggregate):
            value = _value(feature)
            before = by_value.get(value, Term(f"x{len(by_value)}", value, _scale(feature), sums=False, squares=False))
            sums = before.sums or feature.function != "count"
            by_value[value] = replace(before, sums=sums, squares=before.squares or feature.function == "std")
    return by_value


def known_sql(view: FeatureView, source: str, as_of: str, columns: Iterable[str], *, versions: bool = False) -> str:
    """Select the source's rows that a view may use: with an entity, known by `as_of`, and matching its `where`.

    Args:
        versions: whether the source has several versions of a row; then `SINCE` and `UNTIL` are selected too.
    """
    since = SINCE if versions else "available_at"
    times = [
        "available_at",
        *([SINCE, f"case when {UNTIL} <= {as_of} then {UNTIL} end as {UNTIL}"] if versions else []),
    ]
    conditions = [f"{since} <= {as_of}", *(f"{quote(name)} is not null" for name in view.entity)]
    conditions += [f"({view.where})"] if view.where else []
    cells = commas([*map(quote, view.entity), *times, *columns])
    return f"select {cells} from {source} where {' and '.join(conditions)}"


def has_ends(view: FeatureView, *, versions: bool) -> bool:
    """Whether rows leave windows in another order than they became known: events by their own time, and versions."""
    return versions or view.windows_by == "event_time"


def events_sql(view: FeatureView, entities: str, source: str, as_of: str, *, versions: bool = False) -> str:
    """Select the visible rows of some entities: `ENTITY`, `KNOWN_AT`, and the integers of each term.

    A version counts in a window from when it was known until a newer one was, or until the window has left the row
    behind; by event times a row does from when it was known and had happened. So it adds to the totals of those known,
    and later, once, to the totals of those that have ended: where rows have ends, they are named by the windows.
    """
    cells = [f"({term.value})::bigint as {term.cell}" for term in terms(view).values()]
    since, own_time = SINCE if versions else "available_at", view.windows_by == "event_time"
    start = f"greatest({since}, event_time)" if own_time else since
    times = [f"{start}::timestamp as {KNOWN_AT}"]
    if has_ends(view, versions=versions):
        for window in windows_of(view):
            end = f"{view.windows_by} + {interval(window)}"
            end = f"least({UNTIL}, {end})" if versions else end
            times.append(f"greatest({start}, {end})::timestamp as {own(window)}")
    visible = known_sql(view, source, as_of, [*(["event_time"] if own_time else []), *cells], versions=versions)
    listed = commas([ENTITY, *times, *(term.cell for term in terms(view).values())])
    dated = " where event_time is not null" if own_time else ""
    return f"select {listed} from ({visible}) join {entities} using ({commas(map(quote, view.entity))}){dated}"


def moments_sql(view: FeatureView, spine: str, zone: str | None) -> str:
    """Select the prediction times (`KNOWN_AT`), and when each window began, named by the window, in the spine's order.

    With a `zone`, SQL over the spine, windows of days and weeks follow its calendar.
    """
    times = {KNOWN_AT: "spine.prediction_time"}
    times |= {own(window): ago("spine.prediction_time", window, zone) for window in windows_of(view)}
    return f"select {commas(f'({time})::timestamp as {name}' for name, time in times.items())} from {spine} as spine"


def view_sql(view: FeatureView, spine: str, totals: str, *, versions: bool = False) -> str:
    """Select all aggregates and ages for the spine's rows, and `KNOWN_AT` for `latest_sql`.

    Of a source of `versions` only aggregates are selected.

    Args:
        totals: a relation in the spine's order: the row's number `N`, the time `KNOWN_AT` of the newest row that was
            known, and what each total grew by in each window.
    """
    columns, needed = [f"spine.{N}"], terms(view)
    if not versions and any(isinstance(feature, Latest) for feature in view.features):
        columns += [f"spine.{quote(name)}" for name in view.entity]
        columns += ["spine.prediction_time", f"totals.{KNOWN_AT}"]
    for feature in view.features:
        if isinstance(feature, Aggregate):
            term = needed[_value(feature)]
            for name, window in feature.columns().items():
                columns.append(f"{_aggregate(feature, term, window)} as {quote(name)}")
        elif isinstance(feature, Age) and not versions:
            hours = f"epoch(spine.prediction_time - totals.{KNOWN_AT}) / 3600"
            columns.append(f"{fresh(view, feature, f'totals.{KNOWN_AT}', hours)} as {quote(feature.name)}")
    return (
        f"select {commas(columns)} from {spine} as spine positional join {totals} as totals where {same_row('totals')}"
    )


def same_row(other: str, row: str = "spine") -> str:
    """A condition of a positional join; an error where the rows of the relations do not belong together."""
    return f"if({row}.{N} = {other}.{N}, true, error('{other} is not in the order of its rows: the engine is broken'))"


def windows_of(view: FeatureView) -> list[str]:
    """The windows of a view's aggregates."""
    return list(dict.fromkeys(w for f in view.features if isinstance(f, Aggregate) for w in f.windows))


def _aggregate(feature: Aggregate, term: Term, window: str) -> str:
    """SQL of an aggregate, from what its totals grew by in the window."""
    n, s, q = (f"totals.{term.total(part, window)}" for part in "nsq")
    if feature.function == "count":
        return n
    if feature.function == "sum":
        return f"{s} / 1e{term.scale}"
    if feature.function == "std":
        spread = f"({n} * {q} - {s}::hugeint * {s})::double"
        return f"case when {n} > 1 then sqrt({spread} / ({n}::double * ({n} - 1))) / 1e{term.scale} end"
    return f"case when {n} > 0 then {s} / ({n} * 1e{term.scale}) end"


def latest_sql(view: FeatureView, joined: str, source: str, as_of: str) -> str:
    """Select the values of the newest known row for each row of the spine; peers give several rows."""
    wanted = [feature for feature in view.features if isinstance(feature, Latest)]
    values = [f"({feature.column}) as {own(f'y{index}')}" for index, feature in enumerate(wanted)]
    visible = known_sql(view, source, as_of, ["event_time", *values])
    on = " and ".join(f"joined.{quote(name)} = known.{quote(name)}" for name in view.entity)
    columns = [
        f"{fresh(view, feature, KNOWN_AT, f'known.{own(alias)}')} as {quote(feature.name)}"
        for alias, feature in ((f"y{index}", feature) for index, feature in enumerate(wanted))
    ]
    columns += [f"known.{own(f'y{index}')}" for index, feature in enumerate(wanted) if feature.max_age or view.ttl]
    return (
        f"select joined.{N}, known.event_time, {commas(columns)} from {joined} as joined "
        f"join ({visible}) as known on {on} and joined.{KNOWN_AT} = known.available_at"
    )


def one_of_peers_sql(view: FeatureView, latest: str) -> str:
    """Select one of several peers: the one with the newest event; of those, the one with the largest values."""
    wanted = [feature for feature in view.features if isinstance(feature, Latest)]
    values = [  # also of a feature that is too old, so that its age does not choose the row of the others
        own(f"y{index}") if feature.max_age or view.ttl else quote(feature.name) for index, feature in enumerate(wanted)
    ]
    order = commas(f"{column} desc nulls last" for column in ["event_time", *values])
    return f"select * from {latest} qualify row_number() over (partition by {N} order by {order}) = 1"


def fresh(view: FeatureView, feature: Latest | Age, known_at: str, value: str) -> str:
    max_age = feature.max_age or view.ttl
    return f"case when {known_at} > prediction_time - {interval(max_age)} then {value} end" if max_age else value


def revised_sql(view: FeatureView, source: str, as_of: str) -> str:
    """Select whether the source has several rows for one moment of an entity."""
    visible = known_sql(view, source, as_of, ["event_time"])
    moment = commas([*map(quote, view.entity), "event_time"])
    return f"select exists (select 1 from ({visible}) group by {moment} having count(*) > 1)"


def lag_sql(
    view: FeatureView,
    time: str,
    names: Mapping[str, str],
    spine: str,
    source: str,
    as_of: str,
    *,
    revised: bool,
    versions: bool = False,
) -> str:
    """Select the lags that refer to one time, for each row of the spine that has them.

    Args:
        time: SQL over the spine's columns.
        names: column -> SQL of its value.
        revised: whether there may be several rows for one moment.
        versions: whether there may be several versions of one row.
    """
    values = [f"({column}) as {own(f'y{index}')}" for index, column in enumerate(names.values())]
    visible = known_sql(view, source, as_of, ["event_time", *values], versions=versions)
    known = "known.available_at <= spine.prediction_time"
    if versions:
        known = (
            f"known.{SINCE} <= spine.prediction_time and (known.{UNTIL} > spine.prediction_time) is distinct from false"
        )
    on = "".join(f"spine.{quote(name)} = known.{quote(name)} and " for name in view.entity)
    on += f"known.event_time = {time}"
    columns = commas(f"known.{own(f'y{index}')} as {quote(name)}" for index, name in enumerate(names))
    matches = f"select spine.{N}, {columns} from {spine} as spine join ({visible}) as known on {on} where {known}"
    if not revised:
        return matches
    order = commas(
        f"known.{each} desc nulls last" for each in ("available_at", *(own(f"y{i}") for i in range(len(names))))
    )
    return f"{matches} qualify row_number() over (partition by spine.{N} order by {order}) = 1"


def lags(view: FeatureView, zone: str | None = None) -> dict[str, dict[str, str]]:
    """The columns of a view's lags and the SQL of their values, by the time that they refer to."""
    by_time: dict[str, dict[str, str]] = {}
    for feature in view.features:
        if isinstance(feature, Lag):
            for name, before in feature.columns().items():
                time = f"spine.{quote(feature.of)}::timestamp"
                time = ago(time, before, zone, exact=True) if before else time
                by_time.setdefault(time, {})[name] = feature.column
    return by_time


def assemble_sql(
    row: str,
    spine_columns: Sequence[str],
    tables_of: Mapping[str, str],
    in_order: Collection[str] = (),
    within: tuple[int, int] | None = None,
) -> str:
    """Select the given columns of the row, and every feature from its table.

    Args:
        in_order: tables that have every row of the spine, in its order.
        within: the first and the last number (`N`) of the rows to select; None selects all.
    """
    some = "" if within is None else f" where {N} between {within[0]} and {within[1]}"
    aliases = {table: f"part{index}" for index, table in enumerate(dict.fromkeys([row, *tables_of.values()]))}
    columns = [f"{aliases[row]}.{each}" for each in (N, *map(quote, spine_columns))]
    columns += [f"{aliases[table]}.{quote(name)}" for name, table in tables_of.items()]
    rows = {table: f"(select * from {table}{some}) as {alias}" for table, alias in aliases.items()}
    whole = [table for table in aliases if table != row and table in in_order]
    joins = [f"positional join {rows[table]}" for table in whole]
    joins += [
        f"left join {rows[table]} on {aliases[row]}.{N} = {alias}.{N}"
        for table, alias in aliases.items()
        if table != row and table not in in_order
    ]
    same = " and ".join(same_row(aliases[table], aliases[row]) for table in whole) or "true"
    return f"select {commas(columns)} from {rows[row]} {' '.join(joins)} where {same}"
