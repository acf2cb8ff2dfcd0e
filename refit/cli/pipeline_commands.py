"""The commands that run the pipeline, its stages, scoring and the drift check, and show what would run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from refit.cli.options import HERE, AsJson, AsOf, Debug, Project, Sets, Wait, assignments, project_at
from refit.config import STAGES
from refit.errors import RefitError
from refit.runtime.terminal import print_json, say

app = typer.Typer()


@app.command()
def run(
    project: Project = HERE,
    as_of: AsOf = "latest",
    set_: Sets = None,
    force: Annotated[bool, typer.Option("--force", help="run every stage, changed or not")] = False,
    judge_only: Annotated[
        bool, typer.Option("--judge-only", help="end before `register`: say what the gate decides, register nothing")
    ] = False,
    wait: Wait = 0,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Bring the model up to date: six stages, each only if something it depends on changed."""
    from flows.run_options import RunOptions
    from refit.cli import running

    folder = project_at(project)
    options = RunOptions(as_of=as_of, overrides=assignments(set_ or []), force=force, wait_seconds=wait)
    if judge_only:
        from flows import judging

        judgement = judging.judge(folder, options)
        if as_json:
            print_json(judgement.to_json())
            return
        for line in judging.lines(folder, judgement):
            say(line)
        return
    summary = running.run(folder, options, quiet=as_json)
    if as_json:
        print_json(summary.to_json())


@app.command()
def stage(
    name: Annotated[str, typer.Argument(help=f"one of {', '.join(STAGES)}")],
    project: Project = HERE,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Run one stage's work, as DVC does. Never moves `champion`."""
    from refit.cli import running

    seconds = running.run_one_stage(project_at(project), name)
    if as_json:
        print_json({"stage": name, "seconds": seconds})


@app.command()
def status(project: Project = HERE, as_json: AsJson = False, debug: Debug = False) -> None:
    """What would run now, and why."""
    from refit.cli import inspection
    from refit.runtime import lock

    folder = project_at(project)
    try:
        owner = lock.held_by(folder)
    except RefitError as error:  # another user's lock; what would run can be read all the same
        say(error.sentence, stderr=True)
        owner = ""
    stale = inspection.status(folder)
    if as_json:
        print_json({"stale": stale, "held_by": owner or None})
        return
    if owner:
        say(f"held by {owner}: until it ends, what it is making may be shown as deleted or modified")
    for stage in inspection.format_status(stale):
        say(stage)


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
    """Score rows with the champion, and log the predictions."""
    from refit.cli import running

    report = running.score(project_at(project), rows, as_of=as_of, out=out, wait_seconds=wait, quiet=as_json)
    if as_json:
        print_json(report.to_json())


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
    """Does the champion still fit? Inputs and performance of the newest windows, and what to do."""
    from refit.cli import running

    decision = running.drift(project_at(project), as_of=as_of, wait_seconds=wait, quiet=as_json)
    if as_json:
        print_json(decision.to_json())
