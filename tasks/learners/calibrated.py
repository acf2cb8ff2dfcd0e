"""A fitted learner whose predictions were made to come true: the learner as it is, and a curve beside it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from tasks.artifacts import digest, read_json, write_json, write_manifest
from tasks.errors import UserError
from tasks.learners import DESCRIPTION, Declaration, FitReport, Floats, Learner, Spec
from tasks.learners.calibration import Calibration, calibration_from

if TYPE_CHECKING:
    import pyarrow as pa


class Calibrated:
    """Predicts what `inner` does, through `calibration`; the order of rows is inner's, but for ties of an isotonic."""

    declaration: ClassVar[Declaration] = Declaration(
        tasks=("binary", "multiclass"), safe_format="json"
    )  # beside the inner learner's own

    def __init__(self, inner: Learner, calibration: Calibration) -> None:
        self.inner = inner
        self.calibration = calibration

    @property
    def threshold(self) -> float:
        """Of the calibrated probabilities."""
        return self.inner.threshold

    @threshold.setter
    def threshold(self, value: float) -> None:
        self.inner.threshold = value

    @property
    def spec(self) -> Spec:
        return self.inner.spec

    def fit(self, *args: Any, **named: Any) -> FitReport:
        """Raises UserError: a calibration belongs to the fits that it was learned from."""
        raise UserError(f"learner {self.spec.name!r} is calibrated; fit a new one with tasks.learners.make")

    resume = fit

    def predict(self, table: pa.Table) -> Floats:
        return self.calibration.probabilities(self.inner.predict(table))

    def save(self, folder: Path) -> None:
        self.inner.save(folder)
        described = read_json(folder / DESCRIPTION)
        write_json(folder / DESCRIPTION, described | {"calibration": self.calibration.described()})
        write_manifest(folder)

    @classmethod
    def load(cls, folder: Path, description: Mapping[str, Any], trusted_types: tuple[str, ...]) -> Learner:
        """Raises AssertionError: `tasks.learners.load` loads the inner learner and wraps it."""
        raise AssertionError("a calibrated learner is loaded by tasks.learners.load")

    def obstacle(self) -> str | None:
        return self.inner.obstacle()

    def digest(self) -> str:
        return digest({"inner": self.inner.digest(), "calibration": exact(self.calibration.described())})


def exact(value: Any) -> Any:
    """The same with every number to the last bit."""
    if isinstance(value, Mapping):
        return {key: exact(each) for key, each in value.items()}
    if isinstance(value, float):
        return value.hex()
    return [exact(each) for each in value] if isinstance(value, list) else value


def with_calibration(learner: Learner, description: Mapping[str, Any]) -> Learner:
    """The learner as its description has it: behind its calibration where there is one."""
    if not (found := description.get("calibration")):
        return learner
    return Calibrated(learner, calibration_from(found))
