"""Converts foreign texts to plain text that is safe to show: no control characters for a terminal or a log."""

from __future__ import annotations

import json
import re
import unicodedata
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from registry.secrets import redacted

if TYPE_CHECKING:
    import numpy as np

MISSING = "missing"  # the name of a missing value, wherever values are named
LAST_BITS = 1e-14  # what may be left where numbers near 1 cancel
_WHOLE = 2**53  # up to which every whole number is a double of its own
# Format and control characters, line ends, surrogates: characters that a terminal interprets or does not show.
_OBEYED = ("Cc", "Cf", "Cs", "Zl", "Zp")
# Letters and marks that Unicode defines as ignorable, and that are invisible.
_UNSEEN = (0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x180B, 0x180C, 0x180D, 0x180F, 0x2800, 0x3164, 0xFFA0)
_TAGS = range(0xE0000, 0xE1000)  # letters that only machines read, assigned or not
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_ASCII = re.compile(r"[ -~]*\Z")


def one_line(text: object) -> str:
    r"""Remove the secrets of a text and escape every control, format and line-breaking character.

    Square brackets, backslashes and all other visible characters stay, so applying it twice changes nothing. Bytes of a
    file name that are not UTF-8 are shown as bytes.

    >>> print(one_line("red \x1b[31m, a new\nline, right to left \u202e, a file \udcff.csv, [/x]"))
    red \x1b[31m, a new\nline, right to left \u202e, a file \xff.csv, [/x]
    """
    return _escaped(redacted(str(text)))


def named_number(value: np.floating[Any] | np.integer[Any]) -> str:
    """The name of a number that tells it from all others of its type: whole numbers without a point or an exponent.

    >>> import numpy as np
    >>> named_number(np.float64(20240101)), named_number(np.float64(0.1)), named_number(np.float32(0.1))
    ('20240101', '0.1', '0.1')
    """
    return str(int(value)) if value.is_integer() and abs(value) <= _WHOLE else str(value)


def number(value: float | None, decimals: int = 4, *, sign: str = "") -> str:
    """A metric to a number of decimals, or to three significant digits where these would leave hardly any.

    >>> number(0.75), number(1234.5), number(0.000423), number(2.5e-07), number(0.1 + 0.2 - 0.3), number(None)
    ('0.7500', '1234.5000', '0.000423', '2.5e-07', '0.0000', '–')
    """
    if value is None:
        return "–"
    return format(value, sign + (".3g" if LAST_BITS < abs(value) < 10 ** (1 - decimals) else f"z.{decimals}f"))


def signed(value: float | None) -> str:
    """The same of a difference.

    >>> signed(0.02), signed(-2.5e-07), signed(-0.0)
    ('+0.0200', '-2.5e-07', '+0.0000')
    """
    return number(value, sign="+")


def shortened(value: object, most: int = 120) -> str:
    """A value from outside as one line of JSON of limited length.

    >>> shortened(["2013-10-01"] * 99, most=24)
    '["2013-10-01", "2013-10-...'
    """
    text = json.dumps(value, default=str)[: most + 1]
    return text if len(text) <= most else f"{text[:most]}..."


def visible(text: str) -> str:
    r"""Escape the same characters in a page or in the text of a chart, but keep line ends.

    >>> print(visible("red \x1b[31m,\nright to left \u202e"))
    red \x1b[31m,
    right to left \u202e
    """
    return text if _ASCII.match(text) else "\n".join(_escaped(line) for line in text.split("\n"))


def _escaped(text: str) -> str:
    return text if _ASCII.match(text) else "".join(_shown(character) for character in text)


_MARKDOWN = re.compile(r"([\\`*_\[\]<>&|~$#])")


def as_markdown(text: object) -> str:
    r"""Escape a text for Markdown, so that it is shown literally: no links, no external pictures, no HTML.

    >>> print(as_markdown("![x](http://e.example/p.png) <b>"))
    !\[x\](http://e.example/p.png) \<b\>
    """
    return _MARKDOWN.sub(r"\\\1", one_line(text))


@lru_cache(maxsize=4096)
def _shown(character: str) -> str:
    code = ord(character)
    if unicodedata.category(character) not in _OBEYED and code not in _UNSEEN and code not in _TAGS:
        return character
    if character in _SHORT:
        return _SHORT[character]
    if 0xDC80 <= code <= 0xDCFF:
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
