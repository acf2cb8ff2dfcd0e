"""Gated recurrent units over the steps of a sequence (Cho et al. 2014)."""

from __future__ import annotations

from pydantic import Field
from torch import Tensor, nn

from refit.learners.networks.blocks import SequenceNetwork
from refit.learners.networks.inputs import InputShapes
from refit.learners.networks.params import ArchitectureParams

needs = frozenset({"sequence", "columns", "vector"})


class Params(ArchitectureParams):
    """Arguments of kind `gru`."""

    units: int = Field(64, ge=1, description="of the state")
    layers: int = Field(1, ge=1, le=8, description="the first reads the steps, each other one the states before it")
    dense: int = Field(64, ge=1, description="units of the layer that joins the last state with the other columns")
    dropout: float = Field(0.1, ge=0, lt=1, description="between the layers")


class Recurrent(nn.Module):
    """(rows, steps, values) to (rows, steps, units)."""

    def __init__(self, cell: type[nn.GRU] | type[nn.LSTM], values: int, params: Params) -> None:
        super().__init__()
        dropout = params.dropout if params.layers > 1 else 0.0
        self.layers = cell(values, params.units, params.layers, batch_first=True, dropout=dropout)

    def forward(self, steps: Tensor) -> Tensor:
        states: Tensor = self.layers(steps)[0]
        return states


def build(params: Params, inputs: InputShapes, outputs: int) -> nn.Module:
    """The module with random weights.

    Raises:
        UserError: there is no sequence.
    """
    return recurrent("gru", nn.GRU, params, inputs, outputs)


def recurrent(
    kind: str, cell: type[nn.GRU] | type[nn.LSTM], params: Params, inputs: InputShapes, outputs: int
) -> nn.Module:
    """The network of a kind of cell."""
    return SequenceNetwork(
        kind,
        inputs,
        lambda values, _: Recurrent(cell, values, params),
        units=params.units,
        dense=params.dense,
        dropout=params.dropout,
        outputs=outputs,
    )
