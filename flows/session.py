"""One run from its lock to its summary: the state that the flow's six calls share."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from flows import retrain_dedup, shared_data
from flows.committed_code import refuse_uncommitted
from flows.progress_display import LineScreen, Screen, screen
from flows.run_options import RunOptions
from flows.run_summary import StageEnd
from flows.services.service_state import home_page
from refit.config import Params
from refit.errors import is_interrupted
from refit.files.artifacts import RELEASED, sweep
from refit.runtime import dvc_runner, lock, project_requirements, provenance, registry_store, run_file
from refit.runtime.context import Context, utc_now
from refit.runtime.terminal import Terminal, guard_logs
from refit.runtime.workers import StartWorkers, processes
from refit.schemas.releases import Releases
from refit.storage.snapshots import LATEST, moment_of
from registry.ledger import Entry, Ledger, written_here
from tasks.stages import run_remembered

_REPORTED = set[tuple[Path | str, ...]]()  # lines about run.yaml that this process has shown, by project


@dataclass
class Session:
    """A run in progress."""

    project: Path
    owner: lock.Owner
    screen: Screen
    force: bool = False
    started: float = field(default_factory=time.monotonic)
    stages: dict[str, StageEnd] = field(default_factory=dict)
    lines_before: int = 0  # of the model in the ledger, when the run began

    def has_decided(self, version: str) -> bool:
        """Whether the newest line about a version is one that this run wrote: in a clone, `register` runs always.

        A person who has answered since, by a command of their own, has announced that.

        Raises:
            RefitError: the ledger cannot be read.
        """
        lines = ledger_lines(self.context())
        newest = next((line for line in reversed(lines[self.lines_before :]) if line.to_version == version), None)
        return newest is not None and written_here(newest)

    def context(self) -> Context:
        """Return the stages' arguments, read again each time: params may have changed since the last stage."""
        return self._context(run_file.params_of(self.project))

    def context_outside(self, obeys: tuple[str, ...] = ()) -> Context:
        """Return the arguments of work that is no stage of a run, for which no `--set` of a run chooses the model.

        Args:
            obeys: the beginnings of the names of those params of the data and the model that the work depends on.
        """
        _report_overrides(self.project, self.screen, obeys=obeys)
        return self._context(run_file.params_outside(self.project))

    def _context(self, params: Params) -> Context:
        if str(self.project) not in sys.path:
            sys.path.append(str(self.project))  # learners may lie in the project; last, so that they shadow nothing
        return Context(
            project=self.project,
            params=params,
            progress=self.screen,
            may_promote=self.owner.may_promote,
            trigger=self.owner.trigger,
            flow_run=self.owner.flow_run,
            home_page=home_page(self.project),
            workers=_engine(params),
        )

    @contextmanager
    def stage(self, stage: str) -> Iterator[None]:
        """Show a stage while it runs; call `ended` with its outcome."""
        self.screen.begin(stage)
        started = time.monotonic()
        try:
            yield
        except BaseException as error:
            # Ctrl-C, or the system's signal to end.
            signalled = not isinstance(error, Exception) or is_interrupted(error)
            self.screen.end(stage, "interrupted" if signalled else "failed", time.monotonic() - started)
            raise

    def ended(self, stage: str, outcome: dvc_runner.Outcome, seconds: float) -> None:
        """Note how a stage ended, for the summary."""
        self.stages[stage] = StageEnd(state=outcome, seconds=round(seconds, 3))
        self.screen.end(stage, outcome, seconds)


def _engine(params: Params) -> StartWorkers:
    """What computes the parts of a stage: Ray where params say so, within a flow run, whose tasks the parts are."""
    if params.resources.engine == "processes":
        return processes
    from prefect import runtime

    from flows.ray_workers import on_ray

    return processes if runtime.flow_run.id is None else on_ray


def check(project: Path, settings: run_file.RunFile) -> Params:
    """Return the params of a run with these settings, after checking that it may start; write nothing.

    Raises:
        UserError: every problem of the params at once, an `as_of` that is no time, an invalid `released.json`, or
            a package that the project asks for and that is not installed.
    """
    from refit.learners.families import require_installed
    from refit.storage import quarantine

    params = run_file.check(project, settings)
    for index, learner in enumerate(params.train.learners):
        if learner.enabled:
            require_installed(learner, f"params.yaml: train.learners[{index}].kind")
    if settings.as_of != LATEST:
        retrain_dedup.require_past(project, params, moment_of(settings.as_of, params), now=utc_now())
    quarantine.releases(project)
    project_requirements.installed(project)
    return params


def prepare(project: Path, settings: run_file.RunFile | None = None) -> None:
    """Write the files that DVC needs: `run.yaml` with digests of the current code, `released.json`, `comparand.json`.

    Args:
        settings: of the run; those that `run.yaml` already has if None.
    """
    from refit.models import feature_models, incumbent
    from tasks.train import warm_start_file

    run_file.write(project, settings or run_file.read(project))
    if not (project / RELEASED).is_file():
        Releases().write(project / RELEASED)
    incumbent.ensure(project)
    warm_start_file.ensure(project)
    feature_models.ensure(context_of_run(project))


@contextmanager
def session(
    project: str | Path,
    options: RunOptions | None = None,
    *,
    may_promote: bool = True,
    keeps_settings: bool = False,
) -> Iterator[Session]:
    """Hold the project for one run.

    A run that ends with the user's mistake, before the first stage or within one, leaves `run.yaml` as it was: refused
    settings must not be what `dvc repro` uses and `refit status` reports afterwards.

    Args:
        may_promote: whether the run may move the champion, also to finish a promotion that was cut off.
        keeps_settings: whether `run.yaml` is what it was afterwards in any case, as what is done is no run of the
            project: something is tried, or done in another environment.

    Raises:
        UserError: the settings are invalid, or code is not committed where it must be; nothing was changed.
        RefitError: another run holds the project.
        AlreadyAnswered: a retraining for `window` has ended already; nothing was changed.
    """
    guard_logs()
    root = Path(project).resolve()
    display = screen()
    options = options or RunOptions()
    window = options.trigger.window
    params = check(root, options)
    if window is not None and options.as_of != LATEST:
        retrain_dedup.require_seen(window, moment_of(options.as_of, params))
    if remark := project_requirements.unchecked(root):
        display(remark)
    provenance.repository(root)  # a failure of git is better reported now than after a training
    if not options.allow_uncommitted and (remark := refuse_uncommitted(root)):
        display(remark)
    with (
        lock.project_lock(
            root,
            may_promote=may_promote,
            trigger=str(options.trigger),
            flow_run=options.flow_run,
            wait_seconds=options.wait_seconds,
        ) as owner,
        (run_file.kept if keeps_settings else run_file.kept_if_refused)(root),
    ):
        for message in retrain_dedup.repair(root, params, utc_now()):
            display(message)
        with retrain_dedup.answering(
            root, params, window, flow_run=options.flow_run, wait_seconds=options.wait_seconds
        ):
            prepare(root, options)
            sweep(root)
            for message in dvc_runner.repair(root):
                display(message)
            lines = len(ledger_lines(Context(root, params, display)))
            yield Session(project=root, owner=owner, screen=display, force=options.force, lines_before=lines)


def ledger_lines(context: Context) -> list[Entry]:
    """Return the lines of the ledger about the project's model, oldest first."""
    with registry_store.opened(context) as store:
        return Ledger.of(store).entries(context.params.project.name)


@contextmanager
def watching(
    project: str | Path, *, trigger: str, wait_seconds: float = 0, obeys: tuple[str, ...] = run_file.OF_THE_DATA
) -> Iterator[Context]:
    """Hold the project for work outside of the pipeline: its settings and the stages' files stay as they are.

    In a folder that may be deleted, `ingest` runs first as a stage, so that what it stores is kept for other runs.

    Args:
        obeys: the beginnings of the names of the params that the work depends on; those of them that the last run set
            hold here, and are named.

    Raises:
        UserError: the params are invalid.
        RefitError: another run holds the project, or the data of a folder that may be deleted cannot be kept.
    """
    guard_logs()
    root = Path(project).resolve()
    display = screen()
    run_file.params_outside(root)
    with lock.project_lock(root, trigger=trigger, wait_seconds=wait_seconds) as owner:
        sweep(root)
        run = Session(project=root, owner=owner, screen=display)
        if shared_data.is_thrown_away(root):
            prepare(root)
            with shared_data.ingesting(run.context()):
                run_remembered("ingest", run.context())
        yield run.context_outside(obeys)


def context_of(project: Path) -> Context:
    """Return a context that only reads, outside of a run; its messages go to standard error."""
    display = LineScreen(Terminal(stderr=True))
    _report_overrides(project, display)
    return Context(project=project, params=run_file.params_outside(project), progress=display)


def context_of_run(project: Path) -> Context:
    """Return the same with the params of the last run, for what concerns its stages."""
    return Context(project=project, params=run_file.params_of(project), progress=LineScreen(Terminal(stderr=True)))


def _report_overrides(project: Path, display: Screen, *, obeys: tuple[str, ...] = ()) -> None:
    """Say, once in a process, which settings of the last run do not hold here, and which that matter here do."""
    every = run_file.read(project).overrides
    standing = run_file.standing(every)
    parts = []
    if gone := [name for name in every if name not in standing]:
        parts.append(f"the last run's --set {', '.join(gone)} held for that run only")
    if holding := [name for name in standing if name.startswith(obeys)]:
        parts.append(f"the last run's --set {', '.join(holding)} holds here too, until the next run")
    if parts and (project, *parts) not in _REPORTED:
        _REPORTED.add((project, *parts))
        display(f"run.yaml: {'; '.join(parts)}")
