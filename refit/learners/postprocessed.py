"""A fitted learner behind something that was learned from its predictions of rows it had not seen."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from refit.errors import UserError
from refit.files.artifacts import read_json, write_json, write_manifest
from refit.learners.contract import DESCRIPTION, FitReport, Floats, Learner, Spec

if TYPE_CHECKING:
    import pyarrow as pa


class Finished(ABC):
    """Predicts what `inner` does, and is stored in its folder."""

    has: ClassVar[str]  # what it adds to a learner: `is calibrated`

    def __init__(self, inner: Learner) -> None:
        self.inner = inner

    @property
    def threshold(self) -> float:
        """Of what this one predicts."""
        return self.inner.threshold

    @threshold.setter
    def threshold(self, value: float) -> None:
        self.inner.threshold = value

    @property
    def spec(self) -> Spec:
        return self.inner.spec

    def fit(self, *args: Any, **named: Any) -> FitReport:
        """Raises UserError: what it adds belongs to the fits that it was learned from."""
        raise UserError(f"learner {self.spec.name!r} {self.has}; fit a new one with refit.learners.make")

    resume = fit

    def predict(self, table: pa.Table) -> Floats:
        return self.inner.predict(table)

    @abstractmethod
    def added(self) -> dict[str, Any]:
        """What `model.json` says of it besides the inner learner."""

    @abstractmethod
    def digest(self) -> str:
        """Of the inner learner and what was added."""

    def save(self, folder: Path) -> None:
        self.inner.save(folder)
        write_json(folder / DESCRIPTION, read_json(folder / DESCRIPTION) | self.added())
        write_manifest(folder)

    @classmethod
    def load(cls, folder: Path, description: Mapping[str, Any], trusted_types: tuple[str, ...]) -> Learner:
        """Raises AssertionError: `refit.learners.load` loads the inner learner and wraps it."""
        raise AssertionError("what finishes a learner is loaded by refit.learners.load")

    def obstacle(self) -> str | None:
        return self.inner.obstacle()


def fitted_within(learner: Learner) -> Learner:
    """The learner that was fitted, without what was learned from its predictions."""
    return fitted_within(learner.inner) if isinstance(learner, Finished) else learner


def exact(value: Any) -> Any:
    """The same with every number to the last bit."""
    if isinstance(value, Mapping):
        return {key: exact(each) for key, each in value.items()}
    if isinstance(value, float):
        return value.hex()
    return [exact(each) for each in value] if isinstance(value, list) else value
