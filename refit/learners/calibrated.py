"""Wraps a fitted learner with a calibration curve for its probabilities."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from refit.files.artifacts import digest
from refit.learners.calibration import Calibration, calibration_from
from refit.learners.contract import Declaration, Floats, Learner
from refit.learners.postprocessed import Postprocessed, exact
from refit.schemas.model_description import ModelDescription
from refit.schemas.postprocessing import StoredCalibration

if TYPE_CHECKING:
    import pyarrow as pa


class Calibrated(Postprocessed):
    """Applies `calibration` to the predictions of `inner`; the ranking stays, except for ties of an isotonic curve."""

    # In addition to what the inner learner declares.
    declaration: ClassVar[Declaration] = Declaration(tasks=("binary", "multiclass"), safe_format="json")
    has = "is calibrated"

    def __init__(self, inner: Learner, calibration: Calibration) -> None:
        super().__init__(inner)
        self.calibration = calibration

    def predict(self, table: pa.Table) -> Floats:
        return self.calibration.probabilities(self.inner.predict(table))

    def described(self, inner: ModelDescription) -> ModelDescription:
        return inner.model_copy(update={"calibration": self.calibration})

    def digest(self) -> str:
        return digest({"inner": self.inner.digest(), "calibration": exact(self.calibration.to_json())})


def with_calibration(learner: Learner, stored: StoredCalibration | None) -> Learner:
    """Wrap the learner with its stored calibration, if it has one."""
    return learner if stored is None else Calibrated(learner, calibration_from(stored))
