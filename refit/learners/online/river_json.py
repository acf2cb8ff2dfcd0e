"""Stores objects of river as JSON: their class by name, and their attributes. Only classes of river are ever made.

What is read from a file can name no function, and only classes of the parts of river that models are made of: other
parts read files, some by pickle. An object may hold a private method of its own, as a choice between variants, and no
attribute may take the place of a method. A type that is not listed makes an object unsafe to store, never a pickle.
"""

from __future__ import annotations

import base64
import collections
import copyreg
import functools
import importlib
import inspect
import math
import random
import types
from collections.abc import Mapping
from typing import Any

from pydantic import JsonValue

from refit.errors import RefitError

CONTAINERS: dict[str, type] = {
    "deque": collections.deque,
    "Counter": collections.Counter,
    "defaultdict": collections.defaultdict,
    "OrderedDict": collections.OrderedDict,
}
FACTORIES: dict[str, type] = {each.__name__: each for each in (bool, dict, float, int, list, set, str, tuple)}
FACTORIES |= CONTAINERS
PARTS = {  # of river, without those that read files, fetch data or run functions
    *(
        "base",
        "drift",
        "dummy",
        "ensemble",
        "forest",
        "imblearn",
        "linear_model",
        "metrics",
        "multiclass",
        "naive_bayes",
    ),
    *("neighbors", "optim", "preprocessing", "proba", "rules", "stats", "tree", "utils", "_river_rust"),
}


def encode(value: Any) -> JsonValue:
    """The value as JSON values.

    Raises:
        RefitError: it holds something else than numbers, texts, containers and objects of river.
    """
    return _Encoder().value(value)


def decode(content: JsonValue) -> Any:
    """The value that `encode` was given.

    Raises:
        RefitError: it names something that is no class of river, or is damaged.
    """
    try:
        return _Decoder().value(content)
    except (LookupError, TypeError, ValueError, AttributeError, ImportError) as error:
        raise RefitError(f"it is no state of a river model ({type(error).__name__}: {error})") from None


UNSEEDED = random.Random(0)  # in place of a generator that was seeded by the clock


def _sorted(values: Any) -> list[Any]:
    """The members of a set in an order that is the same in every process."""
    return sorted(values, key=lambda each: (type(each).__name__, repr(each)))


class _Encoder:
    def __init__(self) -> None:
        self._numbers: dict[int, int] = {}  # of each object by its id, in the order in which they are met
        self._alive: list[Any] = []  # so that no id is used twice

    def value(self, value: Any) -> JsonValue:
        kind = type(value)
        if value is None or kind in (bool, int, str) or (kind is float and math.isfinite(value)):
            plain: JsonValue = value
            return plain
        if kind is float:
            return {"float": repr(value)}
        if kind is tuple:
            return {"tuple": [self.value(each) for each in value]}
        if kind is frozenset:
            return {"frozenset": [self.value(each) for each in _sorted(value)]}
        if isinstance(value, type):
            return {"class": _name_of(value)}
        if isinstance(value, types.MethodType) and id(value.__self__) in self._numbers and _is_private(value.__name__):
            return {"method": value.__name__, "of": self._numbers[id(value.__self__)]}
        if id(value) in self._numbers:
            return {"ref": self._numbers[id(value)]}
        self._numbers[id(value)] = len(self._numbers)
        self._alive.append(value)
        return self._container(value, kind)

    def _container(self, value: Any, kind: type) -> JsonValue:
        if kind is list:
            return [self.value(each) for each in value]
        if kind is dict:
            return {"dict": self._pairs(value)}
        if kind is set:
            return {"set": [self.value(each) for each in _sorted(value)]}
        if kind is functools.partial and isinstance(value.func, type):
            parts = [self.value(each) for each in value.args]
            return {"partial": _name_of(value.func), "arguments": parts, "named": self._pairs(value.keywords)}
        if value is UNSEEDED:
            return {"random": None}
        if kind is random.Random:
            version, numbers, spare = value.getstate()
            return {"random": [version, list(numbers), spare]}
        if kind is collections.deque:
            return {"deque": [self.value(each) for each in value], "longest": value.maxlen}
        if kind is collections.defaultdict:
            factory = None if value.default_factory is None else self.value(value.default_factory)
            return {"defaultdict": self._pairs(value), "default": factory}
        if kind in (collections.Counter, collections.OrderedDict):
            return {kind.__name__: self._pairs(value)}
        return self._object(value, kind)

    def _pairs(self, value: Any) -> list[JsonValue]:
        return [[self.value(key), self.value(each)] for key, each in value.items()]

    def _object(self, value: Any, kind: type) -> JsonValue:
        content: dict[str, JsonValue] = {"object": _name_of(kind)}
        make, arguments, state, items, pairs = (*value.__reduce_ex__(2), None, None, None)[:5]
        if make is copyreg.__newobj__:  # type: ignore[attr-defined]
            arguments = arguments[1:]
        elif make is not kind:
            raise RefitError(f"{kind.__module__}.{kind.__qualname__} is made by {make}, which is not stored")
        else:
            content["called"] = True
        if kind.__module__.startswith("river.proba.") and isinstance(state, dict) and state.get("seed", 0) is None:
            state = {**state, "_rng": UNSEEDED}  # it draws samples alone, which no prediction does
        if arguments:
            content["arguments"] = [self.value(each) for each in arguments]
        if isinstance(state, bytes):
            content["bytes"] = base64.b64encode(state).decode()
        elif state is not None:
            content["state"] = self.value(state)
        if items is not None:
            content["items"] = [self.value(each) for each in items]
        if pairs is not None:
            content["pairs"] = [[self.value(key), self.value(each)] for key, each in pairs]
        return content


class _Decoder:
    def __init__(self) -> None:
        self._objects: list[Any] = []

    def value(self, content: JsonValue) -> Any:
        if isinstance(content, list):
            return self._filled(self._met([]), content)
        if not isinstance(content, dict):
            return content
        match content:
            case {"float": str(text)}:
                return float(text)
            case {"tuple": list(parts)}:
                return tuple([self.value(each) for each in parts])
            case {"frozenset": list(parts)}:
                return frozenset([self.value(each) for each in parts])
            case {"class": str(name)}:
                return _class_named(name)
            case {"method": str(name), "of": int(number)}:
                return _private_method(self._objects[number], name)
            case {"ref": int(number)}:
                return self._objects[number]
            case {"object": str(name)}:
                return self._object(name, content)
        return self._container(content)

    def _met(self, value: Any) -> Any:
        self._objects.append(value)
        return value

    def _filled(self, container: Any, parts: list[JsonValue]) -> Any:
        add = container.add if isinstance(container, set) else container.append
        for each in parts:
            add(self.value(each))
        return container

    def _paired(self, container: Any, pairs: list[JsonValue]) -> Any:
        for pair in pairs:
            key, each = _pair(pair)
            container[self.value(key)] = self.value(each)
        return container

    def _container(self, content: dict[str, JsonValue]) -> Any:
        match content:
            case {"dict": list(pairs)}:
                return self._paired(self._met({}), pairs)
            case {"partial": str(name), "arguments": list(parts), "named": list(pairs)}:
                return self._partial(name, parts, pairs)
            case {"set": list(parts)}:
                return self._filled(self._met(set()), parts)
            case {"random": state}:
                return _generator(self._met(random.Random(0)), state)
            case {"deque": list(parts), "longest": (int() | None) as longest}:
                return self._filled(self._met(collections.deque(maxlen=longest)), parts)
            case {"defaultdict": list(pairs), "default": default}:
                container = self._met(collections.defaultdict())
                container.default_factory = None if default is None else self.value(default)
                return self._paired(container, pairs)
            case {"Counter": list(pairs), **others} if not others:
                return self._paired(self._met(collections.Counter()), pairs)
            case {"OrderedDict": list(pairs), **others} if not others:
                return self._paired(self._met(collections.OrderedDict()), pairs)
        raise ValueError(f"{next(iter(content), None)!r} is no kind of value")

    def _partial(self, name: str, parts: list[JsonValue], pairs: list[JsonValue]) -> Any:
        index = len(self._objects)
        self._objects.append(None)
        arguments = [self.value(each) for each in parts]
        named = {str(key): self.value(each) for key, each in map(_pair, pairs)}
        made = functools.partial(_class_named(name), *arguments, **named)
        self._objects[index] = made
        return made

    def _object(self, name: str, content: dict[str, JsonValue]) -> Any:
        cls, index = _class_named(name), len(self._objects)
        if not _is_part(cls.__module__):
            raise ValueError(f"{name!r} is no class of river's models")
        self._objects.append(None)
        arguments = [self.value(each) for each in _listed(content, "arguments")]
        made = cls(*arguments) if content.get("called") else cls.__new__(cls, *arguments)
        self._objects[index] = made
        match content:
            case {"bytes": str(text)}:
                made.__setstate__(base64.b64decode(text, validate=True))
            case {"state": state}:
                self._set(made, self.value(state))
        for each in _listed(content, "items"):
            made.append(self.value(each))
        return self._paired(made, _listed(content, "pairs"))

    def _set(self, made: Any, state: Any) -> None:
        if hasattr(made, "__setstate__"):
            made.__setstate__(state)
            return
        attributes, slots = state if isinstance(state, tuple) else (state, None)
        if hidden := [name for name in {**(slots or {}), **(attributes or {})} if _is_method(type(made), name)]:
            raise ValueError(f"{hidden[0]!r} is a method of {type(made).__name__}, no attribute")
        for name, value in {**(slots or {})}.items():
            setattr(made, name, value)
        if attributes:
            vars(made).update(attributes)


def _pair(content: JsonValue) -> tuple[JsonValue, JsonValue]:
    match content:
        case [key, value]:
            return key, value
    raise ValueError(f"{content!r} is no pair")


def _listed(content: Mapping[str, JsonValue], name: str) -> list[JsonValue]:
    """The list of that name; empty if there is none."""
    parts = content.get(name, [])
    if not isinstance(parts, list):
        raise ValueError(f"{name} is no list")
    return parts


def _generator(generator: random.Random, state: JsonValue) -> random.Random:
    match state:
        case None:
            return generator
        case [version, list(numbers), spare]:
            generator.setstate((version, tuple(numbers), spare))
            return generator
    raise ValueError("it is no state of a random generator")


def _private_method(owner: Any, name: str) -> Any:
    if not _is_private(name) or not _is_method(type(owner), name) or not _is_part(type(owner).__module__):
        raise ValueError(f"{name!r} is no private method of a model")
    return getattr(owner, name)


def _name_of(cls: type) -> str:
    if FACTORIES.get(cls.__name__) is cls:
        return str(cls.__name__)
    if not _is_part(cls.__module__):
        raise RefitError(f"it holds a {cls.__module__}.{cls.__qualname__}, which is not stored as JSON")
    return f"{cls.__module__}:{cls.__qualname__}"


def _class_named(name: str) -> Any:
    if name in FACTORIES:
        return FACTORIES[name]
    module, _, path = name.partition(":")
    if not _is_part(module):
        raise ValueError(f"{name!r} is no class of river's models")
    attribute: Any = importlib.import_module(module)
    for part in path.split("."):
        attribute = getattr(attribute, part)
    if not isinstance(attribute, type) or not _is_part(attribute.__module__):
        raise ValueError(f"{name!r} is no class of river's models")
    return attribute


def _is_part(module: str) -> bool:
    """Whether a module belongs to one of the parts of river that models are made of."""
    package, _, rest = module.partition(".")
    return package == "river" and rest.partition(".")[0] in PARTS


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def _is_method(cls: type, name: str) -> bool:
    return inspect.isroutine(inspect.getattr_static(cls, name, None))
