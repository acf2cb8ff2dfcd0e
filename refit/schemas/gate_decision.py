"""`reports/decision.json`: what the gate decided about a candidate, and what is needed to explain it."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from refit.config.evaluate import GateParams
from refit.files.artifacts import digest
from refit.schemas.artifact import Artifact, Part, UtcTime, omitted
from refit.schemas.incumbent import Incumbent
from refit.schemas.measured import Measured

__all__ = ["DaysDependence", "Decision", "EvaluatedWindow", "GainComparison", "GateCheck", "GateVerdict", "Mode"]

Mode = Literal["non_inferiority", "superiority"]


class GateCheck(Part):
    """One requirement of the gate, whether it is met, and the sentence that states it."""

    name: str
    passed: bool
    sentence: str


class DaysDependence(Part):
    """What the days of the test window say about luck that lasts, and what allowing for it costs."""

    correlation: float  # expected correlation of a day's gain with that of the next (a step later), weekdays removed
    independent: float  # probability that the days are independent
    widening: float  # how many times as far from the estimate the bounds lie as they would for independent days
    step: float = omitted(1.0)  # days from one to the next, as most lie apart: 7 in weekly data

    @property
    def apart(self) -> str:
        """Over what the correlation is measured, as part of a sentence."""
        return "from one day to the next" if self.step == 1 else f"over {self.step:.3g} days"


class GainComparison(Part):
    """A gain with its one-sided bounds, and the value that its lower bound has to exceed."""

    # champion, anchor or baseline, or a naive opponent in words; for a slice its name, with the gain over the champion
    against: str
    version: str | None
    estimate: float | None
    lower: float | None
    upper: float | None
    must_exceed: float
    passed: bool
    enough: int | None = omitted(None)  # about how many clusters like these would pass; None if it passed, or too many
    monte_carlo_error: float | None = omitted(None)  # of the estimate, by the random points behind it, if there are any
    days: DaysDependence | None = omitted(None)  # None if the clusters are not days, or by an older Refit


class GateVerdict(Part):
    """What the gate says: `reasons` explain it, `notes` give further context."""

    promote: bool
    mode: Mode
    metric: str
    confidence: float  # 1 - the part of alpha that this look at the test window spends
    reasons: tuple[str, ...]
    notes: tuple[str, ...]
    checks: tuple[GateCheck, ...]
    compared: tuple[GainComparison, ...]
    naive: GainComparison | None = omitted(None)  # with the best naive opponent, if that is not the baseline
    slices: tuple[GainComparison, ...] = ()
    difference: (
        GainComparison | None
    )  # the decisive one: with the champion, or with the baseline if there is no champion


class EvaluatedWindow(Part):
    """The test window of a candidate; versions with the same digest were evaluated on the same window."""

    start: UtcTime
    end: UtcTime
    rows: int
    digest: str


class Decision(Artifact, GateVerdict):
    """The verdict on a candidate, with the models, the window and the policy that it rests on."""

    REMEDY: ClassVar[str] = "`refit run` evaluates again"

    candidate: str  # canonical digest of the model
    inputs: str
    incumbent: Incumbent = Field(alias="comparand")
    test: EvaluatedWindow
    looks: int
    policy: GateParams
    error_reduction: Measured | None = None

    @property
    def verdict(self) -> Literal["promote", "refuse"]:
        """What the gate says, in the ledger's words."""
        return "promote" if self.promote else "refuse"

    @property
    def digest(self) -> str:
        """The digest by which the ledger names it: of the content as it was read, without fields that it lacked."""
        return digest(self.model_dump(mode="json", by_alias=True, exclude_unset=True))
