"""What learners of numbers without a label share: rows become numbers, warnings are gathered, files are opened."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from refit.errors import RefitError, first_line
from refit.learners.blas import one_blas_thread
from refit.learners.contract import FitReport, Floats, Spec, cannot_resume
from refit.learners.encoding import Encoding
from refit.learners.imports import build_object

if TYPE_CHECKING:
    from refit.schemas.model_description import ModelDescription

FEW_VALUES, ENOUGH_ROWS = 10, 50  # of a column that has no density, in so many rows at least


class OfNumbers:
    """A base for clusterers, detectors and reductions of any library, which get numbers and no label."""

    SORT: str  # of the objects that they are made of (`build_object`)
    OWN: str  # an argument of ours, which the object does not get

    spec: Spec
    threshold: float
    _encoding: Encoding

    def _configure(self, spec: Spec) -> None:
        self.spec = spec
        self.threshold = 0.5
        self._encoding = Encoding(spec.coded, {}, arrays=spec.arrays)

    def _built(self, where: str) -> Any:
        """The library's object with the arguments of the params."""
        spec = self.spec
        arguments = {name: value for name, value in spec.params.items() if name != self.OWN}
        return build_object(spec.kind, arguments, seed=spec.seed, where=where, sort=self.SORT, source=spec.source)

    @classmethod
    def _blank(cls, description: ModelDescription, spec: Spec) -> Self:
        """A learner to be filled from its files: `__init__` would check the params and build its object again."""
        learner = cls.__new__(cls)
        learner._configure(spec)
        learner.threshold = description.threshold
        return learner

    @contextmanager
    def _gathered(self) -> Iterator[list[str]]:
        """The first lines of the warnings within the block, which computes alike on every machine."""
        messages: list[str] = []
        with warnings.catch_warnings(record=True) as caught, one_blas_thread():
            warnings.simplefilter("always")
            yield messages
        messages += [first_line(each.message) for each in caught]

    @staticmethod
    def _report(messages: list[str]) -> FitReport:
        return FitReport(warnings=tuple(dict.fromkeys(messages)))

    def _few_valued(self, numbers: Floats, advice: str) -> Iterator[str]:
        """A warning if single columns have so few values that there is no density in them."""
        if len(numbers) < ENOUGH_ROWS:
            return
        few = []
        for name, column in zip(self._encoding.features, numbers.T, strict=False):
            if (count := len(np.unique(column[~np.isnan(column)]))) <= FEW_VALUES:
                few.append(f"{name} ({count})")
        if few:
            yield (
                f"columns of few values have no density: {', '.join(few)}; {advice}, or leave them out "
                "(featurize.exclude)"
            )

    def _not_fitted(self) -> RefitError:
        return RefitError(f"learner {self.spec.name!r} was asked to predict before it was fitted")

    def resume(self, *args: Any, **named: Any) -> FitReport:
        raise cannot_resume(self.spec)
