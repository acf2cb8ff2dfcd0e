"""Damages files as disks, editors and other programs do: by a seed, so that each damage can be made again."""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random
from typing import Any

import yaml

_FRAGMENTS = (
    b"\0",
    b"\x1b[2J",
    b"\x07",
    b"\x85",
    b"\xe2\x80\xa8",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b"\xc3",
    b"\xed\xa0\x80",
    b'"',
    b"'",
    b"\r",
    b"\n\n",
    b"\r\n",
    b",",
    b";",
    b"\t",
    b":",
    b": ",
    b"- ",
    b"#",
    b"{",
    b"}",
    b"[",
    b"]",
    b"&a ",
    b"*a",
    b"!!set ",
    b"!!python/object:os.system ",
    b"!!binary ",
    b"<<: ",
    b"%YAML 9.9\n",
    b"---\n",
    b"...",
    b"|",
    b">",
    b"1" * 5000,
    b"1e999",
    b"-0",
    b"NaN",
    b"Infinity",
    b".inf",
    b"0x",
    b"0o8",
    b"1_0",
    b"1:60:60",
    b"9999-99-99",
    b"2013-02-30",
    b"null",
    b"~",
    b"true",
    b"=cmd|' /C calc'!A0",
    b"[/x]",
    b"../../etc/passwd",
    b"[" * 3000,
    b'{"a":' * 3000,
    b"- " * 3000,
    b"a: " * 200,
    b"\\u0000",
    b"\\ud800",
    b"a" * 70000,
)
_VALUES: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    2**63,
    2**64,
    -(2**70),
    1.5,
    1e308,
    float("nan"),
    float("inf"),
    "",
    " ",
    "\0",
    "\x1b[2J",
    "[/x]",
    "x" * 5000,
    "9999-12-31T00:00:00Z",
    "0000-00-00",
    "../../x",
    "\ud800",
    [],
    {},
    [[]],
    [None],
    {"": None},
    {"a": {"b": []}},
    [1, "a", None],
    "NaN",
    "1e999",
)


def damaged(content: bytes, random: Random) -> bytes:
    """The content with one to three damages."""
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        content = random.choice(_DAMAGES)(content, random)
    return content


def _span(content: bytes, random: Random, most: int = 200) -> tuple[int, int]:
    start = random.randrange(len(content) + 1)
    return start, min(len(content), start + random.randrange(1, most))


def _flipped(content: bytes, random: Random) -> bytes:
    changed = bytearray(content)
    for _ in range(random.randrange(1, 9) if changed else 0):
        changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed)


def _cut(content: bytes, random: Random) -> bytes:
    return content[: random.randrange(len(content) + 1)]


def _beheaded(content: bytes, random: Random) -> bytes:
    return content[random.randrange(len(content) + 1) :]


def _without(content: bytes, random: Random) -> bytes:
    start, end = _span(content, random)
    return content[:start] + content[end:]


def _doubled(content: bytes, random: Random) -> bytes:
    start, end = _span(content, random)
    return content[:end] + content[start:end] * random.choice((1, 2, 50)) + content[end:]


def _inserted(content: bytes, random: Random) -> bytes:
    start, end = _span(content, random, 10)
    return content[:start] + random.choice(_FRAGMENTS) + content[random.choice((start, end)) :]


def _noise(content: bytes, random: Random) -> bytes:
    start, end = _span(content, random, 30)
    return content[:start] + random.randbytes(end - start) + content[end:]


def _zeroed(content: bytes, random: Random) -> bytes:
    start, end = _span(content, random, 4096)
    return content[:start] + bytes(end - start) + content[end:]


def _recoded(content: bytes, random: Random) -> bytes:
    text = content.decode("utf-8", errors="replace")
    return text.encode(random.choice(("utf-16", "utf-32", "utf-8-sig", "cp500", "utf-7")), errors="replace")


def _replaced_word(content: bytes, random: Random) -> bytes:
    words = content.split(b" ")
    words[random.randrange(len(words))] = random.choice(_FRAGMENTS)
    return b" ".join(words)


def _moved_line(content: bytes, random: Random) -> bytes:
    lines = content.split(b"\n")
    line = lines.pop(random.randrange(len(lines)))
    lines.insert(random.randrange(len(lines) + 1), b" " * random.randrange(5) + line)
    return b"\n".join(lines)


_DAMAGES: tuple[Callable[[bytes, Random], bytes], ...] = (
    _flipped, _flipped, _cut, _beheaded, _without, _doubled, _inserted, _inserted, _inserted, _noise, _zeroed, _recoded,
    _replaced_word, _moved_line,
)  # fmt: skip


def with_other_value(value: Any, random: Random) -> Any:
    """A JSON-like value in which one place holds something else, is missing, or is there under another name."""
    if not isinstance(value, dict | list) or not value or random.random() < 0.1:
        return random.choice(_VALUES)
    copy: Any = dict(value) if isinstance(value, dict) else list(value)
    place = random.choice(list(copy)) if isinstance(copy, dict) else random.randrange(len(copy))
    chance = random.random()
    if chance < 0.1:
        del copy[place]
    elif chance < 0.2 and isinstance(copy, dict):
        copy[f"{place}x"] = copy.pop(place)
    else:
        copy[place] = with_other_value(copy[place], random)
    return copy


def damaged_json(content: bytes, random: Random) -> bytes:
    """JSON with a wrong value in one place, or with its bytes damaged."""
    if random.random() < 0.3:
        return damaged(content, random)
    return json.dumps(with_other_value(json.loads(content), random)).encode()


def damaged_yaml(content: bytes, random: Random) -> bytes:
    """YAML with a wrong value in one place, or with its bytes damaged."""
    if random.random() < 0.5:
        return damaged(content, random)
    changed = with_other_value(yaml.safe_load(content), random)
    return yaml.safe_dump(changed, allow_unicode=False).encode(errors="replace")
