"""The params section `notify`: what people are told of, and by which block of Prefect."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from refit.config.section import Section

Occasion = Literal["promotion", "refusal", "approval", "drift", "failure"]


class NotifyParams(Section):
    """One receiver. Its address and password are in the block on the Prefect server, never here."""

    on: tuple[Occasion, ...] = Field(min_length=1, description="what this receiver hears of")
    block: str = Field(
        pattern="^[a-z][a-z0-9-]*/[a-z0-9][a-z0-9-]*$",
        description="TYPE/NAME: slack-webhook/ops, sendgrid-email/team, webhook/pager, or another notification block",
    )
