"""Commands that change something: each under the project's lock."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from flows.progress_display import LineScreen, shown_on
from flows.session import Session, check, prepare, watching
from refit.errors import RefitError, first_line, machine_fault
from refit.runtime import dvc_runner, lock, run_file
from refit.runtime.context import Context
from refit.runtime.terminal import Terminal
from tasks.stages import stage_function

if TYPE_CHECKING:
    from refit.operations.reproduce import Compared


def run(
    project: Path,
    *,
    as_of: str,
    overrides: Mapping[str, Any],
    force: bool,
    wait_seconds: float,
    quiet: bool = False,
) -> dict[str, Any]:
    """`refit run`: the flow in this process, shown on standard error; the summary, also printed unless `quiet`.

    Its `seconds` are those of this process until the summary, the start of Python and Prefect among them; what
    Prefect's own server takes to end comes after it.

    Raises:
        UserError: the settings do not stand; Prefect, which takes seconds to start, was not even imported.
        RefitError: another run holds the project; likewise, unless there are `wait_seconds`.
    """
    check(project, run_file.RunFile(as_of=as_of, overrides=dict(overrides)))
    if not wait_seconds:
        lock.require_free(project)
    from flows.services.ports import server_for_runs

    console = Terminal(stderr=True)
    with shown_on(console), server_for_runs(project):
        from flows.continuous_training import continuous_training

        told = continuous_training(
            project=str(project), as_of=as_of, overrides=dict(overrides), force=force, wait_seconds=wait_seconds
        )
    told = {**told, "seconds": round(max(told["seconds"], _age_of_this_process()), 3)}
    if not quiet:
        from flows.summary import print_summary

        print_summary(told, Terminal())
    return told


def _age_of_this_process() -> float:
    """Seconds since it was started; counted from the machine's start, for psutil's wall time is a rounded one."""
    boot_time = getattr(time, "CLOCK_BOOTTIME", None)
    now = time.time() - psutil.boot_time() if boot_time is None else time.clock_gettime(boot_time)
    return float(now - (psutil.Process().create_time() - psutil.boot_time()))


def run_one_stage(project: Path, stage: str) -> None:
    """`refit stage NAME`: what DVC starts; under a run's lock token in that run's name, else on its own."""
    function = stage_function(stage)
    with lock.project_lock(project) as owner:
        prepare(project)
        context = Session(project=project, owner=owner, screen=LineScreen(Terminal(stderr=True))).context()
        if stage == "evaluate":
            from refit.models import incumbent

            incumbent.refresh(context)
        try:
            function(context)
        except RefitError:
            raise
        except Exception as error:
            if machine_fault(error) is None and (changed := _changed_inputs(project, stage)):
                raise RefitError(
                    f"stage {stage} cannot use {changed}: it is not as it was written ({type(error).__name__}: "
                    f"{first_line(error)}; --debug shows where); `refit run` makes it again"
                ) from error
            raise


def _changed_inputs(project: Path, stage: str) -> str:
    """The inputs of a stage that were changed since DVC noted them, as it says it; empty where it notes none."""
    with suppress(RefitError):
        reasons = dvc_runner.stale(project).get(stage, [])
        return ", ".join(each.removeprefix("input ") for each in reasons if each.startswith("input "))
    return ""


@contextmanager
def _held(project: Path, trigger: str, wait_seconds: float, *, may_promote: bool) -> Iterator[Context]:
    """Hold the project for one command of the registry's, told of in plain lines."""
    with lock.project_lock(project, may_promote=may_promote, trigger=trigger, wait_seconds=wait_seconds) as owner:
        yield Session(project=project, owner=owner, screen=LineScreen(Terminal(stderr=True))).context()


def promote(project: Path, version: str, *, why: str | None, wait_seconds: float) -> str:
    """`refit promote`: what was done, in words."""
    from tasks import register

    with _held(project, "refit promote", wait_seconds, may_promote=True) as context:
        return register.promote(context, version, why)


def rollback(project: Path, to: str | None, *, why: str | None, wait_seconds: float) -> str:
    """`refit rollback`: what was done, in words."""
    from tasks import register

    with _held(project, "refit rollback", wait_seconds, may_promote=True) as context:
        return register.rollback(context, to, why)


def repair(project: Path, *, wait_seconds: float, accept_ledger: str | None = None) -> str:
    """`refit repair`: what was done, in words."""
    from tasks import register

    with _held(project, "refit repair", wait_seconds, may_promote=True) as context:
        return register.repair(context, accept_ledger=accept_ledger)


def reproduce(project: Path, version: str, *, wait_seconds: float) -> list[Compared]:
    """`refit reproduce`: what then and now have, the model last."""
    from refit.operations import reproduce

    with _held(project, "refit reproduce", wait_seconds, may_promote=False) as context:
        return reproduce.reproduce(context, version)


def collect(project: Path, *, delete: bool, wait_seconds: float) -> dict[str, Any]:
    """`refit gc`: what may go, or went, in the form that `--json` prints."""
    from refit.operations import retention

    with _held(project, "refit gc", wait_seconds, may_promote=False) as context:
        return retention.as_json(retention.collect(context, delete=delete), deleted=delete)


def score(
    project: Path, rows: str, *, as_of: str, out: Path | None, wait_seconds: float, quiet: bool = False
) -> dict[str, Any]:
    """`refit score`: the same as the flow `batch-scoring`, without Prefect, which would take longer than the work."""
    from flows.summary import print_lines, score_rows
    from tasks.score import run as score_now

    shown = shown_on(Terminal(stderr=True), stages=False)
    with shown, watching(project, trigger="refit score", wait_seconds=wait_seconds) as context:
        told = score_now(context, rows, as_of=as_of, out=out)
    if not quiet:
        print_lines(score_rows(told), Terminal())
    return told


def drift(project: Path, *, as_of: str, wait_seconds: float, quiet: bool = False) -> dict[str, Any]:
    """`refit drift`: the same decision as the flow `drift-watch`; nothing is emitted, so nothing is set going."""
    from flows.summary import drift_rows, print_lines
    from tasks.drift import watch

    shown = shown_on(Terminal(stderr=True), stages=False)
    with shown, watching(project, trigger="refit drift", wait_seconds=wait_seconds) as context:
        told = watch.run(context, as_of=as_of)
    if not quiet:
        print_lines(drift_rows(told), Terminal())
    return told


def release(project: Path, source: str, batch: str, rows: Sequence[int] | None, why: str) -> str:
    """`refit quarantine release`: what was done, in words."""
    from refit.storage import quarantine

    with lock.project_lock(project, trigger="refit quarantine release"):
        context = Context(project=project, params=run_file.params_of(project))
        return quarantine.release(context, source, batch, rows, why)
