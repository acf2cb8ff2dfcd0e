"""The command line `refit ...`; every command imports only what it needs."""

from __future__ import annotations

import gc
import io
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Annotated

import typer
from typer.exceptions import TyperException

from refit.cli import registry_commands
from refit.cli.options import (
    HERE,
    AsJson,
    AsOf,
    Debug,
    Port,
    Project,
    Sets,
    Wait,
    Why,
    assignments,
    json_object,
    project_at,
    quiet_prefect,
    usage_error,
    with_version,
)
from refit.config import STAGES
from refit.errors import RefitError, Terminated, UserError, chain, is_interrupted, machine_fault, refused_by_the_system
from refit.runtime.terminal import guard_logs, print_json, say

INTERRUPTED = 130  # typer's exit status for Ctrl-C
ALLOCATIONS_BETWEEN_COLLECTIONS = 50_000  # Python's default, 700, adds a quarter to the time of our imports
_RESUMES = "what was finished is kept, the same command goes on from there"

app = typer.Typer(
    name="refit",
    help="Keeps models current: none takes charge unless shown to be no worse than a stated margin allows.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    callback=with_version,
)
quarantine = typer.Typer(help="Rows that validation refused: look at them, let them back in.", no_args_is_help=True)
app.add_typer(registry_commands.app)
app.add_typer(quarantine, name="quarantine")


@app.command()
def run(
    project: Project = HERE,
    as_of: AsOf = "latest",
    set_: Sets = None,
    force: Annotated[bool, typer.Option("--force", help="run every stage, changed or not")] = False,
    wait: Wait = 0,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Bring the model up to date: six stages, each only if something it depends on changed."""
    from refit.cli import running

    summary = running.run(
        project_at(project),
        as_of=as_of,
        overrides=assignments(set_ or []),
        force=force,
        wait_seconds=wait,
        quiet=as_json,
    )
    if as_json:
        print_json(summary)


@app.command()
def stage(
    name: Annotated[str, typer.Argument(help=f"one of {', '.join(STAGES)}")],
    project: Project = HERE,
    debug: Debug = False,
) -> None:
    """Run one stage's work, as DVC does. Never moves `champion`."""
    from refit.cli import running

    running.run_one_stage(project_at(project), name)


@app.command()
def status(project: Project = HERE, as_json: AsJson = False, debug: Debug = False) -> None:
    """What would run now, and why."""
    from refit.cli import inspection

    stale = inspection.status(project_at(project))
    if as_json:
        print_json({"stale": stale})
        return
    for name in STAGES:
        reasons = stale.get(name, [])
        say(f"{name:<10} {'up to date' if not reasons else '; '.join(reasons)}")


@app.command()
def score(
    rows: Annotated[
        str, typer.Argument(help="a CSV or Parquet file, a batch such as 2013-11, `next 24h`, or of forecasts `newest`")
    ],
    project: Project = HERE,
    as_of: Annotated[str, typer.Option("--as-of", help="`now`, or the date or time up to which things are known")] = (
        "now"
    ),
    out: Annotated[Path | None, typer.Option("--out", help=".parquet or .csv; default: reports/scores/")] = None,
    wait: Wait = 0,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Score rows with the model in charge, and log the predictions."""
    from refit.cli import running

    report = running.score(project_at(project), rows, as_of=as_of, out=out, wait_seconds=wait, quiet=as_json)
    if as_json:
        print_json(report)


@app.command()
def drift(
    project: Project = HERE,
    as_of: Annotated[
        str, typer.Option("--as-of", help="`latest` (now, or where the data ends), `now`, or a date or time")
    ] = "latest",
    wait: Wait = 0,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Does the model in charge still fit? Inputs and performance of the newest windows, and what to do."""
    from refit.cli import running

    decision = running.drift(project_at(project), as_of=as_of, wait_seconds=wait, quiet=as_json)
    if as_json:
        print_json(decision)


@app.command()
def replay(
    start: Annotated[str, typer.Option("--from", help="date or time at which the replay begins")],
    end: Annotated[str, typer.Option("--to", help="date or time at which it ends")],
    project: Project = HERE,
    every: Annotated[str | None, typer.Option("--every", help="day, week or month; default: ingest.period")] = None,
    policies: Annotated[
        str, typer.Option("--policies", help="comma-separated; settings of `drift` after colons: drift:breached=1")
    ] = "never,schedule,drift,performance,always",
    metric: Annotated[str | None, typer.Option("--metric", help="default: the gate's; `accuracy` works too")] = None,
    budget: Annotated[int | None, typer.Option("--budget", min=0, help="most retrainings of the best policy")] = None,
    random: Annotated[
        int, typer.Option("--random", min=0, max=1000, help="random schedules to compare each policy with")
    ] = 0,
    set_: Sets = None,
    wait: Wait = 0,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Live through months of your own past under several policies of retraining, before you deploy one."""
    from refit.cli import replays as replay

    result = replay.replay(
        project_at(project),
        start=start,
        end=end,
        every=every,
        policies=policies,
        metric=metric,
        budget=budget,
        random=random,
        overrides=assignments(set_ or []),
        wait_seconds=wait,
        quiet=as_json,
    )
    if as_json:
        print_json(result)


@app.command()
def cross_validate(
    project: Project = HERE,
    as_of: AsOf = "latest",
    set_: Sets = None,
    wait: Wait = 0,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Judge training as it is set up, tuning and all, on folds that chose nothing (evaluate.cross_validation)."""
    from refit.cli import cross_validate

    report = cross_validate.cross_validate(
        project_at(project), as_of=as_of, overrides=assignments(set_ or []), wait_seconds=wait, quiet=as_json
    )
    if as_json:
        print_json(report)


@app.command()
def check_learner(
    kind: Annotated[str, typer.Argument(help="an import path, module:Class, or file.py:Class of the project")],
    params: Annotated[str, typer.Option("--params", help="its arguments, as JSON")] = "{}",
    task: Annotated[str, typer.Option("--task", help="binary, multiclass or regression")] = "binary",
    project: Project = HERE,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Try the contract of a learner on a class, rule by rule; status 1 where one is broken."""
    from refit.cli import learner_check

    findings = learner_check.run_checks(project.resolve(), kind, json_object("--params", params), task)
    if as_json:
        print_json({"kind": kind, "rules": [vars(finding) for finding in findings]})
    else:
        learner_check.print_findings(kind, findings)
    if any(finding.outcome == "failed" for finding in findings):
        raise typer.Exit(1)


@app.command()
def doctor(project: Project = HERE, as_json: AsJson = False, debug: Debug = False) -> None:
    """Look at the environment, the libraries, the locks, and what could get in the way."""
    from refit.cli import inspection

    findings = inspection.doctor(project.resolve())
    if as_json:
        print_json({"findings": [vars(finding) for finding in findings]})
    else:
        inspection.print_findings(findings)
    if any(finding.level == "error" for finding in findings):
        raise typer.Exit(1)


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="the new project's folder")],
    csv: Annotated[
        Path | None, typer.Option("--csv", help="your own table; without it, a small example is made")
    ] = None,
    time: Annotated[str | None, typer.Option("--time", help="its column that tells when a row happened")] = None,
    label: Annotated[str | None, typer.Option("--label", help="its column to predict")] = None,
    key: Annotated[list[str] | None, typer.Option("--key", help="columns that name a row; repeatable")] = None,
    horizons: Annotated[
        str | None,
        typer.Option(
            "--horizons", help="forecast: steps ahead, as 1,7,28 or 1-48; --key then names what tells series apart"
        ),
    ] = None,
    time_format: Annotated[
        list[str] | None, typer.Option("--time-format", help="how the time is written, as '%d/%m/%Y'; repeatable")
    ] = None,
    positive: Annotated[str | None, typer.Option("--positive", help="the value of two to look for")] = None,
    split: Annotated[str | None, typer.Option("--split", help="its column that says train, validation or test")] = None,
    missing: Annotated[
        list[str] | None, typer.Option("--missing", help="a text that means a missing value; repeatable")
    ] = None,
    encoding: Annotated[str, typer.Option("--encoding", help="of the file, such as cp1252 or utf-16")] = "utf-8",
    timezone: Annotated[
        str, typer.Option("--timezone", help="whose days, weeks and months are meant, as Europe/Berlin")
    ] = "UTC",
    debug: Debug = False,
) -> None:
    """Make a new project that runs at once."""
    from refit.new_project import project_folder
    from refit.new_project.table_reading import Hints

    ahead = project_folder.steps_ahead(horizons) if horizons else ()
    hints = Hints(encoding, tuple(time_format or ()), positive, split, tuple(missing or ()), timezone)
    project_folder.create(folder, csv=csv, time=time, label=label, key=tuple(key or ()), horizons=ahead, hints=hints)


@app.command()
def ui(project: Project = HERE, debug: Debug = False) -> None:
    """Start the MLflow and Prefect UIs on loopback, until Ctrl-C."""
    from flows.services import ports

    ports.serve_uis(project_at(project))


@app.command()
def up(
    project: Project = HERE,
    detach: Annotated[bool, typer.Option("--detach", help="return once all is up, instead of waiting")] = False,
    prefect_port: Port = None,
    mlflow_port: Port = None,
    debug: Debug = False,
) -> None:
    """Let the project run by itself: both servers, a worker, its schedules and events, on loopback."""
    from flows.services import up

    up.up(project_at(project), detach=detach, prefect_port=prefect_port, mlflow_port=mlflow_port)


@app.command()
def down(project: Project = HERE, debug: Debug = False) -> None:
    """End exactly what `up` started."""
    from flows.services import up

    up.down(project_at(project))


@quarantine.command("list")
def quarantine_list(
    project: Project = HERE,
    source: Annotated[str | None, typer.Option("--source")] = None,
    batch: Annotated[str | None, typer.Option("--batch")] = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """The refused rows, each with its reason."""
    from refit.cli import inspection

    rows = inspection.quarantined_rows(project_at(project), source=source, batch=batch)
    if as_json:
        print_json({"rows": rows})
    else:
        inspection.print_quarantined_rows(rows)


@quarantine.command("release")
def quarantine_release(
    source: str,
    batch: str,
    rows: Annotated[list[int] | None, typer.Argument(help="row numbers, as `quarantine list` shows them")] = None,
    project: Project = HERE,
    all_: Annotated[bool, typer.Option("--all", help="every refused row of the batch")] = False,
    why: Why = None,
    debug: Debug = False,
) -> None:
    """Let refused rows back in; who, when and why go into released.json."""
    from refit.cli import running

    if not why:
        raise UserError("a release needs a reason: --why TEXT")
    if bool(rows) == all_:
        raise UserError("name the row numbers to release, or give --all")
    say(running.release(project_at(project), source, batch, None if all_ else tuple(rows or ()), why))


def main() -> None:
    """Run the console script: errors are one line on standard error; exit status 2 for user errors, 1 for faults."""
    debug = "--debug" in sys.argv[1:]
    gc.set_threshold(ALLOCATIONS_BETWEEN_COLLECTIONS)
    guard_logs()
    signal.signal(signal.SIGTERM, Terminated.on_signal)
    os.environ.setdefault("PYTHONSAFEPATH", "1")  # no child may import a project's `calendar.py` instead of Python's
    quiet_prefect(debug)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # characters outside of the terminal's encoding must not fail
    try:
        if (status := app(prog_name="refit", standalone_mode=False)) != INTERRUPTED:
            sys.exit(status)
        message: tuple[str, ...] = (f"interrupted; {_RESUMES}",)
    except RefitError as error:
        message, status = error.lines, error.exit_status
        _release_frames(error, debug)
    except TyperException as error:
        message, status = usage_error(error), error.exit_code
    except Terminated:
        message, status = (f"ended by SIGTERM; {_RESUMES}",), 143
    except (KeyboardInterrupt, typer.Abort):
        message, status = (f"interrupted; {_RESUMES}",), INTERRUPTED
    except Exception as error:
        what = f"{type(error).__name__}: {' '.join(str(error).split())}"
        message, status = (f"{what} (a fault of Refit; --debug shows where)",), 1
        if fault := machine_fault(error):
            message = (f"{fault}; what was finished is kept: mend that, then run again",)
        elif is_interrupted(error):
            how, status = ("ended by SIGTERM", 143) if Terminated.was_asked else ("interrupted", INTERRUPTED)
            message = (f"{how}; {_RESUMES}",)
        elif isinstance(error, OSError) and (refusal := refused_by_the_system(error)):
            message = (refusal,)
        _release_frames(error, debug)
    gc.collect()  # objects in the error's frames must not outlive their library, which would warn on standard error
    for index, text in enumerate(message):
        say(f"  {text}" if index else f"error: {text}", stderr=True)
    sys.exit(status)


def _release_frames(error: BaseException, debug: bool) -> None:
    """Clear the frames of an error: Prefect keeps the error, and with it the objects in them.

    With `debug`, print its traceback first, without the secrets that libraries put into their messages.
    """
    if debug:
        for text in "".join(traceback.format_exception(error)).rstrip().split("\n"):
            say(text, stderr=True)
    for each in chain(error):
        traceback.clear_frames(each.__traceback__)
