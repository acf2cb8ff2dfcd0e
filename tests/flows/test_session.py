"""A run that is refused: nothing heavy is started for it, and its settings do not outlive it."""

from __future__ import annotations

import logging
import multiprocessing
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from driving import drive, states
from pydantic import JsonValue
from quick import quick

from flows.progress_display import LogScreen, show_progress
from flows.run_options import RunOptions
from flows.session import Session, _engine, context_of, context_of_run, session, watching
from refit.cli import inspection, running
from refit.cli.cross_validate import cross_validate
from refit.config import STAGES, parse
from refit.errors import Terminated, UserError
from refit.files.artifacts import RECEIPT
from refit.runtime import dvc_runner, registry_store, run_file
from refit.runtime.context import Context
from refit.runtime.lock import project_lock
from refit.runtime.terminal import Terminal
from refit.runtime.workers import processes
from refit.schemas.receipt import Receipt
from registry.ledger import Action, Entry, Ledger
from tasks.stages import run_remembered
from tests.tasks.orders import RAW

SEE = """
import sys
from pathlib import Path
from flows.run_options import RunOptions
from refit.cli import running
try:
    running.run(Path(sys.argv[1]), RunOptions(as_of=sys.argv[2]))
except Exception as error:
    print(type(error).__name__, "prefect" in sys.modules, error)
"""


def test_an_as_of_that_is_no_time_is_refused_before_prefect_is_imported(project: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SEE, str(project), "nonsense"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("UserError False as_of 'nonsense' is no time")


@pytest.mark.ci
@pytest.mark.parametrize(
    ("settings", "words"),
    quick(
        [
            ({"as_of": "1999-01-01"}, "lies before the first batch"),
            ({"overrides": {"train.learners.boosting.params.depth": 3}}, "has no argument 'depth'"),
        ],
        1,
    ),
)
def test_a_run_refused_within_a_stage_leaves_the_settings_as_they_were(
    project: Path, settings: dict[str, object], words: str
) -> None:
    before = (project / "run.yaml").read_bytes()
    with pytest.raises(UserError, match=words):
        drive(project, **settings)
    assert (project / "run.yaml").read_bytes() == before
    assert dvc_runner.stale(project) == {}, "the settings are those of before, and what the stage had written is back"
    assert set(states(drive(project))[1:]) <= {"unchanged", "restored"}, "ingest has nothing new to take"


def test_a_first_run_that_is_refused_leaves_no_settings_behind(project: Path) -> None:
    (project / "run.yaml").unlink()
    with pytest.raises(UserError, match="lies before the first batch"):
        drive(project, as_of="1999-01-01")
    assert not (project / "run.yaml").exists()


def test_what_was_only_tried_leaves_the_settings_of_the_last_run(project: Path) -> None:
    run_file.write(project, run_file.RunFile(overrides={"train.seed": 33}))
    before = (project / "run.yaml").read_bytes()
    folds = {"kind": "stratified", "folds": 2}
    cross_validate(project, RunOptions(overrides={"train.seed": 34, "evaluate.cross_validation": folds}), quiet=True)
    assert (project / "run.yaml").read_bytes() == before
    with pytest.raises(Terminated), session(project, keeps_settings=True):
        assert (project / "run.yaml").read_bytes() != before, "what is tried has settings of its own"
        raise Terminated
    assert (project / "run.yaml").read_bytes() == before


def test_what_a_run_set_for_itself_moves_no_model_afterwards(project: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before, champion = run_file.params_of(project), inspection.champion_summary(project)
    of_one_run: dict[str, JsonValue] = {"project.name": "other", "retention.versions": 1, "drift.alpha": 0.4}
    run_file.write(project, run_file.RunFile(overrides=of_one_run))
    assert context_of_run(project).params.project.name == "other", "stages and `status` have the run's own params"
    assert inspection.champion_summary(project) == champion
    with pytest.raises(UserError, match=f"{champion.model} has no previous version"):
        running.rollback(project, None, why="worse", wait_seconds=0)
    kept = running.collect(project, delete=False, wait_seconds=0).stay
    assert champion.version in kept
    with watching(project, trigger="drift watch") as context:
        assert context.params == before
    said = "run.yaml: the last run's --set project.name, drift.alpha, retention.versions held for that run only"
    assert capfd.readouterr().err.count(said) == 1


def test_after_a_run_of_the_same_model_its_settings_of_the_data_hold_and_are_named(
    project: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    overrides: dict[str, JsonValue] = {"featurize.label.delay_hours": 7, "registry.tracking_uri": "sqlite:///other.db"}
    run_file.write(project, run_file.RunFile(overrides=overrides))
    with show_progress(Terminal(stderr=True), stages=False), watching(project, trigger="drift watch") as context:
        assert context.params.featurize.label.delay_hours == 7
        assert context.params.registry == context_of(project).params.registry
        assert context.params.registry.tracking_uri is None
    said = capfd.readouterr().err
    assert (
        "--set registry.tracking_uri held for that run only; the last run's --set featurize.label.delay_hours " in said
    )
    assert "holds here too, until the next run" in said


def test_no_command_names_settings_of_the_last_run_that_it_does_not_depend_on(
    project: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run_file.write(project, run_file.RunFile(overrides={"train.seed": 33, "featurize.label.delay_hours": 7}))
    with suppress(UserError):
        running.rollback(project, None, why="worse", wait_seconds=0)
    running.collect(project, delete=False, wait_seconds=0)
    assert "run.yaml" not in capfd.readouterr().err, "neither makes anything of the data"
    with show_progress(Terminal(stderr=True), stages=False), watching(project, trigger="drift watch"):
        pass
    said = capfd.readouterr().err
    assert "the last run's --set featurize.label.delay_hours holds here too" in said
    assert "train.seed" not in said, "no training follows"


def test_a_failed_stage_says_how_long_it_took(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with project_lock(tmp_path) as owner:
        run = Session(tmp_path, owner, LogScreen(logging.getLogger("stages")))
        with caplog.at_level(logging.INFO), pytest.raises(UserError), run.stage("train"):
            time.sleep(0.15)
            raise UserError("no")
    (line,) = [message for message in caplog.messages if message.startswith("train: failed")]
    assert float(line.split()[-2]) >= 0.1


def test_parts_are_computed_by_ray_within_a_flow_run_only(monkeypatch: pytest.MonkeyPatch) -> None:
    from flows.ray_workers import on_ray

    params = parse({**RAW, "resources": {"engine": "ray"}})
    assert _engine(params) is processes
    monkeypatch.setenv("PREFECT__FLOW_RUN_ID", "00000000-0000-0000-0000-000000000000")
    assert _engine(params) is on_ray
    assert _engine(parse(RAW)) is processes


@pytest.mark.slow
def test_only_a_run_that_has_written_a_line_in_the_ledger_has_decided(project: Path) -> None:
    """In a clone, which has no receipt, `register` runs even where nothing is new: nobody is to hear of it each day."""
    (project / RECEIPT).unlink()
    for version, overrides, decided in (("1", {}, False), ("2", {"train.seed": 4}, True)):
        with session(project, RunOptions(overrides=overrides)) as run:
            for stage in STAGES:
                run.ended(stage, run_remembered(stage, run.context()), 0.0)
            assert run.stages["register"].state == "executed"
            assert (Receipt.read(project / RECEIPT).version, run.has_decided(version)) == (version, decided)
            assert not run.has_decided("1")


def test_a_line_that_another_process_wrote_meanwhile_is_announced_by_that_one_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = parse({**RAW, "notify": [{"on": ["promotion", "refusal"], "block": "webhook/pager"}]})
    context, model = Context(tmp_path, params, lambda *_: None), params.project.name
    ledger = Ledger.of(registry_store.store_of(tmp_path, params))
    announced: list[str] = []
    monkeypatch.setattr(running, "announce_by_hand", lambda context, event, version, text: announced.append(event))
    monkeypatch.setattr(Session, "context", lambda self: context)

    def write(key: str, action: Action) -> None:
        ledger.append(Entry(key, "2024-01-01T00:00:00Z", "ann", "manual", action, model, None, "1", ("why",)))

    def by_another(key: str, action: Action) -> None:
        other = multiprocessing.get_context("fork").Process(target=write, args=(key, action))
        other.start()
        other.join()
        assert other.exitcode == 0

    def command(*writers: Callable[[], None]) -> str:
        for writer in writers:
            writer()
        return "done"

    with project_lock(tmp_path, trigger="run") as owner:
        run = Session(tmp_path, owner, screen=LogScreen(logging.getLogger("test")))
    write("of the run", "await")
    assert run.has_decided("1")
    assert not run.has_decided("2")
    by_another("the answer", "promote")
    assert not run.has_decided("1"), "who approved it has announced it"
    running._announced(context, "1", lambda: command(lambda: by_another("theirs", "promote")))
    assert announced == []
    own, other = (lambda: write("mine", "refuse")), (lambda: by_another("theirs too", "promote"))
    running._announced(context, "1", lambda: command(own, other))
    assert announced == ["model.refused"]


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (ValueError("a column is missing"), "failed"),
        (KeyboardInterrupt(), "interrupted"),
        (Terminated(), "interrupted"),
        (RuntimeError("Query interrupted"), "interrupted"),
    ],
)
def test_a_stage_that_a_signal_ends_is_not_said_to_have_failed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, error: BaseException, state: str
) -> None:
    caplog.set_level(logging.INFO)
    with project_lock(tmp_path, trigger="test") as owner:
        run = Session(tmp_path, owner, LogScreen(logging.getLogger("stages")))
        with pytest.raises(type(error)), run.stage("validate"):
            raise error
    assert [line.split(" in ")[0] for line in caplog.messages] == [f"validate: {state}"]
