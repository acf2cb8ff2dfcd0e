"""The losses that networks minimise, each the mean over the rows of a batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from refit.config import nearest
from refit.errors import UserError
from refit.learners.contract import Labels, Spec
from refit.learners.networks.params import ArchitectureParams

__all__ = ["LINKS", "Loss", "loss_of", "nothing"]

Loss = Callable[[Tensor, Tensor], Tensor]  # from outputs and targets of a batch to a mean
OF_TASK = {
    "binary": ("cross_entropy", "focal"),
    "multiclass": ("cross_entropy", "focal"),
    "regression": ("mse", "mae", "huber", "pinball"),
}

LINKS: dict[str, Callable[[Tensor], Tensor]] = {  # from outputs to predictions
    "binary": torch.sigmoid,
    "multiclass": lambda outputs: torch.softmax(outputs, dim=1),
    "regression": lambda outputs: outputs,
}


def loss_of(params: ArchitectureParams, spec: Spec, label: Labels, where: str = "params.yaml: train.learners") -> Loss:
    """The loss that the params name, or the usual one of the task.

    Raises:
        UserError: the loss is not for this task, or the weights are not those of its classes.
    """
    name = "pinball" if spec.quantile is not None else params.loss or OF_TASK[spec.task][0]
    if name not in OF_TASK[spec.task]:
        raise UserError(
            f"learner {spec.kind!r}: loss {name!r} is not for task {spec.task!r}; choose one of "
            f"{', '.join(OF_TASK[spec.task])} ({where}.params.loss)"
        )
    if spec.task == "regression":
        if params.class_weights or params.label_smoothing:
            raise UserError(
                f"learner {spec.kind!r}: class_weights and label_smoothing are for classes; leave them out "
                f"({where}.params)"
            )
        numeric: dict[str, Loss] = {
            "mse": functional.mse_loss,
            "mae": functional.l1_loss,
            "huber": partial(functional.huber_loss, delta=params.huber_delta),  # Huber 1964
            "pinball": partial(pinball, level=spec.level),
        }
        return numeric[name]
    weights = class_weights(params, spec, label, where)
    rowwise = cross_entropy if spec.task == "multiclass" else binary_cross_entropy
    smoothing, gamma = params.label_smoothing, params.focal_gamma if name == "focal" else 0.0
    if weights is None and not smoothing and not gamma:
        return functional.cross_entropy if spec.task == "multiclass" else functional.binary_cross_entropy_with_logits
    return partial(_weighted, rowwise=partial(rowwise, smoothing=smoothing), weights=weights, gamma=gamma)


def cross_entropy(outputs: Tensor, target: Tensor, smoothing: float) -> Tensor:
    """(rows,) -sum_k q_k log p_k, where q is the label with a share spread over all classes (Szegedy et al. 2016)."""
    return functional.cross_entropy(outputs, target, label_smoothing=smoothing, reduction="none")


def binary_cross_entropy(outputs: Tensor, target: Tensor, smoothing: float) -> Tensor:
    """(rows,) -q log p - (1 - q) log(1 - p), where q is the label moved towards a half."""
    smooth = target * (1 - smoothing) + smoothing / 2
    return functional.binary_cross_entropy_with_logits(outputs, smooth, reduction="none")


def focal_factor(outputs: Tensor, target: Tensor, gamma: float) -> Tensor:
    """(rows,) (1 - p)^gamma, where p is the predicted probability of the label (Lin et al. 2017, eq. 4).

    It is computed from log(1 - p), because the slope of a power below 1 is infinite where 1 - p is rounded to 0.
    """
    if outputs.ndim == 1:
        wrong = functional.logsigmoid(torch.where(target > 0.5, -outputs, outputs))
    else:
        is_label = functional.one_hot(target, outputs.shape[1]).bool()
        wrong = outputs.masked_fill(is_label, float("-inf")).logsumexp(dim=1) - outputs.logsumexp(dim=1)
    return (gamma * wrong).exp()


def pinball(outputs: Tensor, target: Tensor, level: float) -> Tensor:
    """The pinball loss, which the quantile of a level minimises (Koenker and Bassett 1978)."""
    left = target - outputs
    return torch.maximum(level * left, (level - 1) * left).mean()


def class_weights(params: ArchitectureParams, spec: Spec, label: Labels, where: str) -> Tensor | None:
    """(classes,) weights whose mean over the training rows is 1, so that they do not change the size of a step.

    `balanced` gives each class the same total weight (King and Zeng 2001), and 1 to one without rows.

    Raises:
        UserError: a class has no weight, or a weight no class.
    """
    if params.class_weights is None:
        return None
    names = spec.classes or ("0", "1")
    counts = np.bincount(label.astype(np.int64), minlength=len(names)).astype(np.float64)
    if isinstance(params.class_weights, Mapping):
        for name in params.class_weights.keys() ^ set(names):
            what = f"no weight for class {name!r}" if name in names else f"no class {name!r}{nearest(name, names)}"
            raise UserError(f"learner {spec.kind!r}: {what} ({where}.params.class_weights)")
        weights = np.array([params.class_weights[name] for name in names])
    else:
        weights = 1 / np.maximum(counts, 1)
    weights = weights * counts.sum() / (weights * counts).sum()
    if params.class_weights == "balanced":
        weights[counts == 0] = 1  # of no row that is learned, but maybe of one that is scored
    return torch.tensor(weights, dtype=torch.float32)


def _weighted(outputs: Tensor, target: Tensor, *, rowwise: Loss, weights: Tensor | None, gamma: float) -> Tensor:
    losses = rowwise(outputs, target)
    if gamma:
        losses = losses * focal_factor(outputs, target, gamma)
    if weights is not None:
        losses = losses * weights.to(outputs.device)[target.long()]
    return losses.mean()


def nothing(outputs: Tensor, target: Tensor) -> Tensor:
    """The loss where there is no target."""
    return outputs.new_zeros(())
