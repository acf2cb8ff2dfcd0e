"""A residual network for small images (He et al. 2016, "Deep residual learning for image recognition", section 4.2)."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from refit.learners.networks.blocks import squeezed
from refit.learners.networks.inputs import Inputs, InputShapes
from refit.learners.networks.params import ArchitectureParams

needs = frozenset({"image"})


class Params(ArchitectureParams):
    """Arguments of kind `resnet`."""

    depth: int = Field(20, ge=8, le=1202, description="layers with weights, 6n + 2: 8, 14, 20, 26, 32, ...")
    width: int = Field(16, ge=1, description="channels of the first third; the others have two and four times as many")

    @model_validator(mode="after")
    def _whole_blocks(self) -> Self:
        if (self.depth - 2) % 6:
            below = 6 * ((self.depth - 2) // 6) + 2
            raise ValueError(f"depth must be 6n + 2, such as {below} or {below + 6}")
        return self


class ResidualBlock(nn.Module):
    """Two convolutions of 3 x 3 and a shortcut without weights (option A)."""

    def __init__(self, before: int, channels: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(before, channels, 3, stride, padding=1, bias=False)
        self.first_norm = nn.BatchNorm2d(channels)
        self.second = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.second_norm = nn.BatchNorm2d(channels)
        self.stride, self.added = stride, channels - before

    def forward(self, images: Tensor) -> Tensor:
        inner = functional.relu(self.first_norm(self.first(images)))
        shortcut = images[:, :, :: self.stride, :: self.stride]
        shortcut = functional.pad(shortcut, (0, 0, 0, 0, 0, self.added))  # more channels, of zeros
        return functional.relu(self.second_norm(self.second(inner)) + shortcut)


class Resnet(nn.Module):
    """A convolution, three groups of blocks, each at half the resolution of the last, and the mean over all pixels."""

    def __init__(self, name: str, channels: int, params: Params, outputs: int) -> None:
        super().__init__()
        self.name = name
        width, blocks = params.width, (params.depth - 2) // 6
        self.stem = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )
        layers, before = [], width
        for group in range(3):
            for block in range(blocks):
                after = width * 2**group
                layers.append(ResidualBlock(before, after, stride=2 if group and not block else 1))
                before = after
        self.blocks = nn.Sequential(*layers)
        self.head = nn.Linear(before, outputs)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")  # He et al. 2015, eq. 10

    def forward(self, batch: Inputs) -> Tensor:
        maps: Tensor = self.blocks(self.stem(batch.images[self.name]))
        return squeezed(self.head(maps.mean(dim=(2, 3))))


def build(params: Params, inputs: InputShapes, outputs: int) -> nn.Module:
    """The module with random weights.

    Raises:
        UserError: there is no image, or it is too small.
    """
    name, (_, _, channels) = inputs.only_image("resnet", smallest=4)
    return Resnet(name, channels, params, outputs)
