"""The params section `evaluate`: slices, explanations and the gate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from refit.config.behaviour import BehaviourTest
from refit.config.section import Rows, Section, Share, Unit, nearest, shaped
from refit.config.train import CrossValidationParams
from refit.errors import UserError

SliceKey = Annotated[str, Field(pattern=shaped(r"^[^=]+(=.+)?$", "COLUMN or COLUMN=VALUE"))]
MetricUnits = Annotated[float, Unit("units of the metric")]


class GateParams(Section):
    mode: Literal["non_inferiority", "superiority"] = Field(
        "non_inferiority",
        description="what a candidate must show: that it loses at most max_loss, or that it gains min_gain",
    )
    metric: str = Field("roc_auc", description="metric for comparing models; default: train.metric")
    alpha: Annotated[float, Unit("probability")] = Field(
        0.05,
        gt=0,
        lt=0.5,
        description="chance that a test window ever promotes a candidate worse than the margin allows",
    )
    first_look: Share = Field(
        0.8,
        gt=0,
        lt=1,
        description="share of alpha for the first candidate on a test window; later ones share the rest",
        exclude_if=lambda value: value == 0.8,  # not in the decisions of older versions
    )
    max_loss: MetricUnits = Field(0.005, ge=0, description="metric units that a successor may lose")
    min_gain: MetricUnits = Field(0.0, ge=0, description="metric units that a superior model must gain")
    min_gain_over_baseline: MetricUnits = Field(
        0.01, ge=0, description="what every candidate must gain over the naive baseline"
    )
    min_rows: Rows = Field(2000, ge=1, description="test rows that the gate needs to decide")
    cluster: str = Field("day", description="`day`, a feature's name, or `row` (rows taken as independent)")
    min_clusters: Annotated[int, Unit("clusters")] = Field(
        20, ge=2, description="clusters of test rows that the gate needs to decide"
    )
    slices: dict[SliceKey, Annotated[MetricUnits, Field(ge=0)]] = Field(
        {}, description="a column, or column=value -> metric units that a successor may lose there"
    )
    floors: dict[str, MetricUnits] = Field({}, description="metric -> minimum for a candidate")
    ceilings: dict[str, MetricUnits] = Field({}, description="metric -> maximum for a candidate")

    def spent(self, looks: int) -> float:
        """The part of `alpha` for a candidate whose test window has judged `looks` others before.

        The first look spends `first_look` of it, and look k + 1 the part 6 / (pi k)^2 of what remains. All parts
        together are `alpha`, for any number of looks: by Bonferroni's inequality one window promotes wrongly with
        probability `alpha` at most, however much the candidates are alike (alpha spending; Foster and Stine 2008, JRSS
        B 70(2)).

        >>> [round(GateParams().spent(looks), 5) for looks in range(4)]
        [0.04, 0.00608, 0.00152, 0.00068]
        """
        if not looks:
            return self.alpha * self.first_look
        return self.alpha * (1 - self.first_look) * 6 / (math.pi * looks) ** 2


class ExplainParams(Section):
    rows: Rows = Field(300, ge=0, le=10_000, description="test rows that predictions are explained on; 0: not at all")
    features: Annotated[int, Unit("features")] = Field(
        6, ge=1, le=30, description="number of the most important features whose effects are drawn"
    )


class CardParams(Section):
    """What the model card states that no measurement can: who is responsible for the model, and its purpose."""

    owner: str = Field("", description="who is responsible for the model, and how to reach them")
    intended_use: str = Field("", description="what the predictions are made for, and who uses them")
    limits: tuple[str, ...] = Field(
        (), description="what the model must not be used for, and where it is known to fail"
    )
    licence: str = Field("", description="licence or terms under which the model may be used")
    links: dict[
        str,
        Annotated[str, Field(pattern=shaped(r"^https?://[^\s\"'<>]+$", "an address such as https://example.org/page"))],
    ] = Field({}, description="name -> address of a page about the model: its repository, a runbook, a dashboard")


class EvaluateParams(Section):
    slices: tuple[str, ...] = Field((), description="columns whose values are reported on separately")
    baselines: tuple[str, ...] | None = Field(
        None, description="naive opponents, and features whose own value (or, for classes, shares) is one; null: all"
    )
    confidence: Share = Field(0.95, gt=0.5, lt=1, description="level of the intervals of reported metrics")
    permutation_rows: Rows = Field(5000, ge=0, description="test rows on which importance is measured; 0: not at all")
    explain: ExplainParams = Field(ExplainParams(), description="how predictions follow the features that matter most")
    cross_validation: CrossValidationParams = Field(
        CrossValidationParams(), description="outer folds of `refit cross-validate`; no run uses them"
    )
    card: CardParams = Field(CardParams(), description="what the model card states beyond its measurements")
    behaviour: tuple[BehaviourTest, ...] = Field((), description="what a candidate must do, or the gate refuses it")
    gate: GateParams = Field(GateParams(), description="what it takes for a candidate to become champion")


def check_columns(params: EvaluateParams, columns: Sequence[str]) -> None:
    """Check that a table with these columns can be cut into the slices and clusters of the params.

    An evaluation would find out only after the training.

    Raises:
        UserError: a column does not exist.
    """
    gate = params.gate
    named = [("evaluate.slices", column) for column in params.slices]
    named += [("evaluate.gate.slices", key if key in columns else key.partition("=")[0]) for key in gate.slices]
    named += [("evaluate.gate.cluster", gate.cluster)] if gate.cluster not in ("day", "row") else []
    for params_key, column in named:
        if column not in columns:
            raise no_column(params_key, column, columns)


def no_column(params_key: str, column: str, columns: Sequence[str]) -> UserError:
    """The error that the features lack a column which the params name."""
    return UserError(f"params.yaml: {params_key}: the features have no column {column!r}{nearest(column, columns)}")
