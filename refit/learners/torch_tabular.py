"""Kind `torch_tabular`: the older name of `mlp`, with its older arguments, defaults and stored models."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, JsonValue

from refit.learners.networks.architecture import Architecture, architecture
from refit.learners.networks.network import Network
from refit.learners.networks.params import ArchitectureParams, Closed, checked

__all__ = ["TorchTabular"]


class TabularParams(Closed):
    """Arguments of kind `torch_tabular`."""

    hidden: list[Annotated[int, Field(ge=1)]] = Field([256, 128], min_length=1, description="units of each layer")
    dropout: float = Field(0.1, ge=0, lt=1)
    learning_rate: float = Field(1e-3, gt=0)
    weight_decay: float = Field(1e-2, ge=0)
    batch_rows: int = Field(4096, ge=1)
    max_epochs: int = Field(30, ge=1)
    patience: int = Field(4, ge=1, description="epochs without a better validation score before it stops")
    max_categories: int = Field(10_000, ge=1, description="the rarer ones of a feature count as missing")


class TorchTabular(Network):
    """An `mlp` that is trained by AdamW along half a cosine."""

    def _read(self, where: str) -> tuple[Architecture, ArchitectureParams]:
        older = checked(TabularParams, self.spec.kind, self.spec.params, where).model_dump()
        mlp = architecture("mlp")
        epochs = older.pop("max_epochs")
        return mlp, mlp.Params(epochs=epochs, optimizer="adamw", schedule="cosine", **older)

    def _stored_arguments(self) -> dict[str, JsonValue]:
        """None: these defaults never change, and stored models keep their bytes."""
        return {}
