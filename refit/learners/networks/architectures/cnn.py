"""A small network for small images: convolutions with pooling, and two dense layers (LeCun et al. 1998)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor, nn

from refit.learners.networks.inputs import Inputs, InputShapes
from refit.learners.networks.params import ArchitectureParams

needs = frozenset({"image"})


class Params(ArchitectureParams):
    """Arguments of kind `cnn`."""

    channels: list[Annotated[int, Field(ge=1)]] = Field(
        [32, 64], min_length=1, max_length=6, description="of each convolution, 3 x 3 with ReLU"
    )
    pool: Literal["each", "last"] = Field(
        "each", description="halve the image after each convolution, or only after the last: slower, no better on MNIST"
    )
    dense: int = Field(128, ge=1, description="units of the layer before the last")
    dropout: float = Field(0.25, ge=0, lt=1, description="after the pooling, and twice as much after the dense layer")
    batch_rows: int = Field(128, ge=1, description="rows of one step")
    epochs: int = Field(6, ge=1, description="passes over the training rows; the schedule spans them")


class Cnn(nn.Module):
    """Convolutions without padding, poolings of 2 x 2 and two dense layers."""

    def __init__(self, name: str, shape: tuple[int, int, int], params: Params, outputs: int) -> None:
        super().__init__()
        self.name = name
        height, width, before = shape
        layers: list[nn.Module] = []
        for index, channels in enumerate(params.channels):
            layers.append(nn.Conv2d(before, channels, 3))
            height, width, before = height - 2, width - 2, channels
            if params.pool == "each" or index == len(params.channels) - 1:
                layers.append(nn.MaxPool2d(2))
                height, width = height // 2, width // 2
            layers.append(nn.ReLU())  # after the pooling: the same values, for a quarter of the work
        self.convolutions = nn.Sequential(*layers, nn.Dropout(params.dropout), nn.Flatten())
        self.dense = nn.Sequential(
            nn.Linear(before * height * width, params.dense),
            nn.ReLU(),
            nn.Dropout(min(2 * params.dropout, 0.9)),
            nn.Linear(params.dense, outputs),
        )

    def forward(self, batch: Inputs) -> Tensor:
        outputs: Tensor = self.dense(self.convolutions(batch.images[self.name]))
        return outputs.squeeze(1) if outputs.shape[1] == 1 else outputs


def build(params: Params, inputs: InputShapes, outputs: int) -> nn.Module:
    """The module with random weights.

    Raises:
        UserError: there is no image, or it is too small.
    """
    smallest = 2  # before the last pooling
    for index in range(len(params.channels)):
        smallest = (2 * smallest if params.pool == "each" and index else smallest) + 2
    name, shape = inputs.only_image("cnn", smallest=smallest)
    return Cnn(name, shape, params, outputs)
