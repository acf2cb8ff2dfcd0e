"""Paths that name variables of the environment, as params declare them and as they are on this machine."""

from __future__ import annotations

import os
import re

_VARIABLE = re.compile(r"\$\{(?P<name>\w+)(?::-(?P<default>[^}]*))?\}")


def expanded(path: str) -> str:
    """Replace `${NAME:-default}` in a path by values of the environment; names without a value stay."""
    return _VARIABLE.sub(lambda match: os.environ.get(match["name"]) or match["default"] or match[0], path)


def as_declared(name: str, path: str) -> str:
    """Replace the value of a leading variable in a file's name by the variable, as declared in params."""
    variable = _VARIABLE.match(path)
    return name.replace(expanded(variable[0]), f"${{{variable['name']}}}", 1) if variable else name
