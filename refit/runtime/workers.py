"""Divides work among processes of this machine; a part whose process was killed is computed again.

Each part is a call of a function that the other process can import, with arguments that can be sent there. The function
must give the same result whenever and wherever it is called, and leave nothing half-done.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, contextmanager, suppress
from multiprocessing.connection import Connection
from typing import Protocol, TypeVar

from refit.errors import RefitError

__all__ = ["StartWorkers", "Workers", "processes", "unreported"]

KILLED = 3  # times that processes may be killed while one list of parts is computed

Given = TypeVar("Given")
Result = TypeVar("Result")


def unreported(count: int) -> None:
    """Report nothing when a part is done."""


class Workers(Protocol):
    """What computes parts, several at a time."""

    threads: int  # that a part should use

    def map(
        self,
        function: Callable[[Given], Result],
        parts: Sequence[Given],
        done: Callable[[int], None] = unreported,
    ) -> list[Result]:
        """The result of each part, in their order; `done` is called with the number of parts that are done so far.

        Raises:
            Exception: that of the first part which failed; the others have ended, or were ended.
            RefitError: what computed them was killed too often.
        """


StartWorkers = Callable[[int], AbstractContextManager[Workers]]


class Processes:
    """Spawned processes, as forking a process with threads may hang. They end with this one, even if it is killed."""

    def __init__(self, count: int) -> None:
        self.threads = max(1, (os.cpu_count() or 1) // count)
        self._count = count
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        watched, self._alive = context.Pipe(duplex=False)
        self._pool = ProcessPoolExecutor(self._count, context, _end_with, (watched,))

    def map(
        self,
        function: Callable[[Given], Result],
        parts: Sequence[Given],
        done: Callable[[int], None] = unreported,
    ) -> list[Result]:
        """As `Workers.map`."""
        futures: dict[int, Future[Result]] = {}
        for _ in range(KILLED + 1):
            waiting = [index for index in range(len(parts)) if index not in futures]
            try:
                for index in waiting:
                    futures[index] = self._pool.submit(function, parts[index])
                for count, future in enumerate(as_completed(futures.values()), start=1):
                    if not _has_result(future):
                        break
                    done(count)
                return [futures[index].result() for index in range(len(parts))]
            except BrokenProcessPool:
                futures = {index: future for index, future in futures.items() if _has_result(future)}
                self._restart()
            except BaseException:
                self._restart()  # no part goes on while what it reads and writes is removed
                raise
        raise RefitError(
            f"processes that computed parts were killed {KILLED + 1} times, perhaps because memory ran out: let fewer "
            "work at once (resources.workers, or parallel of a search), or run on a machine with more memory"
        )

    def _restart(self) -> None:
        self.end()
        self._start()

    def end(self) -> None:
        """End the processes, whatever they do."""
        self._alive.close()
        self._pool.shutdown(cancel_futures=True)


def _has_result(future: Future[Result]) -> bool:
    return future.done() and not future.cancelled() and future.exception() is None


@contextmanager
def processes(count: int) -> Iterator[Workers]:
    """Processes of this machine; at the end of the block they have ended.

    >>> with processes(2) as workers:
    ...     workers.map(abs, [-1, -2, -3])
    [1, 2, 3]
    """
    workers = Processes(count)
    try:
        yield workers
    finally:
        workers.end()


def _end_with(watched: Connection) -> None:
    """Let this process end when the other end of the pipe is closed, or its process is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the first process too, which ends this one

    def wait() -> None:
        with suppress(EOFError, OSError):
            watched.recv()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
