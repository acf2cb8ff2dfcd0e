"""The commands of `refit quarantine`: rows that validation refused."""

from __future__ import annotations

from typing import Annotated

import typer

from refit.cli.options import HERE, AsJson, Debug, Project, Why, print_outcome, project_at
from refit.errors import UserError
from refit.runtime.terminal import print_json

app = typer.Typer(help="Rows that validation refused: look at them, let them back in.", no_args_is_help=True)


@app.command("list")
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
        print_json({"rows": [row.to_json() for row in rows]})
    else:
        inspection.print_quarantined_rows(rows)


@app.command("release")
def quarantine_release(
    source: str,
    batch: str,
    rows: Annotated[list[int] | None, typer.Argument(help="row numbers, as `quarantine list` shows them")] = None,
    project: Project = HERE,
    all_: Annotated[bool, typer.Option("--all", help="every refused row of the batch")] = False,
    why: Why = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Let refused rows back in; who, when and why go into released.json."""
    from refit.cli import running

    if not why:
        raise UserError("a release needs a reason: --why TEXT")
    if bool(rows) == all_:
        raise UserError("name the row numbers to release, or give --all")
    done = running.release(project_at(project), source, batch, None if all_ else tuple(rows or ()), why)
    print_outcome(done, as_json=as_json)
