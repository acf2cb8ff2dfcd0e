"""All printing goes through here: texts from data, people, files and events are shown literally, never interpreted.

Nothing else in Refit may create a console, write to standard output or use rich's markup; a test of the architecture
checks this. A plain `str` is always treated as foreign text, on one line. Styled text is made by `line`.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import traceback
from collections.abc import Iterable, Iterator
from typing import IO, Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from refit.plain_text import one_line
from registry.secrets import redacted

__all__ = ["Terminal", "guard_logs", "line", "print_json", "say"]


_SPACES_AT_AN_END = re.compile(r" +(?=\n)")
QUIET = False  # `refit --quiet`: consoles print nothing; `say` and `print_json` do


class Terminal(Console):
    """rich's console without markup, emoji codes and highlighting, so that no character is a command."""

    def __init__(self, *, stderr: bool = False, file: IO[str] | None = None, width: int | None = None) -> None:
        super().__init__(stderr=stderr, file=file, width=width, markup=False, emoji=False, highlight=False, quiet=QUIET)

    def render_str(self, text: str, **options: Any) -> Text:
        """A text on one line; rich calls this for everything that is printed, measured or put into a table."""
        shown = {name: options[name] for name in ("style", "justify", "overflow") if options.get(name)}
        return Text(one_line(text), **shown)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Render to segments. A `Text` may have several lines; otherwise it is treated like any text."""
        segments = (
            segment if segment.control else segment._replace(text=_lines(segment.text))
            for segment in super().render(renderable, options)
        )
        yield from segments if self.is_terminal else _without_trailing_spaces(segments)


def _without_trailing_spaces(segments: Iterable[Segment]) -> Iterator[Segment]:
    """Leave out the spaces with which rich fills the lines of a table: in a file they are only noise.

    >>> segments = [Segment("a "), Segment("  "), Segment("b \\nc "), Segment("\\n")]
    >>> [each.text for each in _without_trailing_spaces(segments)]
    ['a', '   b\\nc', '\\n']
    """
    held = ""  # spaces of which it is not known yet whether their line ends with them
    for segment in segments:
        if segment.control:
            yield segment
            continue
        text = _SPACES_AT_AN_END.sub("", held + segment.text)
        shown = text.rstrip(" ")
        held = text[len(shown) :]
        if shown:
            yield segment._replace(text=shown)
    if held:
        yield Segment(held)


def _lines(text: str) -> str:
    return "\n".join(one_line(each) for each in text.split("\n"))


def line(*parts: str | tuple[str, str], style: str = "") -> Text:
    """Join texts on one line, each shown literally, some of them in a style.

    >>> line(("Gate", "bold"), " [/x]").plain
    'Gate [/x]'
    """
    styled = [(part, "") if isinstance(part, str) else part for part in parts]
    return Text.assemble(*((one_line(text), how) for text, how in styled), style=style)


def say(text: object = "", *, stderr: bool = False) -> None:
    """Print one line of plain text, never wrapped, so that it can be copied or parsed."""
    stream = sys.stderr if stderr else sys.stdout
    stream.write(f"{one_line(text)}\n")
    stream.flush()


def guard_logs() -> None:
    """Remove secrets and control characters from all log records of this process, of any library.

    Prefect logs errors with their causes, and the error of a database driver contains the URI.
    """
    make = logging.getLogRecordFactory()
    if getattr(make, "guarded", False):
        return

    def guarded(*args: Any, **keywords: Any) -> logging.LogRecord:
        record = make(*args, **keywords)
        try:
            message = record.getMessage()
        except (TypeError, ValueError):  # the logging library itself reports arguments that do not fit
            return record
        if (plain := _lines(message)) != message:
            record.msg, record.args = plain, ()
        if record.exc_info and record.exc_info[0] is not None:
            record.exc_text = _lines("".join(traceback.format_exception(*record.exc_info)).rstrip("\n"))
        return record

    guarded.guarded = True  # type: ignore[attr-defined]
    logging.setLogRecordFactory(guarded)


def print_json(value: Any) -> None:
    """Print one JSON object as the last line of standard output, in ASCII."""
    plain = json.loads(json.dumps(value, allow_nan=False, default=str))
    sys.stdout.write(json.dumps(_without_secrets(plain)) + "\n")
    sys.stdout.flush()


def _without_secrets(value: Any) -> Any:
    """Redact each text of a JSON value. In serialised JSON, an escaped quote would end a secret too early."""
    if isinstance(value, dict):
        return {redacted(name): _without_secrets(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_without_secrets(inner) for inner in value]
    return redacted(value) if isinstance(value, str) else value
