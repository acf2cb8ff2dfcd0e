"""The commands that make a project and look for what could get in its way."""

from __future__ import annotations

from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from refit.cli.options import HERE, AsJson, Debug, Project
from refit.errors import UserError
from refit.runtime.terminal import print_json

app = typer.Typer()


@app.command()
def doctor(project: Project = HERE, as_json: AsJson = False, debug: Debug = False) -> None:
    """Look at the environment, the libraries, the locks, and what could get in the way."""
    from refit.cli.doctor import examine, print_findings

    findings = examine(project.resolve())
    if as_json:
        print_json({"findings": [vars(finding) for finding in findings]})
    else:
        print_findings(findings)
    if any(finding.level == "error" for finding in findings):
        raise typer.Exit(1)


@app.command()
def params_schema(debug: Debug = False) -> None:
    """Print the JSON Schema of params.yaml, for editors: `refit params-schema > params.schema.json`."""
    from refit.config.schema import written
    from refit.runtime.terminal import say

    for line in written().splitlines():
        say(line)


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="the new project's folder")],
    csv: Annotated[
        Path | None, typer.Option("--csv", help="your own table; without it, a small example is made")
    ] = None,
    parquet: Annotated[Path | None, typer.Option("--parquet", help="the same, as Parquet")] = None,
    sql: Annotated[
        str | None, typer.Option("--sql", help="the environment variable with a database's URL, for --query")
    ] = None,
    query: Annotated[str | None, typer.Option("--query", help="the SELECT whose rows are the table")] = None,
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
    from_example: Annotated[
        str | None, typer.Option("--from-example", help="copy an example of Refit's repository, such as churn")
    ] = None,
    git: Annotated[bool, typer.Option(help="make a git repository, unless DIR lies in one")] = True,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Make a new project that runs at once."""
    from refit.drift.backtest_length import too_few_windows
    from refit.new_project import example_copy, project_folder, query_reading, repository
    from refit.new_project.table_reading import Hints
    from refit.runtime import run_file

    ahead = project_folder.steps_ahead(horizons) if horizons else ()
    hints = Hints(encoding, tuple(time_format or ()), positive, split, tuple(missing or ()), timezone)
    given = query_reading.query_of(sql, query)
    if given and (csv or parquet or from_example):
        raise UserError("--sql is a table of its own; leave --csv, --parquet and --from-example out")
    with (
        query_reading.rows_of(given) if given else nullcontext(parquet) as rows,
        example_copy.copied(from_example, folder) if from_example else nullcontext(),
        repository.made(folder, wanted=git) as in_new_repository,
    ):
        description = project_folder.create(
            folder,
            csv=csv,
            parquet=rows,
            time=time,
            label=label,
            key=tuple(key or ()),
            horizons=ahead,
            hints=hints,
            query=given,
        )
    if in_new_repository:
        description = description.with_note("git", repository.NOTE)
    if remark := too_few_windows(run_file.params_outside(folder), datetime.now(UTC)):
        description = description.with_note("drift", remark)
    if as_json:
        print_json(description.to_json())
    else:
        description.print()
