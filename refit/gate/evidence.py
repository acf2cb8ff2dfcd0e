"""What the gate decides by: counts, metrics, and gains over other models on the same rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from refit.metrics.clusters import Estimate
from refit.plain_text import number
from refit.schemas.gate_decision import GateCheck

__all__ = ["Evidence", "GateOpponent", "NaiveGain", "Slice"]


@dataclass(frozen=True)
class GateOpponent:
    """A registered model and the candidate's gain over it on the same rows, positive if the candidate is better."""

    version: str
    digest: str
    seen_until: datetime | None
    gain: Estimate
    split: str | None = None  # the rule that separated its test rows; None if they are separated by time
    problem: str = ""  # the reason if it could not be scored on these rows

    def named(self, role: str) -> str:
        """Name it by its role and version."""
        return f"the {role} (version {self.version})"


@dataclass(frozen=True)
class NaiveGain:
    """The gain over the naive opponent that was best on validation rows, where it is another than the baseline."""

    name: str  # in words, after "the"
    gain: Estimate


@dataclass(frozen=True)
class Slice:
    """A part of the test rows named in `evaluate.gate.slices`, with the gain over the champion on it, or a problem."""

    key: str  # of the policy: the part's own name, or its column
    name: str  # column=value
    gain: Estimate
    problem: str = ""  # the reason if it cannot be judged

    @property
    def demanded(self) -> bool:
        """Whether the policy names this part itself, so that it has to be judged."""
        return self.key == self.name


@dataclass(frozen=True)
class Evidence:
    """All inputs of the gate: counts, the candidate's metrics, and its gains over other models on the same rows."""

    candidate: str  # canonical digest
    seen_until: datetime | None  # no data at or after this time was used to make the candidate
    test_start: datetime
    rows: int  # that the metric judges
    labels: GateCheck  # whether the labels of the test rows vary, so that models can be compared on them
    clusters: float  # effective number of clusters
    metrics: Mapping[str, float]
    over_baseline: Estimate | None
    champion: GateOpponent | None = None
    anchor: GateOpponent | None = None
    looks: int = 0  # how often other candidates were judged on this test window
    slices: tuple[Slice, ...] = ()  # against the champion
    stand_in: Literal["champion", "candidate"] | None = (
        None  # the one made from generated rows, if the other is from real
    )
    error_reduction: Estimate | None = None  # reduction of the champion's errors, as a share of them
    split: str | None = None  # the rule that drew the test rows at random; None if they are later than the others
    remarks: tuple[str, ...] = ()  # notes about these rows for readers of the decision
    unlabelled: int = 0  # further rows of the test window, without a label by which the metric judges
    unchanged: bool = False  # whether the candidate predicts of every row what the champion predicts
    pending: int = 0  # further rows of the test window, whose labels are not known yet
    naive: NaiveGain | None = None
    naive_slices: tuple[Slice, ...] = ()  # against naive opponents
    behaviour: tuple[GateCheck, ...] = ()  # the behavioural tests of `evaluate.behaviour`

    def weak_champion(self, metric: str) -> Iterator[str]:
        """Say that the champion itself does worse than the naive baseline on these rows; nothing if it does not.

        Args:
            metric: in words; gains are in its units.
        """
        if not self.champion or not self.over_baseline:
            return
        behind = self.champion.gain.value - self.over_baseline.value
        if behind > 0:  # not where one of them could not be measured
            yield (
                f"{self.champion.named('champion')} itself does worse than the naive baseline on these test rows, by "
                f"{number(behind)} {metric}: it stays, as the candidate did not pass; `refit promote VERSION --why "
                "...` replaces it by hand"
            )
