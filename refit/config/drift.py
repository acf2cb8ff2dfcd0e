"""The params section `drift`: what is monitored, and what triggers a retraining."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from refit.config.section import Days, Rows, Section, Share, Unit


class MinEffectParams(Section):
    """The smallest change that counts as drift; a smaller one does not, however significant it is."""

    psi: Annotated[float, Unit("nats")] = Field(0.1, ge=0, description="population stability index, in nats")
    wasserstein: Annotated[float, Unit("standard deviations")] = Field(
        0.1, ge=0, description="Wasserstein distance, in standard deviations of the reference"
    )
    jensen_shannon: Annotated[float, Unit("distance from 0 to 1")] = Field(
        0.05, ge=0, le=1, description="Jensen-Shannon distance of categories, base 2"
    )
    missing: Share = Field(0.02, ge=0, le=1, description="change of the share of missing values")
    unseen: Share = Field(0.02, ge=0, le=1, description="share of categories that the reference never had")


class DriftParams(Section):
    """What is monitored between two trainings, and what triggers the next one."""

    window: Literal["day", "week", "month"] = Field("week", description="length of a window; weeks begin on Monday")
    windows: Annotated[int, Unit("windows")] = Field(
        3, ge=1, description="number of newest windows that are considered"
    )
    breached: Annotated[int, Unit("windows")] = Field(
        2, ge=1, description="how many of these must show a loss or drift, including the newest"
    )
    retrain_on: tuple[Literal["performance", "schedule", "input"], ...] = Field(
        ("performance", "schedule"), description="what may trigger a retraining; anything else only warns"
    )
    retrain_every_days: Days | None = Field(30, gt=0, description="`schedule`: age of the newest version; null: never")
    cooldown_days: Days = Field(7, ge=0, description="minimum time between two decisions to retrain")
    min_new_labelled_rows: Rows = Field(500, ge=1, description="rows labelled since the newest training")
    monthly_budget: Annotated[int, Unit("retrainings")] = Field(
        4, ge=1, description="decisions to retrain within 30 days"
    )
    alpha: Annotated[float, Unit("probability")] = Field(
        0.05, gt=0, lt=0.5, description="chance that a window counts as worse although nothing changed"
    )
    min_skill_loss: Annotated[float, Unit("skill: share of the naive error avoided")] = Field(
        0.02, ge=0, description="skill units; a smaller loss is ignored"
    )
    false_alarm_days: Days | None = Field(
        90,
        gt=0,
        description="a loss shown by all windows together counts too: without one, so many days lie between two false "
        "alarms on average, at least; null: only breached windows count",
    )
    min_labelled_rows: Rows = Field(500, ge=1, description="labelled rows that a window needs to be judged")
    min_reference_windows: Annotated[int, Unit("windows")] = Field(
        8, ge=2, description="windows needed to distinguish a change from chance"
    )
    false_discovery: Share = Field(0.05, gt=0, lt=0.5, description="share of false ones among drifted columns")
    min_effect: MinEffectParams = Field(
        MinEffectParams(), description="smallest changes that count as drift; a smaller one never does"
    )
    multivariate_rows: Rows = Field(
        2000, ge=0, description="rows of the reference and of now for the classifier check; 0: no check"
    )

    @model_validator(mode="after")
    def _reachable(self) -> DriftParams:
        if self.breached > self.windows:
            raise ValueError(
                f"breached is {self.breached} of {self.windows} windows; at most {self.windows} is possible"
            )
        if 0 < self.multivariate_rows < 30:
            raise ValueError(
                f"multivariate_rows is {self.multivariate_rows}; at least 30 tell anything, 0 asks nothing"
            )
        return self
