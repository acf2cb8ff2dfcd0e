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
from typing import Any

from refit.errors import RefitError

CONTAINERS: dict[str, type] = {
    "deque": collections.deque,
    "Counter": collections.Counter,
    "defaultdict": collections.defaultdict,
    "OrderedDict": collections.OrderedDict,
}
FACTORIES: dict[str, Any] = {each.__name__: each for each in (bool, dict, float, int, list, set, str, tuple)}
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


def encode(value: Any) -> Any:
    """The value as JSON values.

    Raises:
        RefitError: it holds something else than numbers, texts, containers and objects of river.
    """
    return _Encoder().value(value)


def decode(content: Any) -> Any:
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

    def value(self, value: Any) -> Any:
        kind = type(value)
        if value is None or kind in (bool, int, str):
            return value
        if kind is float:
            return value if math.isfinite(value) else {"float": repr(value)}
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

    def _container(self, value: Any, kind: type) -> Any:
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

    def _pairs(self, value: Any) -> list[Any]:
        return [[self.value(key), self.value(each)] for key, each in value.items()]

    def _object(self, value: Any, kind: type) -> dict[str, Any]:
        content: dict[str, Any] = {"object": _name_of(kind)}
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

    def value(self, content: Any) -> Any:
        if isinstance(content, list):
            return self._filled(self._met([]), content)
        if not isinstance(content, dict):
            return content
        if "float" in content:
            return float(content["float"])
        if "tuple" in content:
            return tuple([self.value(each) for each in content["tuple"]])
        if "frozenset" in content:
            return frozenset([self.value(each) for each in content["frozenset"]])
        if "class" in content:
            return _class_named(content["class"])
        if "method" in content:
            return self._method(content)
        if "ref" in content:
            return self._objects[content["ref"]]
        if "object" in content:
            return self._object(content)
        return self._container(content)

    def _met(self, value: Any) -> Any:
        self._objects.append(value)
        return value

    def _filled(self, container: Any, content: list[Any]) -> Any:
        add = container.add if isinstance(container, set) else container.append
        for each in content:
            add(self.value(each))
        return container

    def _paired(self, container: Any, content: list[Any]) -> Any:
        for key, each in content:
            container[self.value(key)] = self.value(each)
        return container

    def _container(self, content: dict[str, Any]) -> Any:
        if "dict" in content:
            return self._paired(self._met({}), content["dict"])
        if "partial" in content:
            return self._partial(content)
        if "set" in content:
            return self._filled(self._met(set()), content["set"])
        if "random" in content:
            chance = self._met(random.Random(0))
            if content["random"] is None:
                return chance
            version, numbers, spare = content["random"]
            chance.setstate((version, tuple(numbers), spare))
            return chance
        if "deque" in content:
            return self._filled(self._met(collections.deque(maxlen=content["longest"])), content["deque"])
        if "defaultdict" in content:
            container = self._met(collections.defaultdict())
            container.default_factory = None if content["default"] is None else self.value(content["default"])
            return self._paired(container, content["defaultdict"])
        (name, pairs), *others = content.items()
        if others or name not in ("Counter", "OrderedDict"):
            raise ValueError(f"{name!r} is no kind of value")
        return self._paired(self._met(CONTAINERS[name]()), pairs)

    def _partial(self, content: dict[str, Any]) -> Any:
        place = len(self._objects)
        self._objects.append(None)
        arguments = [self.value(each) for each in content["arguments"]]
        named = {str(key): self.value(each) for key, each in content["named"]}
        made = functools.partial(_class_named(content["partial"]), *arguments, **named)
        self._objects[place] = made
        return made

    def _object(self, content: dict[str, Any]) -> Any:
        cls, place = _class_named(content["object"]), len(self._objects)
        if not _is_part(cls.__module__):
            raise ValueError(f"{content['object']!r} is no class of river's models")
        self._objects.append(None)
        arguments = [self.value(each) for each in content.get("arguments", ())]
        made = cls(*arguments) if content.get("called") else cls.__new__(cls, *arguments)
        self._objects[place] = made
        if "bytes" in content:
            made.__setstate__(base64.b64decode(content["bytes"], validate=True))
        elif "state" in content:
            self._set(made, self.value(content["state"]))
        for each in content.get("items", ()):
            made.append(self.value(each))
        return self._paired(made, content.get("pairs", []))

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

    def _method(self, content: dict[str, Any]) -> Any:
        name, owner = str(content["method"]), self._objects[content["of"]]
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
    found: Any = importlib.import_module(module)
    for part in path.split("."):
        found = getattr(found, part)
    if not isinstance(found, type) or not _is_part(found.__module__):
        raise ValueError(f"{name!r} is no class of river's models")
    return found


def _is_part(module: str) -> bool:
    """Whether a module belongs to one of the parts of river that models are made of."""
    package, _, rest = module.partition(".")
    return package == "river" and rest.partition(".")[0] in PARTS


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def _is_method(cls: type, name: str) -> bool:
    return inspect.isroutine(inspect.getattr_static(cls, name, None))
