"""Renders HTML pages from the templates of this folder. Pages load and run nothing."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refit.plain_text import visible
from refit.reports.palette import DARK, LIGHT, PRINT, variables

if TYPE_CHECKING:
    from jinja2 import Environment, Template
    from markupsafe import Markup

__all__ = ["count", "fixed", "marked", "moment", "money", "percent", "render", "templates"]


def render(page: str | Template | list[str | Template], /, **values: Any) -> str:
    """Render a page: all values are escaped, invisible characters are made visible, a missing value is an error.

    Args:
        page: a template, the name of one in this folder, or names of which the first that exists is meant.
    """
    return visible(templates().get_or_select_template(page).render(**values))


@cache
def templates() -> Environment:
    """The templates of this folder, with their filters and the colours of all pages."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, loader=FileSystemLoader(Path(__file__).parent)
    )
    environment.filters |= {"fixed": fixed, "count": count, "percent": percent, "moment": moment, "marked": marked}
    themes = {"light": LIGHT, "dark": DARK, "print": PRINT}
    environment.globals["colours"] = {name: Markup(variables(colours)) for name, colours in themes.items()}
    return environment


def marked(text: str) -> Markup:
    """Escape a text, and show what it has between backticks as code.

    >>> print(marked("`refit run` <b>"))
    <code>refit run</code> &lt;b&gt;
    """
    from markupsafe import Markup, escape

    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def fixed(value: float | None, digits: int = 4) -> str:
    """Format a number; None becomes a dash."""
    return "–" if value is None else f"{value:.{digits}f}"


def count(value: float) -> str:
    """Format a whole number with commas."""
    return f"{value:,.0f}"


def money(value: float) -> str:
    """Format an amount of any size to two digits without an exponent.

    >>> money(0.00000014), money(12.345), money(0.0)
    ('0.00000014', '12.35', '0')
    """
    if value >= 1:
        return f"{value:,.2f}"
    digits = -math.floor(math.log10(value)) + 1 if value > 0 else 0
    return f"{value:.{digits}f}"


def percent(value: float | None) -> str:
    """Format a share as a percentage."""
    return "–" if value is None else f"{value:.1%}"


def moment(time: datetime | str | None) -> str:
    """Format a time, stored as text or not, in UTC."""
    if time is None:
        return "the beginning"
    return f"{(datetime.fromisoformat(time) if isinstance(time, str) else time).astimezone(UTC):%Y-%m-%d %H:%M}"
