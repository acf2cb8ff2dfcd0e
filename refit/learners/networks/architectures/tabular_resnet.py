"""A residual network for tables (Gorishniy et al. 2021, "Revisiting deep learning models for tabular data", 3.2)."""

from __future__ import annotations

from pydantic import Field
from torch import Tensor, nn

from refit.learners.networks.blocks import Columns, squeezed
from refit.learners.networks.inputs import Inputs, InputShapes
from refit.learners.networks.params import ArchitectureParams

needs = frozenset({"columns", "vector"})


class Params(ArchitectureParams):
    """Arguments of kind `tabular_resnet`."""

    units: int = Field(192, ge=1, description="of the vector that each block changes")
    blocks: int = Field(2, ge=1, le=64)
    factor: float = Field(2.0, gt=0, le=16, description="units within a block, as a multiple of `units`")
    dropout: float = Field(0.2, ge=0, lt=1, description="within a block")
    residual_dropout: float = Field(0.0, ge=0, lt=1, description="of what a block adds")


class DenseBlock(nn.Module):
    """x + Dropout(Linear(Dropout(ReLU(Linear(BatchNorm(x))))))."""

    def __init__(self, params: Params) -> None:
        super().__init__()
        inner = max(1, round(params.units * params.factor))
        self.change = nn.Sequential(
            nn.BatchNorm1d(params.units),
            nn.Linear(params.units, inner),
            nn.ReLU(),
            nn.Dropout(params.dropout),
            nn.Linear(inner, params.units),
            nn.Dropout(params.residual_dropout),
        )

    def forward(self, rows: Tensor) -> Tensor:
        changed: Tensor = rows + self.change(rows)
        return changed


class TabularResnet(nn.Module):
    """Prediction(DenseBlock(... DenseBlock(Linear(x)))), where Prediction(x) = Linear(ReLU(BatchNorm(x)))."""

    def __init__(self, params: Params, inputs: InputShapes, outputs: int) -> None:
        super().__init__()
        self.columns = Columns(inputs)
        self.layers = nn.Sequential(
            nn.Linear(self.columns.width, params.units),
            *(DenseBlock(params) for _ in range(params.blocks)),
            nn.BatchNorm1d(params.units),
            nn.ReLU(),
            nn.Linear(params.units, outputs),
        )

    def forward(self, batch: Inputs) -> Tensor:
        return squeezed(self.layers(self.columns(batch)))


def build(params: Params, inputs: InputShapes, outputs: int) -> nn.Module:
    """The module with random weights."""
    return TabularResnet(params, inputs, outputs)
