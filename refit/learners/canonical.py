"""Computes a digest of a fitted object's parameters, because the bytes of a stored model differ on each save."""

from __future__ import annotations

import copyreg
import hashlib
import struct
from collections.abc import Iterator, Mapping, Set
from typing import Any

import numpy as np

from refit.errors import RefitError

# Attributes that do not affect predictions: boosting stores the number of threads, and a vectoriser the memory address
# of its stop words.
INDIFFERENT = frozenset({"_sklearn_version", "_stop_words_id", "n_threads", "n_jobs", "verbose"})


def digest(value: Any) -> str:
    """Hex digest of everything a Python object holds, by walking it as `copy` does; no method of its own is called.

    Two objects of the same type with bit-for-bit equal parts have the same digest, in any process.

    >>> digest({"a": 1.0, "b": [np.zeros(3)]}) == digest({"b": [np.zeros(3)], "a": 1.0})
    True
    >>> digest(1.0) == digest(1)
    False

    Raises:
        RefitError: something in it cannot be described.
    """
    hasher = hashlib.sha256()
    for token in _tokens(value, []):
        hasher.update(struct.pack("<Q", len(token)) + token)
    return hasher.hexdigest()


def without_counters(model: Any) -> Any:
    """The parts of a fitted object, with trees of neighbours as their arrays: they count their queries.

    Digests of learners that existed before this function do not use it.
    """
    if model is None:
        return None
    parts = {name: getattr(model, name) for name in vars(model)}
    plain = {name: part.get_arrays() if hasattr(part, "get_arrays") else part for name, part in parts.items()}
    nested = {name: without_counters(part) if hasattr(part, "_tree") else part for name, part in plain.items()}
    return [type(model), nested]


def _tokens(value: Any, within: list[int]) -> Iterator[bytes]:
    if value is None or isinstance(value, bool | int | str):
        yield f"{type(value).__name__}:{value}".encode()
    elif isinstance(value, float):
        yield f"float:{value.hex()}".encode()
    elif isinstance(value, bytes):
        yield b"bytes:" + value
    elif isinstance(value, type) or (callable(value) and hasattr(value, "__qualname__")):
        yield f"name:{value.__module__}.{value.__qualname__}".encode()
    elif isinstance(value, np.dtype):
        yield f"dtype:{value.descr}".encode()
    elif isinstance(value, np.ndarray | np.generic):
        yield from _array(np.asarray(value), within)
    elif type(value).__module__.startswith("scipy.sparse"):
        yield from _tokens(_sparse(value), within)
    elif isinstance(value, np.random.RandomState | np.random.Generator):
        yield b"random state"  # its state after fitting affects no prediction
    elif id(value) in within:
        yield f"enclosing:{within.index(id(value))}".encode()
    else:
        within.append(id(value))
        yield from _container(value, within)
        within.pop()


def _array(array: np.ndarray[Any, Any], within: list[int]) -> Iterator[bytes]:
    yield f"array:{array.dtype.str}:{array.shape}".encode()
    if array.dtype.names:  # field by field: the padding between fields is arbitrary
        for name in array.dtype.names:
            yield name.encode()
            yield from _array(np.asarray(array[name]), within)
    elif array.dtype.hasobject:
        for item in array.ravel().tolist():
            yield from _tokens(item, within)
    else:
        yield np.ascontiguousarray(array).tobytes()


def _sparse(matrix: Any) -> tuple[Any, ...]:
    """The content of a sparse matrix, without its caches."""
    rows = matrix.tocsr(copy=True)
    rows.sum_duplicates()
    return rows.shape, rows.indptr.astype(np.int64), rows.indices.astype(np.int64), rows.data


def _container(value: Any, within: list[int]) -> Iterator[bytes]:
    yield f"{type(value).__module__}.{type(value).__qualname__}".encode()
    if type(value) in (list, tuple):
        yield str(len(value)).encode()
        for item in value:
            yield from _tokens(item, within)
    elif type(value) is dict or isinstance(value, Mapping):
        yield str(len(value)).encode()
        for key in sorted(value, key=lambda key: (type(key).__name__, repr(key))):
            yield from _tokens(key, within)
            yield from _tokens(value[key], within)
    elif isinstance(value, Set):
        yield str(len(value)).encode()
        for item in sorted(value, key=lambda item: (type(item).__name__, repr(item))):
            yield from _tokens(item, within)
    else:
        yield from _object(value, within)


def _object(value: Any, within: list[int]) -> Iterator[bytes]:
    """Tokens of the parts that `copy.copy` would copy."""
    try:
        parts = value.__reduce_ex__(4)
    except TypeError as error:
        raise RefitError(f"a fitted {type(value).__qualname__} cannot be described for a digest: {error}") from None
    if isinstance(parts, str):
        yield f"global:{parts}".encode()
        return
    make, arguments, *rest = parts
    if make not in (copyreg.__newobj__, copyreg.__newobj_ex__):  # type: ignore[attr-defined]
        yield from _tokens(make, within)
    yield from _tokens(tuple(item for item in arguments if item is not type(value)), within)
    state, items, pairs = (*rest, None, None, None)[:3]
    yield from _tokens(_decisive(state), within)
    yield from _tokens(None if items is None else list(items), within)
    yield from _tokens(None if pairs is None else dict(pairs), within)


def _decisive(state: Any) -> Any:
    if isinstance(state, dict):
        return {key: part for key, part in state.items() if key not in INDIFFERENT}
    return state
