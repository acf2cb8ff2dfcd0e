"""Wraps a fitted learner with a calibration curve for its probabilities."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import TypeAdapter

from refit.files.artifacts import digest
from refit.learners.calibration import Calibration, calibration_from
from refit.learners.contract import Declaration, Floats, Learner
from refit.learners.postprocessed import Postprocessed, exact
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

    def added(self) -> dict[str, Any]:
        return {"calibration": self.calibration.to_json()}

    def digest(self) -> str:
        return digest({"inner": self.inner.digest(), "calibration": exact(self.calibration.to_json())})


def with_calibration(learner: Learner, description: Mapping[str, Any]) -> Learner:
    """Wrap the learner with the calibration in its description, if there is one."""
    if not (stored := description.get("calibration")):
        return learner
    return Calibrated(learner, calibration_from(TypeAdapter(StoredCalibration).validate_json(json.dumps(stored))))
