"""The params section `notify`: what people are notified of, and by which block of Prefect."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from refit.config.section import Section, shaped

Occasion = Literal["promotion", "refusal", "approval", "drift", "failure"]


class NotifyParams(Section):
    """One receiver. Its address and password are in the block on the Prefect server, never here."""

    on: tuple[Occasion, ...] = Field(min_length=1, description="what this receiver hears of")
    block: str = Field(
        pattern=shaped("^[a-z][a-z0-9-]*/[a-z0-9][a-z0-9-]*$", "TYPE/NAME of a block, such as slack-webhook/ops"),
        description="TYPE/NAME: slack-webhook/ops, sendgrid-email/team, webhook/pager, or another notification block",
    )

    @model_validator(mode="before")
    @classmethod
    def _on_as_yaml_reads_it(cls, section: object) -> object:
        """Take the key `on` as YAML 1.1 reads it without quotes, which is the boolean true."""
        if not isinstance(section, dict):
            return section
        given = dict(section)
        if "True" in given and "on" not in given:
            given["on"] = given.pop("True")
        if isinstance(given.get("on"), list):  # what a validator has seen counts as Python, where a list is no tuple
            given["on"] = tuple(given["on"])
        return given
