"""Reads all YAML files: the safe subset only, without YAML's surprises, and within limits on size and depth."""

from __future__ import annotations

import json
from copy import deepcopy
from functools import lru_cache
from pathlib import Path
from typing import Any, NoReturn

import yaml

from refit.errors import UserError, unreadable

READ_BY_DVC = ("params.yaml", "run.yaml", "dvc.yaml")
MOST_BYTES = 4_000_000
MOST_DEPTH = 60
MOST_VALUES = 400_000  # with every alias expanded, as any traversal sees them
MOST_DIGITS = 60  # of a number

YamlTree = dict[str, Any]  # a mapping as YAML has it, before it is checked into params, or to be written

_PLAIN = ("null", "bool", "int", "float", "str", "seq", "map")


class _Loader(yaml.SafeLoader):
    """Loads plain values only. Duplicate keys and tags are errors; dates stay texts."""

    def __init__(self, text: str, name: str) -> None:
        self._name, self._depth = name, 0
        try:
            super().__init__(text)
        except yaml.reader.ReaderError as error:
            line = text.count("\n", 0, error.position) + 1
            self._refuse(line, f"character \\x{ord(text[error.position]):02x} is not allowed; delete it")

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self._depth += 1
        if self._depth > MOST_DEPTH:
            line: int = self.line + 1
            self._refuse(line, f"nested deeper than {MOST_DEPTH} levels, the limit")
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1

    def get_single_node(self) -> yaml.Node | None:
        node = super().get_single_node()
        if node is not None:
            self._count(node, {})
        return node

    def _count(self, node: yaml.Node, counts: dict[int, int]) -> int:
        """The number of values in a node with every alias expanded."""
        if (count := counts.get(id(node))) is not None:
            if not count:
                self._refuse(node.start_mark.line + 1, "an anchor holds itself; write it out")
            return count
        counts[id(node)] = 0  # in progress
        inner: list[yaml.Node] = []
        if isinstance(node, yaml.CollectionNode) and node.flow_style and self._name in READ_BY_DVC:
            self._require_quotes(node)
        if isinstance(node, yaml.SequenceNode):
            inner = node.value
        elif isinstance(node, yaml.MappingNode):
            inner = [each for pair in node.value for each in pair]
        counts[id(node)] = count = 1 + sum(self._count(each, counts) for each in inner)
        if count > MOST_VALUES:
            limit = f"more than {MOST_VALUES:,} values with every alias written out, the limit"
            self._refuse(node.start_mark.line + 1, limit)
        return count

    def _require_quotes(self, node: yaml.CollectionNode) -> None:
        """Refuse what DVC's parser (libyaml) would refuse without saying what to do."""
        values = [each for pair in node.value for each in (pair if isinstance(pair, tuple) else (pair,))]
        for each in values:
            if isinstance(each, yaml.ScalarNode) and each.style is None and ":" in each.value:
                what = "DVC, which reads this file too, takes no ':' within {} or [] without quotes"
                self._refuse(each.start_mark.line + 1, f"{what}; write {json.dumps(each.value[:80])}")

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep=deep)
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
            kind = node.tag.rpartition(":")[2]
            self._refuse(node.start_mark.line + 1, f"{str(node.value)[:40]!r} is not of the kind {kind!r}; quote it")

    def _refuse(self, line: int, what: str) -> NoReturn:
        raise UserError(f"{self._name} line {line}: {what}")


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.yaml_constructors = {
    tag: constructor
    for tag, constructor in yaml.SafeLoader.yaml_constructors.items()
    if tag is None or tag.rpartition(":")[2] in _PLAIN
}


def _mapping_without_repeats(loader: _Loader, node: yaml.MappingNode) -> YamlTree:
    mapping: YamlTree = {}
    for key_node, value_node in node.value:
        key = str(loader.construct_object(key_node, deep=True))
        if key in mapping:
            loader._refuse(key_node.start_mark.line + 1, f"key {key!r} is given twice; keep one")
        mapping[key] = loader.construct_object(value_node, deep=True)
    return mapping


def _number(loader: _Loader, node: yaml.ScalarNode) -> int | float:
    if len(node.value) > MOST_DIGITS:
        length = f"a number of {len(node.value):,} characters; at most {MOST_DIGITS} are read"
        loader._refuse(node.start_mark.line + 1, length)
    if node.tag.endswith(":int"):
        return int(loader.construct_yaml_int(node))
    return float(loader.construct_yaml_float(node))


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping_without_repeats)
_Loader.add_constructor("tag:yaml.org,2002:int", _number)
_Loader.add_constructor("tag:yaml.org,2002:float", _number)


_EXPECTED = "a mapping of sections was expected"
_KINDS = {list: "a list", str: "a text", bool: "true or false", int: "a number", float: "a number"}


def read_yaml(path: Path, missing: str = _EXPECTED) -> YamlTree:
    """The mapping in a YAML file.

    Args:
        missing: what to write into it, said where it is empty.

    Raises:
        UserError: the file is missing, unreadable, too large, not UTF-8, not YAML, or not a mapping; it has a tag, a
            duplicate key, or is nested or repeated beyond the limits.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise UserError(f"{path} is larger than {MOST_BYTES // 1_000_000} MB, the limit of such a file")
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; `refit init DIR` makes a project, `--project DIR` names one") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    except OSError as error:
        raise UserError(unreadable(path, error)) from None
    value = parse_yaml(text, path.name)
    if value is None:
        raise UserError(f"{path.name} is empty: {missing}")
    if not isinstance(value, dict):
        raise UserError(f"{path.name} holds {_KINDS.get(type(value), 'one value')}, {_EXPECTED}")
    return value


def read_value(text: str) -> Any:
    """Parse one YAML value as in a params file: dates stay texts, tags are refused.

    >>> read_value("2024-01-01"), read_value("[1, 2]")
    ('2024-01-01', [1, 2])
    """
    try:
        return parse_yaml(text, "it")
    except UserError:
        raise UserError(f"{text[:200]!r} is not a plain YAML value; quote it") from None


def parse_yaml(text: str, name: str) -> Any:
    """Parse a YAML text; `name` is its origin, for error messages.

    Raises:
        UserError: the text is not YAML, has a tag or a duplicate key, or is nested or repeated beyond the limits.
    """
    return deepcopy(_parsed(text, name))


@lru_cache(maxsize=8)  # every stage of a run reads the same files, and a wide table's take a tenth of a second
def _parsed(text: str, name: str) -> Any:
    loader = _Loader(text, name)
    try:
        return loader.get_single_data()
    except yaml.constructor.ConstructorError as error:
        raise UserError(f"{name} line {_line(error)}: {error.problem}; plain YAML only, no tags") from None
    except yaml.MarkedYAMLError as error:
        raise UserError(f"{name} line {_line(error)}: not valid YAML: {error.problem}") from None
    finally:
        loader.dispose()


def _line(error: yaml.MarkedYAMLError) -> int | str:
    mark = error.problem_mark or error.context_mark
    return mark.line + 1 if mark else "?"
