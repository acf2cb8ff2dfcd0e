"""The arguments of kind `transformer`."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from refit.learners.networks.params import ArchitectureParams, Closed

__all__ = ["Lora", "Params"]


class Lora(Closed):
    """Low-rank adapters (Hu et al. 2022): W + alpha / rank * B A, where only A and B are trained."""

    rank: int = Field(8, ge=1, le=1024)
    alpha: float = Field(16.0, gt=0, description="weight of what the adapters add, times the rank")
    dropout: float = Field(0.0, ge=0, lt=1, description="of the inputs of the adapters")
    targets: list[str] | None = Field(
        None, min_length=1, description="names of the linear layers that get one; null: those of query and value"
    )


class Params(ArchitectureParams):
    """Arguments of kind `transformer`. Without `tuned_layers` and `lora` only the head is trained."""

    tuned_layers: Annotated[int, Field(ge=0)] | Literal["all"] = Field(
        0, description="last layers of the encoder that are trained; all: its embeddings too"
    )
    lora: Lora | None = Field(None, description="trains adapters of the encoder in place of its layers")
    length: int = Field(
        128, ge=2, le=8192, description="most tokens of a text, if the encoder reads as many; the first ones count"
    )
    dropout: float = Field(0.1, ge=0, lt=1, description="before the head")
    epochs: int = Field(30, ge=1, description="passes over the training rows; the schedule spans them")
    batch_rows: int = Field(32, ge=1, description="rows of one step")
    learning_rate: float = Field(2e-4, gt=0, le=1000, description="of the encoder, the highest of the schedule")
    head_learning_rate: float | None = Field(3e-3, gt=0, description="of the head; null: learning_rate")

    @property
    def is_frozen(self) -> bool:
        """Whether the encoder stays as it is."""
        return self.lora is None and self.tuned_layers == 0

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.lora and self.tuned_layers:
            raise ValueError("lora trains adapters in place of layers; leave lora or tuned_layers out")
        if self.pretrain:
            raise ValueError("it is pretrained; leave pretrain out")
        if self.processes > 1:
            raise ValueError("it is trained by one process; leave processes out, or raise threads")
        if self.freeze and not self.tuned_layers:
            raise ValueError("freeze is for layers that are trained otherwise; set tuned_layers, or leave freeze out")
        return self
