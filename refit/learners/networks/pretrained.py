"""The learner of architectures that are pretrained on their training rows, without labels."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from torch import nn

from refit.learners.contract import FitReport, Labels
from refit.learners.networks.architectures.autoencoder import Autoencoder, pretrain
from refit.learners.networks.loop import Task
from refit.learners.networks.losses import loss_of
from refit.learners.networks.network import Network
from refit.runtime.context import Progress

if TYPE_CHECKING:
    import pyarrow as pa


class Pretrained(Network):
    """A network that is pretrained once; later fits go on from its weights."""

    def _learn(
        self,
        start: Callable[[], nn.Module],
        table: pa.Table,
        label: Labels,
        validation: tuple[pa.Table, Labels] | None,
        iterations: int | None,
        progress: Progress,
    ) -> FitReport:
        def pretrained() -> nn.Module:
            network = start()
            assert isinstance(network, Autoencoder)
            if not network.pretrained:
                loss, device = loss_of(network.params, self.spec, label, self._where), self._device()
                scaling = self._prepared.scaling(device)
                name = f"{self.spec.name} (pretraining)"
                task = Task(name, network.params, loss, 1, self.spec.seed, device, scaling, progress=progress)
                pretrain(network, self._prepared.inputs(table), task)
            return network

        return super()._learn(pretrained, table, label, validation, iterations, progress)
