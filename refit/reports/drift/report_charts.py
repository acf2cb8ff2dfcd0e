"""Charts of the drift report: skill by window, columns by window, and distributions then and now."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from datetime import date

from markupsafe import Markup

from refit.drift.inputs import WORDS
from refit.reports.svg_charts import Plane, number, roomy, short, ticks
from refit.schemas.drift_decision import (
    BacktestWindow,
    CategoryDistribution,
    ColumnDrift,
    DayWindow,
    Distribution,
    JudgedWindow,
    NumberDistribution,
    PerformanceVerdict,
)

_Point = tuple[int, DayWindow, BacktestWindow | PerformanceVerdict]  # x, and what is shown there
_LABELS, _HEAD, _ROW = 208, 34, 21  # of the heat map: width of the names, height of the dates, height of a row
_LONGEST = 30  # characters of a name that are drawn; all are shown on hover


def performance(backtest: Sequence[BacktestWindow], windows: Sequence[JudgedWindow]) -> Markup:
    """Skill of each window, first of the backtest and then of production, with the usual range as a band."""
    gap = 1 if backtest and windows else 0
    past = list(enumerate(backtest))
    now = [(len(backtest) + gap + index, window) for index, window in enumerate(windows)]
    measured = [window.performance for window in windows]
    shown: list[BacktestWindow | PerformanceVerdict] = [*backtest, *measured]
    values = [value for each in shown for value in (each.skill, each.lower, each.upper, each.estimated_skill)]
    values += [end for each in measured for end in each.usual or ()]
    finite = [value for value in values if value is not None]
    if not finite:
        return Markup("")
    plane = Plane((-0.6, len(past) + len(now) + gap - 0.4), roomy(finite), width=760, height=290, top=24)
    positions: list[tuple[int, DayWindow]] = [*past, *now]
    step = max(1, math.ceil(len(positions) / 16))
    marks = {float(x): _month_and_day(window.first) for x, window in positions[::step]}
    parts = [plane.axes("first day of the window", "skill", marks), *_bands(plane, now), *_mean(plane, measured)]
    parts += _heads(plane, len(past), len(past) + gap - 0.5 if now else None)
    of_past: list[_Point] = [(x, window, window) for x, window in past]
    of_now: list[_Point] = [(x, window, window.performance) for x, window in now]
    for points, kind in ((of_past, "baseline"), (of_now, "candidate")):
        parts += _whiskers(plane, points, kind)
        parts.append(plane.line([(x, _value(each.estimated_skill)) for x, _, each in points], f"estimated {kind}"))
        parts.append(plane.line([(x, _value(each.skill)) for x, _, each in points], kind))
        parts += [_point(plane, x, window, each, kind) for x, window, each in points]
    return plane.svg("skill of each window", *parts)


def _month_and_day(day: date) -> str:
    return f"{day:%m-%d}"


def _value(value: float | None) -> float:
    return math.nan if value is None else value


def _bands(plane: Plane, now: Sequence[tuple[int, JudgedWindow]]) -> Iterator[Markup]:
    for x, window in now:
        if (usual := window.performance.usual) is None:
            continue
        left, right, low, high = plane.x(x - 0.5), plane.x(x + 0.5), plane.y(usual[0]), plane.y(usual[1])
        yield Markup('<rect class="usual" x="{}" y="{}" width="{}" height="{}"/>').format(
            short(left), short(high), short(right - left), short(low - high)
        )
        yield Markup('<path class="margin" d="M{} {}H{}"/>').format(short(left), short(low), short(right))


def _mean(plane: Plane, measured: Sequence[PerformanceVerdict]) -> Iterator[Markup]:
    expected = next((each.expected for each in reversed(measured) if each.expected is not None), None)
    if expected is not None:
        yield plane.line([(plane.x_range[0], expected), (plane.x_range[1], expected)], "chance")


def _heads(plane: Plane, past: int, border: float | None) -> Iterator[Markup]:
    """Headings on the left and right of the border."""
    head = Markup('<text class="tick mid" x="{}" y="12">{}</text>')
    if past:
        yield head.format(short(plane.x((past - 1) / 2)), "backtest")
    if border is not None:
        middle = (max(border, plane.x_range[0]) + plane.x_range[1]) / 2
        yield head.format(short(plane.x(middle)), "in production")
        if past:
            yield plane.line([(border, plane.y_range[0]), (border, plane.y_range[1])], "border")


def _whiskers(plane: Plane, points: Sequence[_Point], kind: str) -> Iterator[Markup]:
    for x, _, each in points:
        if each.lower is not None and each.upper is not None:
            yield Markup('<path class="whisker {}" d="M{} {}V{}"/>').format(
                kind, short(plane.x(x)), short(plane.y(each.lower)), short(plane.y(each.upper))
            )


def _point(plane: Plane, x: float, window: DayWindow, each: BacktestWindow | PerformanceVerdict, kind: str) -> Markup:
    if each.skill is None:
        return Markup("")
    breached = isinstance(each, PerformanceVerdict) and each.breached
    threshold = each.threshold if isinstance(each, PerformanceVerdict) else None
    band = "" if each.lower is None else f" ({each.lower:.3f} to {each.upper:.3f})"
    limit = f", breached below {threshold:.3f}" if threshold is not None else ""
    title = f"{window}: skill {each.skill:.3f}{band}{limit}"
    return Markup('<circle class="dot {}" cx="{}" cy="{}" r="{}"><title>{}</title></circle>').format(
        "bad" if breached else kind, short(plane.x(x)), short(plane.y(each.skill)), 6 if breached else 4, title
    )


def heat_map(columns: Sequence[str], windows: Sequence[JudgedWindow]) -> Markup:
    """A row for each column and a cell for each window: its largest effect as a multiple of the threshold."""
    if not columns or not windows:
        return Markup("")
    width = min(96.0, (760 - _LABELS) / len(windows))
    plane = Plane((0, 1), (0, 1), width=760, height=_HEAD + _ROW * len(columns) + 2)
    parts = []
    for index, window in enumerate(windows):
        x = _LABELS + (index + 0.5) * width
        parts.append(
            Markup('<text class="tick mid" x="{}" y="{}">{}</text>').format(
                short(x), _HEAD - 10, _month_and_day(window.first)
            )
        )
    by_column = [{each.column: each for each in window.inputs.columns} for window in windows]
    for row, column in enumerate(columns):
        y = _HEAD + row * _ROW
        parts.append(
            Markup('<text class="end label" x="{}" y="{}"><title>{}</title>{}</text>').format(
                _LABELS - 10, y + 14.5, column, column if len(column) <= _LONGEST else column[: _LONGEST - 1] + "…"
            )
        )
        for index, window in enumerate(windows):
            parts.append(_cell(_LABELS + index * width, y, width, by_column[index].get(column), column, str(window)))
    return plane.svg("drift of each column in each window", *parts)


def _cell(x: float, y: float, width: float, drift: ColumnDrift | None, column: str, when: str) -> Markup:
    box = Markup('x="{}" y="{}" width="{}" height="{}" rx="2"').format(
        short(x + 1), short(y + 1), short(width - 2), _ROW - 2
    )
    if drift is None:
        return Markup('<rect class="empty" {}><title>{}</title></rect>').format(box, f"{column}, {when}: not measured")
    ratio = drift.severity
    kind, opacity = _colour(ratio)
    title = f"{column}, {when}: {'; '.join(_effects(drift))}" + (" · drifted" if drift.breached else "")
    cell = Markup('<rect class="cell {}{}" {} fill-opacity="{:.2f}"><title>{}</title></rect>').format(
        kind, " breached" if drift.breached else "", box, opacity, title
    )
    if ratio < 1:
        return cell
    return cell + Markup('<text class="over mid" x="{}" y="{}">{}</text>').format(
        short(x + width / 2), short(y + 14.5), f"{ratio:.1f}×" if ratio < 100 else "99×+"
    )


def _effects(drift: ColumnDrift) -> Iterator[str]:
    for name, size, limit in drift.comparisons:
        yield f"{WORDS[name]} {size:.3f} of {limit:.3f}"


def _colour(ratio: float) -> tuple[str, float]:
    return ("over", 0.72 + 0.28 * min((ratio - 1) / 2, 1)) if ratio >= 1 else ("under", 0.05 + 0.5 * ratio)


def legend() -> Markup:
    """Legend of the colours of the heat map."""
    plane = Plane((0, 1), (0, 1), width=760, height=26)
    parts, x = [], 110.0
    for ratio, text in (
        (0.0, "0"),
        (0.5, "half"),
        (0.95, "just below"),
        (1.0, "1× what is drift"),
        (3.0, "3× and more"),
    ):
        kind, opacity = _colour(ratio)
        parts.append(
            Markup('<rect class="cell {}" x="{}" y="4" width="22" height="16" rx="2" fill-opacity="{:.2f}"/>').format(
                kind, short(x), opacity
            )
        )
        parts.append(Markup('<text class="tick" x="{}" y="16">{}</text>').format(short(x + 28), text))
        x += 46 + 5.8 * len(text)
    parts.append(
        Markup('<rect class="cell breached" x="{}" y="4" width="22" height="16" rx="2" fill-opacity="0"/>').format(
            short(x)
        )
    )
    parts.append(Markup('<text class="tick" x="{}" y="16">drifted</text>').format(short(x + 28)))
    return plane.svg("legend", *parts)


def distribution(each: Distribution) -> Markup:
    """One column then and now."""
    return _categories(each) if isinstance(each, CategoryDistribution) else _numbers(each)


def _numbers(each: NumberDistribution) -> Markup:
    edges = each.edges
    if len(edges) < 2:
        return Markup("")
    plane = Plane((edges[0], edges[-1]), (0, 1.05 * max(*each.then, *each.now, 1e-9)), width=320, height=180, bottom=22)
    marks = {tick: number(tick) for tick in ticks(*plane.x_range, wanted=6)}
    areas = [
        Markup('<path class="{}" d="{}"/>').format(kind, _steps(plane, edges, shares))
        for shares, kind in ((each.then, "area negative"), (each.now, "now"))
    ]
    return plane.svg(f"{each.column} then and now", plane.axes("", "share", marks), *areas)


def _steps(plane: Plane, edges: Sequence[float], shares: Sequence[float]) -> str:
    path = f"M{short(plane.x(edges[0]))} {short(plane.y(0))}"
    for index, share in enumerate(shares):
        path += f"V{short(plane.y(share))}H{short(plane.x(edges[index + 1]))}"
    return f"{path}V{short(plane.y(0))}"


def _categories(each: CategoryDistribution) -> Markup:
    rows = list(zip(each.names, each.then, each.now, strict=True))
    others = (("other names", each.other), ("unseen before", each.unseen))
    rows += [(f"({word})", *shares) for word, shares in others if any(shares)]
    most = max([share for _, *shares in rows for share in shares] or [1.0]) or 1.0
    plane = Plane((0, most), (0, 1), width=320, height=24 * len(rows) + 8, left=104, right=96, top=0)
    parts = []
    for row, (name, then, now) in enumerate(rows):
        y = 24 * row + 4
        parts.append(
            Markup('<text class="end label" x="98" y="{}"><title>{}</title>{}</text>').format(
                y + 13, name, name if len(name) <= 18 else name[:17] + "…"
            )
        )
        for share, kind, low in ((then, "then", 0), (now, "candidate", 10)):
            parts.append(
                Markup('<rect class="bar {}" x="{}" y="{}" width="{}" height="8" rx="1.5"/>').format(
                    kind, plane.left, y + low, short(max(plane.x(share) - plane.left, 0.6))
                )
            )
        parts.append(
            Markup('<text class="tick" x="{}" y="{}">{}</text>').format(
                short(plane.x(max(then, now)) + 6), y + 13, f"{then:.1%} → {now:.1%}"
            )
        )
    return plane.svg(f"{each.column} then and now", *parts)
