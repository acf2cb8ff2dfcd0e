"""Wraps a fitted learner with post-processing that was fitted on out-of-fold predictions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from refit.errors import UserError
from refit.files.artifacts import write_manifest
from refit.learners.contract import DESCRIPTION, FitReport, Floats, Learner, Spec
from refit.schemas.model_description import ModelDescription

if TYPE_CHECKING:
    import pyarrow as pa


class Postprocessed(ABC):
    """Predicts what `inner` predicts, and is stored in the same folder."""

    has: ClassVar[str]  # what it adds, for errors, such as `is calibrated`

    def __init__(self, inner: Learner) -> None:
        self.inner = inner

    @property
    def threshold(self) -> float:
        """The threshold for these predictions."""
        return self.inner.threshold

    @threshold.setter
    def threshold(self, value: float) -> None:
        self.inner.threshold = value

    @property
    def spec(self) -> Spec:
        return self.inner.spec

    def fit(self, *args: Any, **named: Any) -> FitReport:
        """Raise UserError: the post-processing belongs to the fits that it was learned from."""
        raise UserError(f"learner {self.spec.name!r} {self.has}; fit a new one with refit.learners.make")

    resume = fit

    def predict(self, table: pa.Table) -> Floats:
        return self.inner.predict(table)

    @abstractmethod
    def described(self, inner: ModelDescription) -> ModelDescription:
        """The inner learner's description with what this adds."""

    @abstractmethod
    def digest(self) -> str:
        """Digest of the inner learner and the post-processing."""

    def save(self, folder: Path) -> None:
        self.inner.save(folder)
        self.described(ModelDescription.read(folder / DESCRIPTION)).write(folder / DESCRIPTION)
        write_manifest(folder)

    @classmethod
    def load(cls, folder: Path, description: ModelDescription, spec: Spec) -> Learner:
        """Raise AssertionError: `refit.learners.load` loads the inner learner and wraps it."""
        raise AssertionError("what finishes a learner is loaded by refit.learners.load")

    def unsafe_reason(self) -> str | None:
        return self.inner.unsafe_reason()


def fitted_within(learner: Learner) -> Learner:
    """The fitted learner without its post-processing."""
    return fitted_within(learner.inner) if isinstance(learner, Postprocessed) else learner


def exact(value: Any) -> Any:
    """The same value with floats as exact hexadecimal texts, for digests."""
    if isinstance(value, Mapping):
        return {key: exact(each) for key, each in value.items()}
    if isinstance(value, float):
        return value.hex()
    return [exact(each) for each in value] if isinstance(value, list) else value
