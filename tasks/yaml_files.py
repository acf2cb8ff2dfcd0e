"""YAML's safe subset, less its surprises: a key given twice is an error, and dates stay the text they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from tasks.errors import UserError


class _Loader(yaml.SafeLoader):
    """YAML's safe subset, less the surprises: a key given twice is an error, and dates stay the text they are."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _mapping_without_repeats(loader: _Loader, node: yaml.MappingNode) -> dict[str, Any]:
    mapping: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key = str(loader.construct_object(key_node, deep=True))
        if key in mapping:
            raise UserError(f"{_where(key_node)}: key {key!r} is given twice; keep one")
        mapping[key] = loader.construct_object(value_node, deep=True)
    return mapping


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping_without_repeats)


def _where(node: yaml.Node) -> str:
    return f"{node.start_mark.name} line {node.start_mark.line + 1}"


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        UserError: no such file, not UTF-8, not YAML, a tag, a key given twice, or no mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; `refit init DIR` makes a project, `--project DIR` names one") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    loader = _Loader(text)
    loader.name = path.name
    try:
        value = loader.get_single_data()
    except yaml.constructor.ConstructorError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        raise UserError(f"{path.name} line {line}: {error.problem}; plain YAML only, no tags") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else "?"
        raise UserError(f"{path.name} line {line}: not valid YAML: {getattr(error, 'problem', error)}") from None
    finally:
        loader.dispose()
    if not isinstance(value, dict):
        raise UserError(f"{path.name} holds {type(value).__name__}, a mapping of sections was expected")
    return value


def read_value(text: str) -> Any:
    """One YAML value as a params file would hold it: dates stay text, tags are refused.

    >>> read_value("2024-01-01"), read_value("[1, 2]")
    ('2024-01-01', [1, 2])
    """
    loader = _Loader(text)
    try:
        return loader.get_single_data()
    except (yaml.YAMLError, UserError):
        raise UserError(f"{text!r} is not a plain YAML value; quote it") from None
    finally:
        loader.dispose()
