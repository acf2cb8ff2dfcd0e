"""The commands that try something and leave the champion alone: replay, cross-validation, a learner's contract."""

from __future__ import annotations

from typing import Annotated

import typer

from refit.cli.options import HERE, AsJson, AsOf, Debug, Project, Sets, Wait, assignments, json_object, project_at
from refit.runtime.terminal import print_json

POLICIES = "never,schedule,drift,performance,always"  # that a replay compares if none are named

app = typer.Typer()


@app.command()
def replay(
    project: Project = HERE,
    start: Annotated[
        str | None, typer.Option("--from", help="date or time at which it begins; default: half of what was ingested")
    ] = None,
    end: Annotated[str | None, typer.Option("--to", help="at which it ends; default: where the data end")] = None,
    every: Annotated[str | None, typer.Option("--every", help="day, week or month; default: ingest.period")] = None,
    policies: Annotated[
        str, typer.Option("--policies", help="comma-separated; settings of `drift` after colons: drift:breached=1")
    ] = POLICIES,
    metric: Annotated[
        str | None, typer.Option("--metric", help="default: the gate's; `accuracy` is at .5 for all policies")
    ] = None,
    budget: Annotated[int | None, typer.Option("--budget", min=0, help="most retrainings of the best policy")] = None,
    random: Annotated[
        int, typer.Option("--random", min=0, max=1000, help="random schedules to compare each policy with")
    ] = 0,
    recommend: Annotated[
        bool, typer.Option("--recommend", help="write the policy at the knee of score and trainings to params.yaml")
    ] = False,
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
        recommend=recommend,
        overrides=assignments(set_ or []),
        wait_seconds=wait,
        quiet=as_json,
    )
    if as_json:
        print_json(result.to_json())


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
    from flows.run_options import RunOptions
    from refit.cli import cross_validate

    folder = project_at(project)
    options = RunOptions(as_of=as_of, overrides=assignments(set_ or []), wait_seconds=wait)
    report = cross_validate.cross_validate(folder, options, quiet=as_json)
    if as_json:
        print_json(report.to_json())


@app.command()
def lr_find(
    learner: Annotated[str, typer.Argument(help="name of a network in train.learners")],
    lowest: Annotated[float, typer.Option("--lowest", help="learning rate of the first step")] = 1e-6,
    highest: Annotated[float, typer.Option("--highest", help="learning rate of the last step")] = 10.0,
    steps: Annotated[int, typer.Option("--steps", help="batches to train on")] = 300,
    project: Project = HERE,
    as_of: AsOf = "latest",
    set_: Sets = None,
    wait: Wait = 0,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Find a learning rate for a network: its loss while the rate grows with every step, and where that is lowest."""
    from flows.run_options import RunOptions
    from refit.cli import lr_finder

    folder = project_at(project)
    options = RunOptions(as_of=as_of, overrides=assignments(set_ or []), wait_seconds=wait)
    result = lr_finder.find(folder, options, learner, lowest=lowest, highest=highest, steps=steps, quiet=as_json)
    if as_json:
        print_json({**vars(result), "lowest": result.lowest, "suggestion": result.suggestion})


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
