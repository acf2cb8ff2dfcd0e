"""The one place that prints: texts from data, people, files and events are shown as themselves, never obeyed.

Nothing else in Refit may make a console, write to standard output or use rich's markup; a test of the architecture
holds that. A plain `str` is always somebody's text, on one line. What is ours to style is made by `line`.
"""

from __future__ import annotations

import json
import logging
import sys
import traceback
from collections.abc import Iterable
from typing import IO, Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from refit.plain_text import one_line
from registry.secrets import redacted

__all__ = ["Terminal", "guard_logs", "line", "print_json", "say"]


class Terminal(Console):
    """rich's console without markup, emoji codes and highlighting, for which no character is a command."""

    def __init__(self, *, stderr: bool = False, file: IO[str] | None = None, width: int | None = None) -> None:
        super().__init__(stderr=stderr, file=file, width=width, markup=False, emoji=False, highlight=False)

    def render_str(self, text: str, **options: Any) -> Text:
        """A text as one line; rich calls this for whatever is printed, measured or put into a table."""
        shown = {name: options[name] for name in ("style", "justify", "overflow") if options.get(name)}
        return Text(one_line(text), **shown)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Segments of what is shown. A `Text` may have lines of its own; otherwise it is treated like any text."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=_lines(segment.text))


def _lines(text: str) -> str:
    return "\n".join(one_line(each) for each in text.split("\n"))


def line(*parts: str | tuple[str, str], style: str = "") -> Text:
    """Texts after one another on one line, each as it is, some of them in a style.

    >>> line(("Gate", "bold"), " [/x]").plain
    'Gate [/x]'
    """
    styled = [(part, "") if isinstance(part, str) else part for part in parts]
    return Text.assemble(*((one_line(text), how) for text, how in styled), style=style)


def say(text: object = "", *, stderr: bool = False) -> None:
    """One line of plain text, never wrapped, so that it can be copied, or read by a program."""
    stream = sys.stderr if stderr else sys.stdout
    stream.write(f"{one_line(text)}\n")
    stream.flush()


def guard_logs() -> None:
    """From now on no log of this process, of whatever library, repeats a secret or a control character.

    Prefect logs an error with what it came from: a driver's own error names the URI that it was given.
    """
    make = logging.getLogRecordFactory()
    if getattr(make, "guarded", False):
        return

    def guarded(*args: Any, **keywords: Any) -> logging.LogRecord:
        record = make(*args, **keywords)
        try:
            message = record.getMessage()
        except (TypeError, ValueError):  # the logging library says by itself that its arguments do not fit
            return record
        if (plain := _lines(message)) != message:
            record.msg, record.args = plain, ()
        if record.exc_info and record.exc_info[0] is not None:
            record.exc_text = _lines("".join(traceback.format_exception(*record.exc_info)).rstrip("\n"))
        return record

    guarded.guarded = True  # type: ignore[attr-defined]
    logging.setLogRecordFactory(guarded)


def print_json(value: Any) -> None:
    """One JSON object as the last line of standard output; JSON escapes what is no ASCII by itself."""
    plain = json.loads(json.dumps(value, allow_nan=False, default=str))
    sys.stdout.write(json.dumps(_without_secrets(plain)) + "\n")
    sys.stdout.flush()


def _without_secrets(value: Any) -> Any:
    """JSON's values with each text redacted: in the text of them all, a quote that JSON escaped ends a secret early."""
    if isinstance(value, dict):
        return {redacted(name): _without_secrets(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_without_secrets(inner) for inner in value]
    return redacted(value) if isinstance(value, str) else value
