"""The colours of every page and chart, in light and in dark: each role has one colour everywhere."""

from __future__ import annotations

LIGHT = {
    "paper": "#fbfbf9",
    "panel": "#ffffff",
    "ink": "#1d2730",
    "quiet": "#5b6671",
    "line": "#e0e4e6",
    "faint": "#f1f3f3",
    "candidate": "#0f6e84",
    "champion": "#b86418",
    "baseline": "#7b8692",
    "anchor": "#7a5ea8",
    "good": "#23744a",
    "good-soft": "#e3f1e8",
    "warn": "#865c07",
    "warn-soft": "#f8f0d8",
    "bad": "#a83a28",
    "bad-soft": "#f8e8e4",
}
DARK = {
    "paper": "#12171c",
    "panel": "#191f26",
    "ink": "#e4e8eb",
    "quiet": "#97a3ae",
    "line": "#2c353e",
    "faint": "#20272f",
    "candidate": "#4bb6cd",
    "champion": "#e39a55",
    "baseline": "#7b8794",
    "anchor": "#ab92d6",
    "good": "#5fc08a",
    "good-soft": "#16291f",
    "warn": "#e0b04c",
    "warn-soft": "#2b2412",
    "bad": "#ea8572",
    "bad-soft": "#321d19",
}
PRINT = LIGHT | {
    "paper": "#ffffff",
    "ink": "#000000",
    "quiet": "#555555",
    "line": "#cccccc",
    "faint": "#f4f4f4",
    "good-soft": "#ffffff",
    "warn-soft": "#ffffff",
    "bad-soft": "#ffffff",
}
SERIES = ("candidate", "champion", "anchor", "good", "warn", "bad", "baseline", "quiet")  # of groups, in this order
ROLES = ("candidate", "champion", "anchor", "baseline")  # of models; also the colours of classes, in this order


def variables(colours: dict[str, str]) -> str:
    """Colours as CSS variables.

    >>> variables({"ink": "#000000", "paper": "#ffffff"})
    '--ink:#000000;--paper:#ffffff'
    """
    return ";".join(f"--{name}:{colour}" for name, colour in colours.items())
