"""The range test of learning rates: the loss of a short training whose rate grows with every step (Smith 2017)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import isfinite

import torch
from torch import Tensor, nn

from refit.learners.networks.inputs import Inputs
from refit.learners.networks.loop import Task, backward
from refit.learners.networks.optimisers import optimizer_of, set_rate
from refit.learners.networks.transfer import freeze

__all__ = ["range_test"]

SMOOTHING = 0.95  # of the moving average of losses
DIVERGED = 4.0  # times the lowest loss


def range_test(
    network: nn.Module, rows: Inputs, target: Tensor, task: Task, rates: Sequence[float]
) -> tuple[float, ...]:
    """The smoothed loss at each rate, one step each; it ends where the loss diverges.

    The average is freed of its bias towards 0 in the first steps (Kingma and Ba 2015, section 3).
    """
    task = replace(task, params=task.params.model_copy(update={"precision": "32"}))
    network.to(task.device).train()
    freeze(network, task.frozen)
    optimizer, scaler = optimizer_of(task.params, network, task.head), torch.amp.GradScaler(enabled=False)
    average, smoothed = 0.0, list[float]()
    for count, (rate, batch) in enumerate(zip(rates, _endless(target, task), strict=False), start=1):
        set_rate(optimizer, rate)
        optimizer.zero_grad(set_to_none=True)
        parts = backward(network, rows, target, batch, batch.chunk(task.params.accumulate), task, scaler)
        loss = sum(share * float(of_part) for _, share, of_part in parts)
        average = SMOOTHING * average + (1 - SMOOTHING) * loss
        value = average / (1 - SMOOTHING**count)
        if not isfinite(value) or (smoothed and value > DIVERGED * min(smoothed)):
            break
        smoothed.append(value)
        if task.params.clip_norm is not None:
            nn.utils.clip_grad_norm_(network.parameters(), task.params.clip_norm)
        optimizer.step()
    return tuple(smoothed)


def _endless(target: Tensor, task: Task) -> Iterator[Tensor]:
    """The batches of one epoch after another, without a last one that is not full, unless it is the only one."""
    shuffle, size = torch.Generator().manual_seed(task.seed), task.params.batch_rows
    while True:
        batches = torch.randperm(len(target), generator=shuffle).split(size)  # type: ignore[no-untyped-call]
        yield from batches[:-1] if len(batches) > 1 and len(batches[-1]) < size else batches
