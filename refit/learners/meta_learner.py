"""Meta-learners: learners that transform rows and labels and fit an inner learner to the result."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from refit.config import nearest
from refit.config.train import flat
from refit.errors import UserError
from refit.files.artifacts import digest, write_manifest
from refit.learners import load, make
from refit.learners.contract import (
    DESCRIPTION,
    Declaration,
    FitReport,
    Floats,
    Labels,
    Learner,
    Spec,
    check_labels,
    describe,
)
from refit.runtime.context import Progress, silent
from refit.schemas.model_description import ModelDescription, TransformedLearner

if TYPE_CHECKING:
    import pyarrow as pa

INNER = "inner"  # the folder of its files
PER_GROUP = "per_group"  # the kind that none of these can be around


class MetaLearner(ABC):
    """A learner whose params hold the `kind` and `params` of an inner learner, and its own arguments."""

    arguments: ClassVar[Mapping[str, object]]  # name -> default

    def __init__(self, spec: Spec, *, where: str = "params.yaml: train.learners") -> None:
        self._configure(spec, where)
        self.inner: Learner = make(self._inner_spec(), where=f"{where}.params")

    @property
    def declaration(self) -> Declaration:
        inner = self.inner.declaration
        return Declaration(
            ("regression",),
            sequences=inner.sequences,
            images=inner.images,
            safe_format="that of the inner learner",
        )

    def _configure(self, spec: Spec, where: str) -> None:
        """Set everything but the inner learner.

        Raises:
            UserError: the spec's params do not fit.
        """
        valid_names = ("kind", "params", *self.arguments)
        for name in spec.params:
            if name not in valid_names:
                raise UserError(f"learner {spec.kind!r} takes no {name!r}{nearest(name, valid_names)} ({where}.params)")
        if "kind" not in spec.params:
            raise UserError(f"learner {spec.kind!r} needs `kind`: the learner that it fits ({where}.params)")
        inner = spec.params.get("params", {})
        if not isinstance(inner, Mapping):
            raise UserError(
                f"learner {spec.kind!r}: params of what it fits are arguments by name; found {inner!r} "
                f"({where}.params.params)"
            )
        if PER_GROUP in (spec.params["kind"], *(value for name, value in flat(inner).items() if name.endswith("kind"))):
            raise UserError(
                f"learner {PER_GROUP!r} within {spec.kind!r}: only the outermost can be that one ({where}.params.kind)"
            )
        self.spec = spec
        self.threshold = 0.5
        self.settings = {
            **self.arguments,
            **{name: spec.params[name] for name in self.arguments if name in spec.params},
        }
        self._where = where
        self._own: dict[str, float] = {}
        self._check()

    def _inner_spec(self) -> Spec:
        """The spec of the inner learner: its features, kind and arguments."""
        params = self.spec.params
        spec = replace(self.spec, kind=str(params["kind"]), params=params.get("params", {}), average=1)
        return replace(spec, features=self._seen())

    @abstractmethod
    def _check(self) -> None:
        """Raise UserError if the arguments do not fit the features."""

    def _seen(self) -> tuple[str, ...]:
        """The features of the inner learner."""
        return self.spec.features

    @abstractmethod
    def _learned(self, table: pa.Table, label: Labels) -> tuple[pa.Table, Labels]:
        """The rows and labels that the inner learner is fitted to."""

    @abstractmethod
    def predict(self, table: pa.Table) -> Floats: ...

    def fit(
        self,
        train: pa.Table,
        label: Labels,
        *,
        validation: tuple[pa.Table, Labels] | None = None,
        iterations: int | None = None,
        progress: Progress = silent,
    ) -> FitReport:
        check_labels(label, self.spec)
        self._own = self._prepared(train, label)
        rows, wanted = self._learned(train, label)
        seen = None if validation is None else self._learned(*validation)
        if seen is not None and not len(seen[1]):
            seen = None
        return self.inner.fit(rows, wanted, validation=seen, iterations=iterations, progress=progress)

    def resume(self, *args: Any, **named: Any) -> FitReport:
        raise UserError(f"learner {self.spec.name!r} ({self.spec.kind}) does not go on; set train.warm_start: null")

    def _prepared(self, train: pa.Table, label: Labels) -> dict[str, float]:
        """Numbers that the transformation itself learns from the training rows."""
        return {}

    def save(self, folder: Path) -> None:
        (folder / INNER).mkdir()
        self.inner.save(folder / INNER)
        describe(self, TransformedLearner(learned=self._own)).write(folder / DESCRIPTION)
        write_manifest(folder)

    @classmethod
    def load(cls, folder: Path, description: ModelDescription, spec: Spec) -> Self:
        learner = cls.__new__(cls)  # `__init__` would import the class that the description names for the inner learner
        learner._configure(spec, str(folder))
        learner.threshold = description.threshold
        learner._own = dict(description.own(TransformedLearner).learned)
        learner.inner = load(folder / INNER, trusted_types=spec.trusted_types)
        return learner

    def unsafe_reason(self) -> str | None:
        return self.inner.unsafe_reason()

    def digest(self) -> str:
        own = {name: value.hex() for name, value in self._own.items()}
        return digest({"kind": self.spec.kind, "asked": self.settings, "own": own, "inner": self.inner.digest()})


def matching(patterns: Iterable[str], features: Iterable[str], where: str) -> tuple[str, ...]:
    """The features that match one of the shell patterns, in their order.

    Raises:
        UserError: a pattern matches none.
    """
    names = list(features)
    for pattern in (patterns := tuple(patterns)):
        if not any(fnmatchcase(name, pattern) for name in names):
            raise UserError(f"{where}: {pattern!r} matches no feature{nearest(pattern, names)}")
    return tuple(name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns))


def numbers(table: pa.Table, name: str) -> Floats:
    """(rows,) a column of numbers, nan for missing values.

    Raises:
        UserError: there is no such column.
    """
    if name not in table.column_names:
        raise UserError(f"feature {name!r} is missing{nearest(name, table.column_names)}")
    return np.asarray(table.column(name).to_numpy(zero_copy_only=False), dtype=np.float64)


def replaced(table: pa.Table, columns: Mapping[str, Floats]) -> pa.Table:
    """The table with other values in some columns; nan becomes missing."""
    import pyarrow as pa

    for name, values in columns.items():
        index = table.column_names.index(name)
        table = table.set_column(index, name, pa.array(values, pa.float64(), from_pandas=True))
    return table
