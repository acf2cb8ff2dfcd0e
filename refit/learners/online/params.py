"""The arguments of kind `online`, and those of its own model `linear`."""

from __future__ import annotations

from pydantic import Field

from refit.config.train import Arguments
from refit.learners.networks.params import Closed, Positive

__all__ = ["DetectorParams", "LinearParams", "OnlineParams"]


class DetectorParams(Closed):
    """A drift detector of river with arguments of its own."""

    kind: str
    params: Arguments = Field({}, description="its arguments")


class OnlineParams(Closed):
    """Arguments of kind `online`."""

    kind: str = Field("linear", description="linear, a class of river, or an estimator with partial_fit")
    params: Arguments = Field({}, description="arguments of the model")
    scale: bool = Field(False, description="give a river model numbers of unit scale; the others always get them")
    detectors: list[str | DetectorParams] = Field([], description="of drift, that watch the error of each step")


class LinearParams(Closed):
    """Arguments of kind `linear`."""

    learning_rate: Positive = 0.5
