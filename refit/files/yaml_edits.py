"""Changes values of one section of a YAML file as a person would: comments, order and all other lines stay."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

from refit.errors import UserError
from refit.files.artifacts import atomic
from refit.files.yaml_files import YamlTree, read_yaml

__all__ = ["edited", "set_values"]

Value = str | int | float | bool | tuple[str, ...] | None


def set_values(path: Path, section: str, values: Mapping[str, Value]) -> None:
    """Set keys of a top-level section of a YAML file.

    Raises:
        UserError: the section is not written as a block of lines; the message has the lines to enter by hand.
    """
    before = read_yaml(path)
    text = edited(path.read_text(encoding="utf-8"), section, values)
    expected = {**before, section: {**(before.get(section) or {}), **_plain(values)}}
    with atomic(path) as scratch:
        scratch.write_text(text, encoding="utf-8")
        if _read(scratch) != expected:
            lines = "; ".join(f"{key}: {_written(value)}" for key, value in values.items())
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
    indent = next((line[: len(line) - len(line.lstrip())] for line in body if line.strip()), "  ")
    for key, value in values.items():
        pattern = re.compile(rf"({indent}{re.escape(key)}:)\s*[^#]*?(\s+#.*)?$")
        index = next((index for index, line in enumerate(body) if pattern.match(line)), None)
        if index is None:
            body.append(f"{indent}{key}: {_written(value)}")
        else:
            body[index] = pattern.sub(lambda match: f"{match[1]} {_written(value)}{match[2] or ''}", body[index])  # noqa: B023
    return "\n".join([*lines[: head + 1], *body, *lines[end:]]) + "\n"


def _written(value: Value) -> str:
    return json.dumps(list(value) if isinstance(value, tuple) else value)


def _plain(values: Mapping[str, Value]) -> YamlTree:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}


def _read(path: Path) -> YamlTree | None:
    try:
        return read_yaml(path)
    except UserError:
        return None
