"""The params section `notify`: what people are told of, and by which block of Prefect."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from refit.config.section import Section

Occasion = Literal["promotion", "refusal", "approval", "drift", "failure"]


class NotifyParams(Section):
    """One receiver. Its address and password are in the block on the Prefect server, never here."""

    on: tuple[Occasion, ...] = Field(min_length=1, description="what this receiver hears of")
    block: str = Field(
        pattern="^[a-z][a-z0-9-]*/[a-z0-9][a-z0-9-]*$",
        description="TYPE/NAME: slack-webhook/ops, sendgrid-email/team, webhook/pager, or another notification block",
    )

    @model_validator(mode="before")
    @classmethod
    def _on_as_yaml_reads_it(cls, section: object) -> object:
        """Take the key `on` as YAML 1.1 reads it without quotes, which is the boolean true."""
        if isinstance(section, dict) and "on" not in section and "True" in section:
            others = {key: value for key, value in section.items() if key != "True"}
            occasions = section["True"]
            return {**others, "on": tuple(occasions) if isinstance(occasions, list) else occasions}
        return section
