"""The training loop of every network, from top to bottom."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from math import isfinite

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from refit.errors import UserError
from refit.learners.contract import CurvePoint
from refit.learners.networks.augment import augmented, mixed
from refit.learners.networks.checkpoints import Checkpoint, State
from refit.learners.networks.inputs import ImageScaling, Inputs
from refit.learners.networks.losses import Loss
from refit.learners.networks.optimisers import Plateau, optimizer_of, rate, set_rate
from refit.learners.networks.params import ArchitectureParams
from refit.learners.networks.processes import ALONE, Group
from refit.learners.networks.surroundings import EpochReport
from refit.learners.networks.transfer import freeze
from refit.runtime.context import Progress, silent

__all__ = ["BatchLoss", "Task", "backward", "loss_of_batch", "outputs_of", "rows_in_words", "train"]

HALF_PRECISION = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
SHOW_ROWS = 5  # of a batch whose loss is not finite
SHOW_SECONDS = 1.0  # between two reports of progress within an epoch
DIVERGED = 10.0  # times the loss of the first batch of this process, from which a warning says so


BatchLoss = Callable[[nn.Module, Inputs, Tensor, "Task"], Tensor]  # of the network, rows and targets of a batch


@dataclass(frozen=True)
class Task:
    """What a network is trained for, and how."""

    name: str  # of the learner, for messages
    params: ArchitectureParams
    loss: Loss
    epochs: int  # to run; the schedule spans `params.epochs`
    seed: int
    device: torch.device
    scaling: ImageScaling
    score: Callable[[nn.Module, int], CurvePoint] | None = None  # after an epoch, on training and validation rows
    best: Callable[[Sequence[CurvePoint]], int] = len  # the best epoch of a curve
    goes_on: bool = False  # from a network that was trained before, which may be best without another epoch
    origins: Tensor | None = None  # of the rows of an epoch, where it repeats training rows: their numbers
    head: frozenset[str] = frozenset()  # weights of the last layer; see `refit.learners.networks.transfer`
    frozen: frozenset[str] = frozenset()  # weights that are not trained before `params.thaw_epoch`
    batch_loss: BatchLoss = field(default=lambda *batch: loss_of_batch(*batch))
    counts: Tensor | None = None  # (rows,) numbers of values that the loss of a batch is the mean of; None: one a row
    on_epoch: Callable[[EpochReport], None] | None = None
    judge: Callable[[Sequence[CurvePoint], int], None] | None = None  # of the curve so far: may end the fit
    shuffle: torch.Generator | None = None  # draws the order of the rows; one of `seed` if None
    progress: Progress = silent

    def share(self, part: Tensor, batch: Tensor) -> float:
        """The weight of the loss of some rows of a batch in the loss of the batch."""
        if self.counts is None or len(part) == len(batch):
            return len(part) / len(batch)
        of_part, of_batch = (int(self.counts[rows.cpu()].sum()) for rows in (part, batch))
        return of_part / max(1, of_batch)


def train(
    network: nn.Module,
    rows: Inputs,
    target: Tensor,
    task: Task,
    checkpoint: Checkpoint | None = None,
    group: Group = ALONE,
) -> tuple[CurvePoint, ...]:
    """Train a network in place; returns its scores after each epoch, if there are validation rows to score.

    One that goes on is scored before the first epoch too, as epoch 0.

    With them it ends with the weights of the best epoch, and stops when `patience` epochs were no better; those before
    all weights are trained do not count, for a head alone is soon as good as it can be.

    Raises:
        UserError: the loss or the weights are no longer finite, the memory does not suffice, or a batch norm reads one
            row at a time.
    """
    params, device = task.params, task.device
    network.to(device)
    rows, target = _near(rows, target, device)
    optimizer = optimizer_of(params, network, task.head)
    scaler = torch.amp.GradScaler(device.type, enabled=params.precision == "16-mixed")
    averaged = AveragedModel(network, avg_fn=_moving_average(params.ema), use_buffers=True) if params.ema else None
    shuffle = task.shuffle or torch.Generator().manual_seed(task.seed)
    state = State(network, optimizer, scaler, averaged, shuffle, Plateau(params), task.epochs)
    predicting = state.predicting
    if checkpoint:
        checkpoint.restore(state)
    if task.goes_on and task.score is not None and not state.curve:
        state.curve.append(task.score(predicting, 0))
        state.best = _copy_of(predicting)
    if task.judge and state.curve:
        task.judge(state.curve, task.epochs)
    if not state.finished:
        group.share(state, rows)
    first_loss: float | None = None
    warned = False
    while state.epoch < task.epochs and not state.finished:
        started = time.monotonic()
        task.progress(f"fitting {task.name}, epochs", state.epoch, task.epochs)
        watch = _steps(rows, target, task, state, group)
        mean_loss = watch.mean(network, group)
        state.plateau.after_epoch(mean_loss)
        state.epoch += 1
        if task.score is not None:
            state.curve.append(task.score(predicting, state.epoch))
            if (best := task.best(state.curve)) == state.epoch:
                state.best = _copy_of(predicting)
            state.finished = state.epoch - max(best, params.thaw_epoch or 0) >= params.patience
        state.finished = group.agree(state.finished or state.epoch == task.epochs)
        if checkpoint:
            checkpoint.write(state)
        highest = max(each["lr"] for each in optimizer.param_groups)
        _report(task, state, mean_loss, highest, time.monotonic() - started)
        first_loss = watch.first if first_loss is None else first_loss
        if not warned and (warned := mean_loss > DIVERGED * first_loss > 0):
            task.progress(
                f"warning: {task.name} diverges: its loss is {mean_loss:.3g} in epoch {state.epoch} and was "
                f"{first_loss:.3g} in its first batch; lower learning_rate, or set clip_norm"
            )
        if task.judge and state.curve:
            task.judge(state.curve, task.epochs)
    network.load_state_dict(state.best or _copy_of(predicting))
    freeze(network, task.frozen, thawed=True)  # for whatever trains it next
    network.to("cpu").eval()
    return tuple(state.curve)


def _steps(rows: Inputs, target: Tensor, task: Task, state: State, group: Group) -> LossWatch:
    """Make an epoch's steps, one for each batch; returns the losses."""
    params, network, scaler, epoch = task.params, state.network, state.scaler, state.epoch
    network.train()
    freeze(network, task.frozen, thawed=params.thaw_epoch is not None and epoch >= params.thaw_epoch)
    group.seed(task.seed, epoch)
    watch = LossWatch(task, epoch)
    batches = _batches(network, target, params.batch_rows, state.shuffle, params.accumulate * group.count)
    for step, batch in enumerate(batches):
        set_rate(state.optimizer, rate(params, epoch, step, len(batches), state.plateau.factor))
        state.optimizer.zero_grad(set_to_none=True)
        parts = group.parts(batch, params.accumulate)
        for part, _, loss in backward(network, rows, target, batch, parts, task, scaler):
            watch.add(loss, part, step, len(batches))
        group.add_gradients(network)
        if params.clip_norm is not None:
            scaler.unscale_(state.optimizer)
            nn.utils.clip_grad_norm_(network.parameters(), params.clip_norm)  # Pascanu et al. 2013
        scaler.step(state.optimizer)
        scaler.update()
        if state.averaged:
            state.averaged.update_parameters(network)
    return watch


def backward(
    network: nn.Module,
    rows: Inputs,
    target: Tensor,
    batch: Tensor,
    parts: Iterable[Tensor],
    task: Task,
    scaler: torch.amp.GradScaler,
) -> Iterator[tuple[Tensor, float, Tensor]]:
    """Add up the gradient of the mean loss of a batch, part by part; yields each part, its share and its mean loss.

    Raises:
        UserError: a batch norm reads one row at a time.
    """
    for part in parts:
        loss, share = _checked_loss(network, rows.take(part), target[part], task), task.share(part, batch)
        scaler.scale(loss if share == 1 else loss * share).backward()  # type: ignore[no-untyped-call]
        yield part, share, loss.detach()


def loss_of_batch(network: nn.Module, batch: Inputs, target: Tensor, task: Task) -> Tensor:
    """The mean loss of a batch, after augmentation and mixup."""
    params = task.params
    batch, target = batch.to(task.device), target.to(task.device)
    batch = task.scaling(augmented(batch, params.augment))
    if not params.mixup:
        return task.loss(outputs_of(network, batch, task), target)
    batch, other, share = mixed(batch, params.mixup)
    outputs = outputs_of(network, batch, task)
    return share * task.loss(outputs, target) + (1 - share) * task.loss(outputs, target[other])


def _checked_loss(network: nn.Module, batch: Inputs, target: Tensor, task: Task) -> Tensor:
    """The loss of a batch by the task; one line if a batch norm reads one row at a time."""
    try:
        return task.batch_loss(network, batch, target, task)
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):  # of a batch norm, for a part of a batch of one row
            raise
        params = task.params
        raise UserError(
            f"learner {task.name!r}: a batch norm cannot learn from one row, and a batch or a part of one has no more "
            f"(batch_rows {params.batch_rows}, accumulate {params.accumulate}, processes {params.processes}); raise "
            "batch_rows, or lower accumulate or processes"
        ) from error


def outputs_of(network: nn.Module, batch: Inputs, task: Task) -> Tensor:
    """The outputs of scaled rows, by mixed precision if the params say so."""
    outputs: Tensor
    if task.params.precision == "32":
        outputs = network(batch)
    else:
        with torch.autocast(task.device.type, HALF_PRECISION[task.params.precision]):
            outputs = network(batch).float()
    return outputs


def _near(rows: Inputs, target: Tensor, device: torch.device) -> tuple[Inputs, Tensor]:
    """The rows on the device if they take at most half of its free memory; else unchanged, to be moved by batch."""
    if device.type == "cuda" and 2 * sum(each.nbytes for each in rows.tensors()) > torch.cuda.mem_get_info(device)[0]:
        return rows, target
    return rows.to(device), target.to(device)


def _batches(network: nn.Module, target: Tensor, size: int, shuffle: torch.Generator, parts: int) -> tuple[Tensor, ...]:
    """The row numbers of each batch, in a new order; no batch norm learns of a last batch with a part of one row."""
    batches = torch.randperm(len(target), generator=shuffle).to(target.device).split(size)  # type: ignore[no-untyped-call]
    norms = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.modules())
    too_small = any(len(part) == 1 for part in batches[-1].chunk(parts))
    return tuple(batches[:-1] if norms and len(batches) > 1 and too_small else batches)


def _moving_average(decay: float) -> Callable[[Tensor, Tensor, Tensor | int], Tensor]:
    """Exponential moving average of weights (Polyak and Juditsky 1992), with less memory in the first steps.

    The statistics of batch norms are averaged with them: those of the latest weights are not those of the average.
    Counts are taken over, and so is what is infinite, such as a mask.
    """

    def average(averaged: Tensor, weight: Tensor, count: Tensor | int) -> Tensor:
        if not weight.is_floating_point():
            return weight
        steps = int(count)
        mean = torch.lerp(averaged, weight, 1 - min(decay, (1 + steps) / (10 + steps)))
        return torch.where(averaged == weight, weight, mean)

    return average


def _copy_of(network: nn.Module) -> dict[str, Tensor]:
    return copy.deepcopy(network.state_dict())


class LossWatch:
    """Adds up the losses of an epoch and stops the training as soon as one is not finite."""

    def __init__(self, task: Task, epoch: int) -> None:
        self._task, self._epoch = task, epoch
        self._every = 32 if task.device.type == "cuda" else 1  # to read a loss is to wait for the GPU
        self._pending: list[tuple[Tensor, Tensor, int]] = []
        self._total, self._rows, self._shown = 0.0, 0, time.monotonic()
        self.first = 0.0  # of the epoch's losses

    def add(self, loss: Tensor, rows: Tensor, step: int, steps: int) -> None:
        self._pending.append((loss, rows, step))
        if len(self._pending) < self._every:
            return
        self._check()
        if (now := time.monotonic()) - self._shown > SHOW_SECONDS:
            self._shown = now
            self._task.progress(f"fitting {self._task.name}, epochs", self._epoch + step / steps, self._task.epochs)

    def mean(self, network: nn.Module, group: Group) -> float:
        """The mean loss of the epoch's rows, those of the other processes included.

        Raises:
            UserError: a loss or a weight is not finite.
        """
        self._check()
        if not all(bool(weight.isfinite().all()) for weight in network.parameters()):
            raise UserError(
                f"learner {self._task.name!r}: weights are no longer finite after epoch {self._epoch + 1}; lower "
                "learning_rate, or set clip_norm"
            )
        total, rows = group.sums(self._total, self._rows)
        return total / rows

    def _check(self) -> None:
        losses = [loss for loss, _, _ in self._pending]
        values = torch.stack(losses).tolist() if len(losses) > 1 else [float(loss) for loss in losses]
        for value, (_, rows, step) in zip(values, self._pending, strict=True):
            if not isfinite(value):
                rows = rows.cpu() if self._task.origins is None else self._task.origins[rows.cpu()]
                raise UserError(
                    f"learner {self._task.name!r}: the loss is {value} in epoch {self._epoch + 1}, batch {step + 1} "
                    f"({rows_in_words(rows)}); lower learning_rate, set clip_norm, or look at these rows"
                )
            self.first = value if self._rows == 0 else self.first
            self._total += value * len(rows)
            self._rows += len(rows)
        self._pending.clear()


def rows_in_words(rows: Tensor) -> str:
    """The first rows of a batch by their numbers.

    >>> rows_in_words(torch.tensor([7, 2])), rows_in_words(torch.arange(9))
    ('training rows 7, 2, counted from 0', 'training rows 0, 1, 2, 3, 4 and 4 more, counted from 0')
    """
    more = f" and {len(rows) - SHOW_ROWS} more" if len(rows) > SHOW_ROWS else ""
    return f"training rows {', '.join(map(str, rows[:SHOW_ROWS].tolist()))}{more}, counted from 0"


def _report(task: Task, state: State, loss: float, learning_rate: float, seconds: float) -> None:
    if task.on_epoch is None:
        return
    point = state.curve[-1] if state.curve else None
    scores = {"training": point.training, "validation": point.validation} if point else {}
    task.on_epoch(
        EpochReport(task.name, task.seed, state.epoch, task.epochs, loss, learning_rate, round(seconds, 3), **scores)
    )
