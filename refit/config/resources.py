"""The params section `resources`: what a stage may use of the machine."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from refit.config.section import Section, Unit


class ResourcesParams(Section):
    """What a stage may use. It changes how results are computed, never the results of data that fits in it."""

    memory_gb: Annotated[float, Unit("GB")] | None = Field(
        None, ge=0.5, description="memory of a stage, beyond which data goes to disk; default: half of the machine's"
    )
    workers: Annotated[int, Unit("parts")] = Field(
        1, ge=1, description="parts of a stage that are computed at the same time: features, the models of per_group"
    )
    engine: Literal["processes", "ray"] = Field(
        "processes",
        description="what computes them: processes of this machine; or, in a run by Prefect, Ray (RAY_ADDRESS)",
    )
