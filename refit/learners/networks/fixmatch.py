"""FixMatch: what a network is sure of for a weakly changed image is the label of the strongly changed one.

Sohn, Berthelot, Li, Zhang, Carlini, Cubuk, Kurakin, Zhang and Raffel (2020), "FixMatch: simplifying semi-supervised
learning with consistency and confidence", algorithm 1.
"""

from __future__ import annotations

from dataclasses import replace
from math import ceil

import torch
from torch import Tensor, nn
from torch.nn import functional

from refit.errors import UserError
from refit.learners.contract import Spec
from refit.learners.networks.augment import augmented
from refit.learners.networks.inputs import Inputs
from refit.learners.networks.loop import BatchLoss, Task, outputs_of
from refit.learners.networks.params import ArchitectureParams, FixMatch

__all__ = ["applied", "check", "consistency", "fixmatch"]


def check(spec: Spec, params: ArchitectureParams, where: str) -> None:
    """Raise UserError if it does not fit the features, the task or the other arguments."""
    if params.fixmatch is None:
        return
    fault = ""
    if not any(array.kind == "image" for array in spec.arrays.values()):
        fault = "fixmatch changes images, and no feature is one; leave it out"
    elif spec.task == "regression":
        fault = "fixmatch is for classes, and train.task is regression; leave it out"
    elif params.mixup:
        fault = "fixmatch and mixup do not go together; leave one out"
    elif params.processes > 1:
        fault = "fixmatch runs in one process; set processes: 1"
    if fault:
        raise UserError(f"learner {spec.kind!r}: {fault} ({where}.params.fixmatch)")


def fixmatch(how: FixMatch, unlabelled: Inputs) -> BatchLoss:
    """The loss of a batch with labels, and of `ratio` times as many random rows without one: l_s + lambda_u l_u."""

    def batch_loss(network: nn.Module, batch: Inputs, target: Tensor, task: Task) -> Tensor:
        batch, target = batch.to(task.device), target.to(task.device)
        drawn = torch.randint(len(unlabelled), (how.ratio * len(batch),))
        rows = unlabelled.take(drawn).to(task.device)
        with torch.no_grad():
            weak = outputs_of(network, task.scaling(augmented(rows, task.params.augment)), task)
        labelled, strong = augmented(batch, task.params.augment), augmented(rows, how.augment)
        outputs = outputs_of(network, task.scaling(labelled.joined(strong)), task)  # in one pass, as a batch norm wants
        supervised = task.loss(outputs[: len(batch)], target)  # eq. 3
        return supervised + how.weight * consistency(weak, outputs[len(batch) :], how.threshold)

    return batch_loss


def consistency(weak: Tensor, strong: Tensor, threshold: float) -> Tensor:
    """Eq. 4: the mean over all rows of 1(max q >= threshold) H(argmax q, p), q of weak and p of strong changes."""
    if weak.ndim == 1:
        positive = torch.sigmoid(weak)
        sure = torch.maximum(positive, 1 - positive) >= threshold
        losses = functional.binary_cross_entropy_with_logits(strong, (positive > 0.5).float(), reduction="none")
    else:
        confidence, label = torch.softmax(weak, dim=1).max(dim=1)
        sure = confidence >= threshold
        losses = functional.cross_entropy(strong, label, reduction="none")
    return (losses * sure).mean()


def applied(task: Task, how: FixMatch, labelled: int, unlabelled: Inputs) -> tuple[Task, Tensor]:
    """The task with the loss of FixMatch, and the labelled rows of an epoch.

    These are repeated, each as often as any other or once more, so that an epoch sees about as many rows as there are
    without a label.
    """
    times, rest = divmod(max(labelled, ceil(len(unlabelled) / how.ratio)), labelled)
    once_more = torch.randperm(labelled, generator=torch.Generator().manual_seed(task.seed))[:rest]
    index = torch.cat([torch.arange(labelled).repeat(times), once_more])
    return replace(task, batch_loss=fixmatch(how, unlabelled), origins=index), index
