"""Computes the parts of a stage on a Ray cluster, each as a Prefect task, where `resources.engine` is `ray`.

The cluster is that of RAY_ADDRESS, as of Ray's own commands; without it, Ray runs on this machine alone. Its nodes have
the same packages, the project's folder under the same path, and reach the Prefect server.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from prefect import task
from prefect.cache_policies import NO_CACHE

from refit.errors import RefitError, UserError, chain, first_line
from refit.extras import not_installed
from refit.runtime.workers import Workers, unreported

if TYPE_CHECKING:
    from prefect_ray import RayTaskRunner
    from prefect_ray.task_runners import PrefectRayFuture

__all__ = ["on_ray"]

ANSWER_SECONDS = 10

Given = TypeVar("Given")
Result = TypeVar("Result")


@task(name="part", cache_policy=NO_CACHE, persist_result=False)
def part(call: Callable[[], Any]) -> Any:
    """Compute one part."""
    return call()


class RayWorkers:
    """Parts as Prefect tasks on Ray, which calls one again if its process or its node is gone."""

    threads = 1  # Ray reserves one processor for a task

    def __init__(self, runner: RayTaskRunner[Any]) -> None:
        self._runner = runner

    def map(
        self,
        function: Callable[[Given], Result],
        parts: Sequence[Given],
        done: Callable[[int], None] = unreported,
    ) -> list[Result]:
        """As `Workers.map`; parts are counted in their order."""
        from ray.exceptions import RayError

        # As one callable: Prefect looks into lists and dataclasses for results of other tasks.
        futures = [self._runner.submit(part, {"call": partial(function, each)}) for each in parts]
        try:
            results = []
            for future in futures:
                results.append(future.result())
                done(len(results))
            return results
        except BaseException as error:
            _cancel(futures)
            lost = next((each for each in chain(error) if isinstance(each, RayError)), None)
            if lost is None:
                raise
            raise RefitError(f"Ray gave a part up: {first_line(lost)}; see `ray status`, then run it again") from error


def _cancel(futures: Sequence[PrefectRayFuture[Any]]) -> None:
    """Let no part go on: those that wait never begin, and the processes of the others are ended.

    Nothing is raised: it is for parts of which another has failed, and that error is to be told.
    """
    import ray

    references = [future.wrapped_future for future in futures]
    with suppress(Exception):
        for reference in references:
            ray.cancel(reference, force=True)  # an interrupt does not end a task of Prefect
        ray.wait(references, num_returns=len(references), timeout=ANSWER_SECONDS)


@contextmanager
def on_ray(count: int) -> Iterator[Workers]:
    """Connect to the cluster; how many parts it computes at the same time is up to its processors, not to `count`.

    Raises:
        UserError: the extra `ray` is not installed, or RAY_ADDRESS is no address.
        RefitError: no cluster answers at RAY_ADDRESS.
    """
    try:
        from prefect_ray import RayTaskRunner
    except ModuleNotFoundError as error:
        raise not_installed(error, "resources.engine: ray", "params.yaml") or error from None
    address = os.environ.get("RAY_ADDRESS")
    if address and address != "auto":
        _require_answer(address)
    with RayTaskRunner(address, {"log_to_driver": False, "logging_level": "ERROR"}) as runner:
        yield RayWorkers(runner)


def _require_answer(address: str) -> None:
    """Try to reach the cluster, which Ray itself would go on trying for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise UserError(f"RAY_ADDRESS is {address!r}; it has to be HOST:PORT, ray://HOST:PORT or auto")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_SECONDS).close()
    except OSError as error:
        raise RefitError(
            f"Ray does not answer at {address}: {first_line(error)}; start it (`ray start`), or correct RAY_ADDRESS"
        ) from None
