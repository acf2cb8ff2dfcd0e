"""Several processes that train one network: each computes a share of every batch, and they add up their gradients."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, distributed, nn

from refit.errors import RefitError, UserError, first_line
from refit.learners.contract import Labels, Spec
from refit.learners.networks.checkpoints import Checkpoint, State
from refit.learners.networks.inputs import Inputs, Preparation

__all__ = ["ALONE", "Group", "Job", "group_of"]

READY = ""  # what a process sends when it has all that it needs; any other text is its error
FOREVER = timedelta(days=30)  # to wait for the others, while process 0 scores rows; one that ends is noticed at once
GATHERING = timedelta(minutes=2)  # to wait for the others while the group forms: one that ends is not noticed then
LOOPBACK = "lo0" if sys.platform == "darwin" else "lo"
ROWS, START, RENDEZVOUS = "rows.safetensors", "start", "rendezvous"


class TakesPart(Protocol):
    """A learner in one of the other processes."""

    def take_part(self, rows: Inputs, group: Group) -> None: ...


@dataclass(frozen=True)
class Job:
    """What the other processes need to know of a fit, apart from its rows and the state that it starts from."""

    learner: Callable[..., TakesPart]  # the class, called with `spec` and `where`
    spec: Spec
    where: str
    preparation: Preparation
    scale: NDArray[np.float64]
    label: Labels
    epochs: int


@dataclass
class Group:
    """The processes of a fit, as one of them sees it: number 0 scores, stores and reports.

    They start with the same weights and add up the gradients of their shares, so their weights stay the same.
    """

    rank: int = 0
    count: int = 1
    folder: Path = Path()  # for what process 0 hands over
    job: Job | None = None
    others: list[tuple[SpawnProcess, Connection]] = field(default_factory=list)  # of process 0
    to_first: Connection | None = None  # of the others

    def share(self, state: State, rows: Inputs) -> None:
        """Let all processes have the state of process 0, which starts the others.

        Raises:
            UserError, RefitError: one of them cannot start.
        """
        if self.count == 1:
            return
        start = Checkpoint(self.folder, START, "", every_seconds=-1)
        if self.rank == 0:
            _write_rows(rows, self.folder / ROWS)
            start.write(state)
            self._start_others()
        if not start.path.is_file():
            raise RefitError(f"{start.path} could not be written: the other processes need it; free some disk space")
        if self.to_first:
            start.restore(state)
            self.to_first.send(READY)
        # A group that could not form has counted all the same, here alone: the next one would wait under another name.
        distributed.distributed_c10d._world.group_count = 0
        with _on_loopback():
            store = distributed.FileStore(  # type: ignore[attr-defined]
                str(self.folder / RENDEZVOUS), self.count
            )
            distributed.init_process_group(
                "gloo", store=store, rank=self.rank, world_size=self.count, timeout=GATHERING
            )
            self.sums(0.0)
            distributed.distributed_c10d._set_pg_timeout(FOREVER)
        if self.rank == 0:
            (self.folder / ROWS).unlink()  # the others have mapped it: it takes no disk space after they have ended

    def parts(self, batch: Tensor, accumulate: int) -> tuple[Tensor, ...]:
        """The parts of a batch that this process computes, each small enough for `accumulate`."""
        return batch.chunk(accumulate * self.count)[self.rank :: self.count]

    def seed(self, seed: int, epoch: int) -> None:
        """Give each of several processes random numbers of its own: dropout must not hide the same units in all."""
        if self.count > 1:
            own = np.random.SeedSequence([seed, epoch, self.rank]).generate_state(1, np.uint64)
            torch.manual_seed(int(own[0] >> np.uint64(1)))

    def add_gradients(self, network: nn.Module) -> None:
        """Replace the gradient of each process's share by that of the whole batch."""
        if self.count == 1:
            return
        weights = [weight for weight in network.parameters() if weight.requires_grad]
        used = torch.tensor([float(weight.grad is not None) for weight in weights])
        gradients = [torch.zeros_like(each) if each.grad is None else each.grad for each in weights]
        flat = torch.cat([used, *(gradient.flatten() for gradient in gradients)])
        distributed.all_reduce(flat)
        start = len(weights)
        for weight, gradient, users in zip(weights, gradients, flat[: len(weights)].tolist(), strict=True):
            if users:  # in no process: the optimiser leaves it as it is
                weight.grad = gradient.copy_(flat[start : start + gradient.numel()].view_as(gradient))
            start += gradient.numel()

    def sums(self, *values: float) -> list[float]:
        """The sum of each value over the processes."""
        if self.count == 1:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64)
        distributed.all_reduce(total)
        return [float(value) for value in total]

    def agree(self, decision: bool) -> bool:
        """What process 0 decides."""
        return bool(self.sums(float(decision and self.rank == 0))[0])

    def _start_others(self) -> None:
        """Start the other processes, by spawning: a fork of a process with threads may hang.

        Raises:
            UserError, RefitError: one ends before it is ready.
        """
        context = multiprocessing.get_context("spawn")
        for rank in range(1, self.count):
            here, there = context.Pipe()
            other = Group(rank, self.count, self.folder, self.job, to_first=there)
            process = context.Process(target=_work, args=(other,), daemon=True)
            process.start()
            there.close()
            self.others.append((process, here))
        for process, connection in self.others:
            wait([connection, process.sentinel])
            if (text := _message(connection)) is None:
                self._raise_failure()
            elif text != READY:
                raise UserError(text)

    def _raise_failure(self) -> None:
        """Raise the error of another process that has ended by itself, if there is one.

        Raises:
            UserError: it has said why.
            RefitError: it was killed.
        """
        assert self.job is not None
        ended = wait([process.sentinel for process, _ in self.others], timeout=5)
        for rank, (process, connection) in enumerate(self.others, start=1):
            if process.sentinel not in ended:
                continue
            process.join()
            while (text := _message(connection)) is not None:
                if text != READY:
                    raise UserError(text)
            code = process.exitcode or 0
            how = f"was ended by signal {-code}" if code < 0 else f"ended with status {code}"
            raise RefitError(
                f"learner {self.job.spec.name!r}: process {rank + 1} of {self.count} {how}, perhaps because memory ran "
                "out; run it again, it goes on from its checkpoint; or lower processes "
                f"({self.job.where}.params.processes)"
            )


def _message(connection: Connection) -> str | None:
    """What another process has sent; None if there is no more, or it has ended."""
    try:
        return str(connection.recv()) if connection.poll() else None
    except (EOFError, OSError):
        return None


ALONE = Group()


@contextmanager
def group_of(count: int, job: Job, checkpoints: Path | None) -> Iterator[Group]:
    """The group of a fit, for its process 0. At the end of the block the other processes have ended.

    Args:
        checkpoints: the folder where what is handed over lies until then; that for temporary files if None.

    Raises:
        UserError, RefitError: another process failed.
    """
    if count == 1:
        yield ALONE
        return
    if checkpoints:
        checkpoints.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="refit-processes-", dir=checkpoints) as folder:
        group = Group(0, count, Path(folder), job)
        try:
            yield group
        except RuntimeError:  # what torch.distributed raises when the connection to a process is lost
            group._raise_failure()
            raise
        finally:
            for process, connection in group.others:
                process.kill()
                process.join()
                connection.close()
            if distributed.is_initialized():
                distributed.destroy_process_group()


def _work(group: Group) -> None:
    """Train as one of the other processes, until the end or until process 0 is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches process 0 too, which ends this one
    threading.Thread(target=_end_with_parent, daemon=True).start()
    assert group.job is not None
    assert group.to_first is not None
    try:
        learner = group.job.learner(group.job.spec, where=group.job.where)
        learner.take_part(_read_rows(group.folder / ROWS), group)
    except BaseException as error:
        text = (
            f"learner {group.job.spec.name!r}: process {group.rank + 1} of {group.count} failed: "
            f"{type(error).__name__}: {first_line(error)}; set processes: 1 ({group.job.where}.params.processes)"
        )
        group.to_first.send(str(error) if isinstance(error, RefitError) else text)
        os._exit(1)
    os._exit(0)  # without the destructor of the group, which waits for the others


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


@contextmanager
def _on_loopback() -> Iterator[None]:
    """Let connections that are made in the block use the loopback interface only."""
    name = "GLOO_SOCKET_IFNAME"
    before = os.environ.get(name)
    os.environ[name] = LOOPBACK
    try:
        yield
    finally:
        os.environ.pop(name)
        if before is not None:
            os.environ[name] = before


def _write_rows(rows: Inputs, path: Path) -> None:
    from safetensors.torch import save_file

    try:
        save_file({name: tensor.contiguous() for name, tensor in rows.named().items()}, path)
    except Exception as error:  # of the disk, as safetensors reports it
        raise RefitError(
            f"{path} cannot be written: {first_line(error)}; the other processes read the rows there: free some disk "
            "space, or set processes: 1"
        ) from None


def _read_rows(path: Path) -> Inputs:
    """The rows, mapped from the file: processes share its pages."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        return Inputs.from_named({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
