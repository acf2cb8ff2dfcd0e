"""Renders HTML pages from the templates of this folder. Pages load nothing, and run only scripts of this folder.

Each page says so in a content security policy: a browser refuses whatever else a text from data might smuggle in.
"""

from __future__ import annotations

import base64
import hashlib
import math
import re
from datetime import UTC, datetime, tzinfo
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refit.plain_text import number, signed, visible
from refit.reports.palette import DARK, LIGHT, PRINT, variables

if TYPE_CHECKING:
    from jinja2 import Environment, Template
    from markupsafe import Markup

__all__ = ["count", "fixed", "marked", "moment", "money", "percent", "render", "templates"]


def render(page: str | Template | list[str | Template], /, *, zone: tzinfo = UTC, **values: Any) -> str:
    """Render a page: all values are escaped, invisible characters are made visible, a missing value is an error.

    Args:
        page: a template, the name of one in this folder, or names of which the first that exists is meant.
        zone: the time zone of all times on the page.
    """
    return visible(templates().get_or_select_template(page).render(zone=zone, **values))


@cache
def templates() -> Environment:
    """The templates of this folder, with their filters and the colours of all pages."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined, pass_context
    from markupsafe import Markup

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, loader=FileSystemLoader(Path(__file__).parent)
    )
    in_zone = pass_context(lambda page, time: moment(time, page["zone"]))
    environment.filters |= {"fixed": fixed, "signed": signed, "count": count, "percent": percent, "moment": in_zone}
    environment.filters["marked"] = marked
    themes = {"light": LIGHT, "dark": DARK, "print": PRINT}
    scripts = {path.stem: path.read_text(encoding="utf-8") for path in sorted(Path(__file__).parent.glob("*.js"))}
    environment.globals["scripts"] = {name: Markup(script) for name, script in scripts.items()}
    environment.globals["script_hashes"] = [_hash(script) for script in scripts.values()]
    environment.globals["colours"] = {name: Markup(variables(colours)) for name, colours in themes.items()}
    return environment


def marked(text: str) -> Markup:
    """Escape a text, and show what it has between backticks as code.

    >>> print(marked("`refit run` <b>"))
    <code>refit run</code> &lt;b&gt;
    """
    from markupsafe import Markup, escape

    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def _hash(script: str) -> str:
    """The source of a script as a content security policy names it."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def fixed(value: float | None, digits: int = 4) -> str:
    """Format a number; None becomes a dash, and a small one keeps three significant digits unless few are asked for."""
    return number(value, digits) if value is None or digits >= 3 else f"{value:.{digits}f}"


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


def moment(time: datetime | str | None, zone: tzinfo = UTC) -> str:
    """Format a time, stored as text or not, in a time zone.

    >>> from zoneinfo import ZoneInfo
    >>> moment("2024-01-01T00:30:00Z"), moment("2024-01-01T00:30:00Z", ZoneInfo("America/New_York"))
    ('2024-01-01 00:30', '2023-12-31 19:30')
    """
    if time is None:
        return "the beginning"
    return f"{(datetime.fromisoformat(time) if isinstance(time, str) else time).astimezone(zone):%Y-%m-%d %H:%M}"
