"""The params section `cost`: prices of computing."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from refit.config.section import Section, Unit, shaped


class CostParams(Section):
    """Prices of computing, to express the cost of training and of predictions in money."""

    cpu_hour: Annotated[float, Unit("money per CPU hour")] = Field(
        0.05, gt=0, description="price of one CPU for an hour, in `currency`"
    )
    currency: str = Field(
        "USD",
        pattern=shaped(r"^[A-Z]{3}$", "three capitals such as EUR"),
        description="ISO 4217 code; a name only, nothing is converted",
    )
