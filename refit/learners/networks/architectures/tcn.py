"""A temporal convolutional network over the steps of a sequence (Bai et al. 2018, section 3)."""

from __future__ import annotations

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import weight_norm

from refit.learners.networks.blocks import SequenceNetwork
from refit.learners.networks.inputs import InputShapes
from refit.learners.networks.params import ArchitectureParams

needs = frozenset({"sequence", "columns", "vector"})


class Params(ArchitectureParams):
    """Arguments of kind `tcn`."""

    channels: int = Field(32, ge=1, description="of each convolution")
    kernel: int = Field(3, ge=2, le=64, description="steps that a convolution joins")
    levels: int | None = Field(
        None, ge=1, le=16, description="residual blocks, each looking twice as far back; null: as many as see all steps"
    )
    dense: int = Field(64, ge=1, description="units of the layer that joins the last state with the other columns")
    dropout: float = Field(0.1, ge=0, lt=1, description="after each convolution, and around the dense layer")


class CausalConvolution(nn.Module):
    """A convolution of a step with earlier ones, `dilation` apart, with weight normalisation."""

    def __init__(self, before: int, channels: int, kernel: int, dilation: int) -> None:
        super().__init__()
        self.reach = (kernel - 1) * dilation
        self.convolution = weight_norm(nn.Conv1d(before, channels, kernel, dilation=dilation))

    def forward(self, steps: Tensor) -> Tensor:
        convolved: Tensor = self.convolution(functional.pad(steps, (self.reach, 0)))  # only the past is padded
        return convolved


class TemporalBlock(nn.Module):
    """Two causal convolutions and a residual connection (figure 1b)."""

    def __init__(self, before: int, params: Params, dilation: int) -> None:
        super().__init__()
        width, dropout = params.channels, params.dropout
        self.convolutions = nn.Sequential(
            CausalConvolution(before, width, params.kernel, dilation), nn.ReLU(), nn.Dropout(dropout),
            CausalConvolution(width, width, params.kernel, dilation), nn.ReLU(), nn.Dropout(dropout),
        )  # fmt: skip
        self.shortcut = nn.Identity() if before == width else nn.Conv1d(before, width, 1)

    def forward(self, steps: Tensor) -> Tensor:
        return functional.relu(self.convolutions(steps) + self.shortcut(steps))


class Tcn(nn.Module):
    """(rows, steps, values) to (rows, steps, channels)."""

    def __init__(self, values: int, levels: int, params: Params) -> None:
        super().__init__()
        widths = [values, *[params.channels] * (levels - 1)]
        self.blocks = nn.Sequential(*(TemporalBlock(before, params, 2**level) for level, before in enumerate(widths)))

    def forward(self, steps: Tensor) -> Tensor:
        outputs: Tensor = self.blocks(steps.transpose(1, 2)).transpose(1, 2)
        return outputs


def levels_for(steps: int, kernel: int) -> int:
    """The fewest blocks whose last output depends on all steps: n blocks see 1 + 2 (kernel - 1) (2^n - 1) of them.

    >>> levels_for(30, kernel=3), levels_for(29, kernel=3), levels_for(1, kernel=3)
    (4, 3, 1)
    """
    levels = 1
    while 1 + 2 * (kernel - 1) * (2**levels - 1) < steps:
        levels += 1
    return levels


def build(params: Params, inputs: InputShapes, outputs: int) -> nn.Module:
    """The module with random weights.

    Raises:
        UserError: there is no sequence.
    """
    return SequenceNetwork(
        "tcn",
        inputs,
        lambda values, steps: Tcn(values, params.levels or levels_for(steps, params.kernel), params),
        units=params.channels,
        dense=params.dense,
        dropout=params.dropout,
        outputs=outputs,
    )
