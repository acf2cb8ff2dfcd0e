"""Changes values of one section of a YAML file as a person would: comments, order and all other lines stay."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from refit.errors import UserError
from refit.files.artifacts import atomic
from refit.files.yaml_files import YamlTree, read_value, read_yaml

__all__ = ["edited", "set_values"]

Simple = str | int | float | bool | tuple[str, ...] | None
Value = Simple | Mapping[str, Simple]


def set_values(path: Path, section: str, values: Mapping[str, Value]) -> None:
    """Set keys of a top-level section of a YAML file; of a key that is a mapping, those of its keys that are given.

    Raises:
        UserError: the section is not written as a block of lines; the message has the lines to enter by hand.
    """
    before = read_yaml(path)
    text = edited(path.read_text(encoding="utf-8"), section, values)
    expected = {**before, section: _merged(before.get(section) or {}, values)}
    with atomic(path) as scratch:
        scratch.write_text(text, encoding="utf-8")
        if _read(scratch) != expected:
            lines = "; ".join(f"{key}: {_written(expected[section][key])}" for key in values)
            raise UserError(f"{path.name}: {section} is not written line by line; enter it yourself: {lines}")


def edited(text: str, section: str, values: Mapping[str, Value]) -> str:
    """The text with keys of a section set; a comment behind a value stays.

    >>> before = "drift:\\n  alpha: 0.05  # careful\\ntrain: {}\\n"
    >>> print(edited(before, "drift", {"alpha": 0.1, "breached": 1}), end="")
    drift:
      alpha: 0.1  # careful
      breached: 1
    train: {}
    """
    lines = text.splitlines()
    head = next(
        (index for index, line in enumerate(lines) if re.match(rf"{re.escape(section)}:\s*(#.*)?$", line)), None
    )
    if head is None:
        added = [f"{section}:", *(f"  {key}: {_written(value)}" for key, value in values.items())]
        return "\n".join([*lines, *added]) + "\n"
    end = next((index for index in range(head + 1, len(lines)) if re.match(r"[^\s#]", lines[index])), len(lines))
    while end > head + 1 and not lines[end - 1].startswith((" ", "\t")):
        end -= 1  # empty lines and comments before the next section belong to it
    body = lines[head + 1 : end]
    indent = next((_indent(line) for line in body if line.strip()), "  ")
    return "\n".join([*lines[: head + 1], *_with(body, indent, values), *lines[end:]]) + "\n"


def _with(body: list[str], indent: str, values: Mapping[str, Value]) -> list[str]:
    """The lines of a mapping with keys set."""
    body = list(body)
    for key, value in values.items():
        pattern = re.compile(rf"({indent}{re.escape(key)}:)\s*([^#]*?)(\s+#.*)?$")
        matches = ((index, match) for index, line in enumerate(body) if (match := pattern.match(line)))
        place, match = next(matches, (0, None))
        if match is None:
            body.append(f"{indent}{key}: {_written(value)}")
            continue
        end = place + 1
        while not match[2] and end < len(body) and re.match(rf"{indent}(\s+\S|- )", body[end]):
            end += 1  # the value is a block of lines
        inner = body[place + 1 : end]
        if isinstance(value, Mapping) and not match[2]:
            body[place + 1 : end] = _with(inner, _indent(inner[0]) if inner else f"{indent}  ", value)
        else:
            before = read_value(match[2]) if isinstance(value, Mapping) else None
            merged = _merged(before, value) if isinstance(before, dict) and isinstance(value, Mapping) else value
            body[place:end] = [f"{match[1]} {_written(merged)}{match[3] or ''}"]
    return body


def _indent(line: str) -> str:
    return line[: len(line) - len(line.lstrip())]


def _written(value: Value | YamlTree) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(key)}: {_written(each)}" for key, each in value.items()) + "}"
    if isinstance(value, float):  # as YAML reads it: 1e-05 would be a text
        return str(yaml.safe_dump(value)).partition("\n")[0]
    return json.dumps(_plain(value))


def _plain(value: Value | YamlTree) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    return list(value) if isinstance(value, tuple) else value


def _merged(before: YamlTree, values: Mapping[str, Value]) -> YamlTree:
    """A mapping with values set, those within its mappings too."""
    merged = dict(before)
    for key, value in values.items():
        old = before.get(key)
        merged[key] = _merged(old, value) if isinstance(value, Mapping) and isinstance(old, dict) else _plain(value)
    return merged


def _read(path: Path) -> YamlTree | None:
    try:
        return read_yaml(path)
    except UserError:
        return None
