"""A fitted learner whose predictions were made to come true: the learner as it is, and a curve beside it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from refit.files.artifacts import digest
from refit.learners.calibration import Calibration, calibration_from
from refit.learners.contract import Declaration, Floats, Learner
from refit.learners.postprocessed import Finished, exact

if TYPE_CHECKING:
    import pyarrow as pa


class Calibrated(Finished):
    """Predicts what `inner` does, through `calibration`; the order of rows is inner's, but for ties of an isotonic."""

    declaration: ClassVar[Declaration] = Declaration(
        tasks=("binary", "multiclass"), safe_format="json"
    )  # beside the inner learner's own
    has = "is calibrated"

    def __init__(self, inner: Learner, calibration: Calibration) -> None:
        super().__init__(inner)
        self.calibration = calibration

    def predict(self, table: pa.Table) -> Floats:
        return self.calibration.probabilities(self.inner.predict(table))

    def added(self) -> dict[str, Any]:
        return {"calibration": self.calibration.described()}

    def digest(self) -> str:
        return digest({"inner": self.inner.digest(), "calibration": exact(self.calibration.described())})


def with_calibration(learner: Learner, description: Mapping[str, Any]) -> Learner:
    """The learner as its description has it: behind its calibration where there is one."""
    if not (found := description.get("calibration")):
        return learner
    return Calibrated(learner, calibration_from(found))
