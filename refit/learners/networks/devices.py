"""Where a network is trained, and the errors of a device: too little memory, or none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch

from refit.errors import UserError
from refit.learners.contract import Spec
from refit.learners.networks.params import ArchitectureParams

__all__ = ["device_name", "predicting_memory_errors", "rows_at_once", "training_device", "training_memory_errors"]

PREDICT_ROWS = 512  # most rows that are predicted at once


def training_memory_errors(
    spec: Spec, params: ArchitectureParams, device: torch.device, where: str
) -> AbstractContextManager[None]:
    """Say what to lower if the memory of a device does not suffice for a training."""
    advice = (
        "lower batch_rows, raise accumulate (the same step in parts), set precision: bf16-mixed, or make the network "
        f"smaller ({where}.params)"
    )
    return _memory_errors(spec, device, f"for {params.batch_rows} rows a batch", advice)


def predicting_memory_errors(spec: Spec, params: ArchitectureParams, where: str) -> AbstractContextManager[None]:
    """Say what to do if the memory of the CPU does not suffice to predict."""
    advice = (
        "predict on a machine with more memory, or train with a lower batch_rows or a higher accumulate, which bound "
        f"these rows too, or with a smaller network ({where}.params)"
    )
    purpose = f"to predict {rows_at_once(params.batch_rows, params.accumulate)} rows at once"
    return _memory_errors(spec, torch.device("cpu"), purpose, advice)


def rows_at_once(batch_rows: int, accumulate: int = 1) -> int:
    """The number of rows to predict at once: bounded, and no more than the training computed, whose memory sufficed.

    >>> rows_at_once(batch_rows=64, accumulate=4), rows_at_once(batch_rows=4096)
    (16, 512)
    """
    return min(PREDICT_ROWS, max(1, batch_rows // accumulate))


@contextmanager
def _memory_errors(spec: Spec, device: torch.device, purpose: str, advice: str) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # on the CPU torch raises no class of its own
        is_memory = isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
        if not is_memory:
            raise
        raise UserError(
            f"learner {spec.name!r}: the memory of {device} does not suffice {purpose}; {advice}"
        ) from error


def training_device(spec: Spec, params: ArchitectureParams, where: str) -> torch.device:
    """Where to train: as the spec says, or else the params.

    Raises:
        UserError: the params name a GPU and there is none, or several processes would train on one.
    """
    device = _device_of(spec, params, where)
    if device.type == "cuda" and params.processes > 1:
        raise UserError(
            f"learner {spec.name!r}: {params.processes} processes share the CPU, not GPUs; set device: cpu, or "
            f"processes: 1 to train on one GPU ({where}.params.processes)"
        )
    return device


def device_name(device: torch.device) -> str:
    """The kind of a device, and the model of a GPU: another one rounds the last bits differently.

    >>> device_name(torch.device("cpu"))
    'cpu'
    """
    return f"cuda {torch.cuda.get_device_name(device)}" if device.type == "cuda" else device.type


def _device_of(spec: Spec, params: ArchitectureParams, where: str) -> torch.device:
    if spec.device is not None:
        return torch.device(spec.device)
    if params.device == "cuda" and not torch.cuda.is_available():
        raise UserError(
            f"learner {spec.name!r}: this machine has no GPU that torch can use; set device: auto or cpu "
            f"({where}.params.device)"
        )
    return torch.device("cpu" if params.device == "cpu" or not torch.cuda.is_available() else "cuda")
