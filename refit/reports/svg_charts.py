"""Building blocks of inline SVG charts; colours come from the style of the page, for light, dark and print."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

__all__ = ["Plane", "Points", "number", "roomy", "short", "ticks", "within"]

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Plane:
    """A drawing area with linear axes; y grows upwards."""

    x_range: tuple[float, float]
    y_range: tuple[float, float]
    width: float = 360
    height: float = 270
    left: float = 52  # room for 10,000 next to the label
    right: float = 12
    top: float = 10
    bottom: float = 38

    def x(self, value: float) -> float:
        return self.left + _share(value, self.x_range) * (self.width - self.left - self.right)

    def y(self, value: float) -> float:
        return self.height - self.bottom - _share(value, self.y_range) * (self.height - self.top - self.bottom)

    def axes(self, x_label: str, y_label: str, x_ticks: Mapping[float, str] | None = None) -> Markup:
        """Grid lines, ticks and labels."""
        if x_ticks is None:
            x_ticks = {tick: number(tick) for tick in ticks(*self.x_range)}
        parts = []
        for tick in ticks(*self.y_range, wanted=5):
            y = short(self.y(tick))
            parts.append(f'<path class="grid" d="M{short(self.left)} {y}H{short(self.width - self.right)}"/>')
            parts.append(f'<text class="tick end" x="{short(self.left - 6)}" y="{y}" dy="3.5">{number(tick)}</text>')
        floor = self.height - self.bottom
        for tick, text in x_ticks.items():
            x = short(self.x(tick))
            parts.append(f'<text class="tick mid" x="{x}" y="{short(floor + 15)}">{escape(text)}</text>')
        parts.append(f'<path class="axis" d="M{short(self.left)} {short(floor)}H{short(self.width - self.right)}"/>')
        middle = (self.left + self.width - self.right) / 2
        parts.append(
            f'<text class="label mid" x="{short(middle)}" y="{short(self.height - 4)}">{escape(x_label)}</text>'
        )
        if y_label:
            parts.append(
                f'<text class="label mid" transform="translate(11 {short((self.top + floor) / 2)}) rotate(-90)">'
                f"{escape(y_label)}</text>"
            )
        return Markup("".join(parts))

    def line(self, points: Points, kind: str) -> Markup:
        """A line through points, interrupted at points that are not finite."""
        path, pen = [], "M"
        for x, y in points:
            if math.isfinite(x) and math.isfinite(y):
                path.append(f"{pen}{short(self.x(x))} {short(self.y(y))}")
                pen = "L"
            else:
                pen = "M"
        return Markup('<path class="line {}" d="{}"/>').format(kind, "".join(path))

    def dots(self, points: Points, kind: str, radius: float = 3) -> Markup:
        circles = (
            Markup('<circle class="dot {}" cx="{}" cy="{}" r="{}"/>').format(
                kind, short(self.x(x)), short(self.y(y)), radius
            )
            for x, y in points
            if math.isfinite(x) and math.isfinite(y)
        )
        return Markup("").join(circles)

    def svg(self, title: str, *parts: Markup) -> Markup:
        return Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
            short(self.width), short(self.height), title, Markup("").join(parts)
        )


def number(value: float) -> str:
    """Format the value of a tick briefly.

    >>> number(0.30000000000000004), number(1200.0), number(0.0)
    ('0.3', '1,200', '0')
    """
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def ticks(low: float, high: float, wanted: int = 6) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten) within a range.

    >>> ticks(0.0, 1.0)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    if not high > low:
        return [low]
    rough = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * nice for nice in (1, 2, 5, 10) if power * nice >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(multiple * step, 12) for multiple in range(first, last + 1)]


def roomy(values: Sequence[float]) -> tuple[float, float]:
    """A range a little wider than the values, for an axis."""
    room = 0.08 * max(max(values) - min(values), 1e-4)
    return min(values) - room, max(values) + room


def within(value: float, low: float, high: float) -> float:
    """Clip a value to a range."""
    return min(max(value, low), high)


def short(value: float) -> str:
    """Format a coordinate with one decimal."""
    return f"{value:.1f}".rstrip("0").rstrip(".")


def _share(value: float, span: tuple[float, float]) -> float:
    return (value - span[0]) / (span[1] - span[0]) if span[1] > span[0] else 0.5
