"""Paths that name variables of the environment, as params declare them and as they are on this machine."""

from __future__ import annotations

import os
import re
from urllib.parse import unquote

from refit.errors import UserError

_VARIABLE = re.compile(r"\$\{(?P<name>\w+)(?::-(?P<default>[^}]*))?\}")
_KEYS = re.compile(r"\w+://([^@]+)@")
_SHORTEST = 4  # characters: a shorter value is part of too many words to be replaced


def expanded(path: str) -> str:
    """Replace `${NAME:-default}` in a path by values of the environment; names without a value stay."""
    return _VARIABLE.sub(lambda match: os.environ.get(match["name"]) or match["default"] or match[0], path)


def check_stars(pattern: str, where: str) -> None:
    """Check that each `**` of a pattern is a level of folders: else it would be `*`, and files would be left out.

    Raises:
        UserError: one is a piece of a name, or the last part.
    """
    *levels, name = pattern.split("/")
    if "**" in name or any("**" in level and level != "**" for level in levels):
        raise UserError(
            f"{pattern}: ** stands for folders, and is a part of its own with a name after it; write **/* for all "
            f"files below a folder, and * in a name ({where})"
        )


def as_declared(name: str, path: str) -> str:
    """Replace the value of a leading variable in a file's name by the variable, as declared in params."""
    variable = _VARIABLE.match(path)
    return name.replace(expanded(variable[0]), f"${{{variable['name']}}}", 1) if variable else name


def masked(text: str, path: str) -> str:
    """A library's text, with the path as declared in params wherever it quotes what the path is on this machine.

    The values of the path's variables become the variables, and keys in its address `***`.
    """
    values = {match[0]: os.environ.get(match["name"], "").rstrip("/") for match in _VARIABLE.finditer(path)}
    if not any(values.values()):
        return text
    address = expanded(path).rstrip("/")
    shown = {}
    if keys := _KEYS.match(address):
        parts = (keys[1], *keys[1].split(":", 1))
        shown = dict.fromkeys([*parts, *map(unquote, parts)], "***")
    shown |= {value: variable for variable, value in values.items()}
    shown = {value: instead for value, instead in shown.items() if len(value) >= _SHORTEST} | {address: path}
    pattern = "|".join(map(re.escape, sorted(shown, key=len, reverse=True)))
    return re.sub(pattern, lambda match: shown[match[0]], text)
