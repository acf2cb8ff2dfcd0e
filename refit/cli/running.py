"""Commands that change something, each under the project's lock."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from flows.notifications import AWAITS, PROMOTED, REFUSED, announce_by_hand
from flows.progress_display import LineScreen, show_progress
from flows.run_options import RunOptions, Trigger
from flows.session import Session, check, context_of, ledger_lines, prepare, session, watching
from refit.errors import RefitError, UserError, first_line, machine_fault
from refit.runtime import dvc_runner, environments, lock, run_file
from refit.runtime.context import Context
from refit.runtime.terminal import Terminal
from refit.schemas.score_report import ScoreReport
from registry.ledger import MOVES, written_here
from tasks.stages import run_in, stage_function

if TYPE_CHECKING:
    from flows.run_summary import RunSummary
    from refit.operations.reproduce import DigestPair
    from refit.operations.retention import DeletionPlan
    from refit.schemas.drift_decision import DriftDecision

_EVENTS: Mapping[str, str] = {**dict.fromkeys(MOVES, PROMOTED), "refuse": REFUSED, "await": AWAITS}  # by ledger line


def run(project: Path, options: RunOptions, *, quiet: bool = False) -> RunSummary:
    """`refit run`: run the flow in this process, show it on standard error; return the summary, printed unless `quiet`.

    Its `seconds` are those of this process until the summary, including the start of Python and Prefect, but not the
    end of Prefect's own server.

    Raises:
        UserError: the settings are invalid; raised before the import of Prefect, which takes seconds.
        RefitError: another run holds the project; raised before that import, too, unless there are `wait_seconds`.
    """
    check(project, options)
    if not options.wait_seconds:
        lock.require_free(project)
    from flows.services.ports import server_for_runs

    console = Terminal(stderr=True)
    with show_progress(console), server_for_runs(project):
        from flows.continuous_training import continuous_training

        summary = continuous_training(
            project=str(project),
            as_of=options.as_of,
            overrides=dict(options.overrides),
            force=options.force,
            wait_seconds=options.wait_seconds,
        )
    summary = summary.model_copy(update={"seconds": round(max(summary.seconds, _age_of_this_process()), 3)})
    if not quiet:
        from flows.summary_display import print_summary

        print_summary(summary, Terminal())
    return summary


def _age_of_this_process() -> float:
    """Return the seconds since its start, counted from the machine's start, as psutil rounds the wall time."""
    boot_time = getattr(time, "CLOCK_BOOTTIME", None)
    now = time.time() - psutil.boot_time() if boot_time is None else time.clock_gettime(boot_time)
    return float(now - (psutil.Process().create_time() - psutil.boot_time()))


def run_one_stage(project: Path, stage: str) -> float:
    """`refit stage NAME`: run one stage, as DVC does, with the lock token of the surrounding run if there is one.

    Returns the seconds that its work took.
    """
    function = stage_function(stage)
    with lock.project_lock(project) as owner:
        prepare(project)
        context = Session(project=project, owner=owner, screen=LineScreen(Terminal(stderr=True))).context()
        if stage == "evaluate":
            from refit.models import incumbent

            incumbent.refresh(context)
        started = time.monotonic()
        try:
            function(context)
            return round(time.monotonic() - started, 3)
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
    """Return the inputs of a stage that changed since DVC recorded them, in its words; empty if it reports none."""
    with suppress(RefitError):
        reasons = dvc_runner.stale(project).get(stage, [])
        return ", ".join(each.removeprefix("input ") for each in reasons if each.startswith("input "))
    return ""


@contextmanager
def _locked_context(project: Path, trigger: str, wait_seconds: float, *, may_promote: bool) -> Iterator[Context]:
    """Hold the project for one command of the registry; its progress goes to standard error in plain lines."""
    with lock.project_lock(project, may_promote=may_promote, trigger=trigger, wait_seconds=wait_seconds) as owner:
        yield Session(project=project, owner=owner, screen=LineScreen(Terminal(stderr=True))).context_outside()


def _announced(context: Context, version: str, act: Callable[[], str]) -> str:
    """Do what a person commanded, and announce to the receivers in `notify` what this process wrote into the ledger.

    A command that moved nothing, as the version is the champion already, is announced to nobody.
    """
    if not context.params.notify:
        return act()
    before = len(ledger_lines(context))

    def announce(text: str) -> None:
        lines = [line for line in ledger_lines(context)[before:] if written_here(line)]
        if events := [_EVENTS[line.action] for line in lines if line.action in _EVENTS]:
            announce_by_hand(context, events[-1], version, text)

    try:
        done = act()
    except RefitError as error:
        announce(str(error))
        raise
    announce(done)
    return done


def promote(project: Path, version: str, *, why: str | None, wait_seconds: float) -> str:
    """`refit promote`: promote a version; return what was done as text."""
    from tasks import register

    with _locked_context(project, "refit promote", wait_seconds, may_promote=True) as context:
        return _announced(context, version, lambda: register.promote(context, version, why))


def promote_to(project: Path, version: str, *, to: str, why: str | None, wait_seconds: float) -> str:
    """`refit promote --to`: move a champion into another environment, where it is judged; return what was done as text.

    The stages before `train` run there, so that it is judged on the rows of that environment.
    """
    from refit.operations import moving

    here = environments.current()
    if here == to:
        raise UserError(f"--to {to} is the environment that this command works in: name the one that has it by --env")
    options = RunOptions(trigger=Trigger(f"refit promote --to {to}"), wait_seconds=wait_seconds)
    context = context_of(project)
    with (
        # the lock first: a run that holds it takes what is fetched here for what a killed one left
        lock.project_lock(project, may_promote=True, trigger=str(options.trigger), wait_seconds=wait_seconds),
        moving.fetched(context, version, here) as moved,
        environments.working_in(to),
        session(project, options, keeps_settings=True) as run,
    ):
        for stage in ("ingest", "validate", "featurize"):
            run_in(run, stage)
        there = run.context()
        done = _announced(there, f"{here}/{version}", lambda: moving.move(there, moved, why))
        return environments.addressed(done)  # the command's own environment is another one


def approve(project: Path, version: str, *, why: str, wait_seconds: float) -> str:
    """`refit approve`: promote a version that waits for approval; return what was done as text."""
    from tasks import register

    with _locked_context(project, "refit approve", wait_seconds, may_promote=True) as context:
        return _announced(context, version, lambda: register.approve(context, version, why))


def lift_approval(project: Path, *, why: str, wait_seconds: float) -> str:
    """`refit approve --lift`: let promotions need no approval any more; return what was done as text."""
    from tasks import register

    with _locked_context(project, "refit approve", wait_seconds, may_promote=True) as context:
        return register.lift_approval(context, why)


def reject(project: Path, version: str, *, why: str, wait_seconds: float) -> str:
    """`refit reject`: refuse a version that waits for approval; return what was done as text."""
    from tasks import register

    with _locked_context(project, "refit reject", wait_seconds, may_promote=True) as context:
        return _announced(context, version, lambda: register.reject(context, version, why))


def rollback(project: Path, to: str | None, *, why: str | None, wait_seconds: float) -> str:
    """`refit rollback`: promote an earlier version; return what was done as text."""
    from tasks import register

    with _locked_context(project, "refit rollback", wait_seconds, may_promote=True) as context:
        return _announced(context, to or "the one before", lambda: register.rollback(context, to, why))


def repair(project: Path, *, wait_seconds: float, accept_ledger: str | None = None) -> str:
    """`refit repair`: restore the champion that the ledger names; return what was done as text."""
    from tasks import register

    with _locked_context(project, "refit repair", wait_seconds, may_promote=True) as context:
        return register.repair(context, accept_ledger=accept_ledger)


def move_ledger(project: Path, *, wait_seconds: float) -> str:
    """`refit repair --move-ledger`: copy the checkout's ledger into the shared one; return what was done as text."""
    from refit.operations import ledger_move

    with _locked_context(project, "refit repair", wait_seconds, may_promote=True) as context:
        return ledger_move.move_ledger(context)


def reproduce(project: Path, version: str, *, wait_seconds: float) -> list[DigestPair]:
    """`refit reproduce`: train a version again; return the comparisons with the original, the model last."""
    from refit.operations import reproduce

    with _locked_context(project, "refit reproduce", wait_seconds, may_promote=False) as context:
        return reproduce.reproduce(context, version)


def collect(project: Path, *, delete: bool, wait_seconds: float) -> DeletionPlan:
    """`refit gc`: return what may be deleted, or was deleted."""
    from refit.operations import retention

    with _locked_context(project, "refit gc", wait_seconds, may_promote=False) as context:
        return retention.collect(context, delete=delete)


def score(
    project: Path, rows: str, *, as_of: str, out: Path | None, wait_seconds: float, quiet: bool = False
) -> ScoreReport:
    """`refit score`: the same as the flow `batch-scoring`, without Prefect, which would take longer than scoring."""
    from flows.summary_display import print_lines, score_rows
    from tasks.score import run as score_now

    display = show_progress(Terminal(stderr=True), stages=False)
    with display, watching(project, trigger="refit score", wait_seconds=wait_seconds) as context:
        report = score_now(context, rows, as_of=as_of, out=out)
    if not quiet:
        print_lines(score_rows(report), Terminal())
    return report


def drift(project: Path, *, as_of: str, wait_seconds: float, quiet: bool = False) -> DriftDecision:
    """`refit drift`: the same decision as the flow `drift-watch`, without an event, so that no retraining starts."""
    from flows.summary_display import drift_rows, print_lines
    from tasks.drift import watch

    display = show_progress(Terminal(stderr=True), stages=False)
    with (
        display,
        watching(project, trigger="refit drift", wait_seconds=wait_seconds, obeys=run_file.OF_DRIFT) as context,
    ):
        decision = watch.run(context, as_of=as_of)
    if not quiet:
        print_lines(drift_rows(decision), Terminal())
    return decision


def release(project: Path, source: str, batch: str, rows: Sequence[int] | None, why: str) -> str:
    """`refit quarantine release`: accept refused rows; return what was done as text."""
    from refit.storage import quarantine

    with lock.project_lock(project, trigger="refit quarantine release"):
        context = Context(project=project, params=run_file.params_outside(project))
        return quarantine.release(context, source, batch, rows, why)
