"""The commands that start and stop servers: the user interfaces, and all that a project needs to run by itself."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from refit.cli.options import HERE, AsJson, Debug, Port, Project, project_at
from refit.errors import UserError
from refit.runtime.terminal import print_json, say

app = typer.Typer()


@app.command()
def ui(
    project: Project = HERE,
    prefect_port: Port = None,
    mlflow_port: Port = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Serve the home page, MLflow and Prefect on loopback, until Ctrl-C."""
    from flows.services import ports

    ports.serve_uis(project_at(project), prefect_port=prefect_port, mlflow_port=mlflow_port, as_json=as_json)


@app.command()
def up(
    project: Project = HERE,
    detach: Annotated[bool, typer.Option("--detach", help="return once all is up, instead of waiting")] = False,
    prefect_port: Port = None,
    mlflow_port: Port = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Let the project run by itself: both servers, a worker, its schedules and events, on loopback."""
    from flows.services import up

    folder = project_at(project)
    up.up(folder, detach=detach, prefect_port=prefect_port, mlflow_port=mlflow_port, as_json=as_json)


@app.command()
def deploy(
    pool: Annotated[str, typer.Option("--pool", help="the work pool; created for process workers if it is not there")],
    project: Project = HERE,
    pull: Annotated[
        str, typer.Option("--pull", help="how a run gets the project: `git` clones this commit, `image`, or `folder`")
    ] = "git",
    repository: Annotated[
        str | None, typer.Option("--repository", help="what to clone; default: the remote `origin`")
    ] = None,
    git_secret: Annotated[
        str | None, typer.Option("--git-secret", help="the Prefect Secret block with a token that reads the repository")
    ] = None,
    move: Annotated[
        bool, typer.Option("--move", help="take deployments out of the work pool that they are in now")
    ] = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Deploy prefect.yaml to workers on other machines, by the Prefect server in PREFECT_API_URL."""
    from flows import deploying

    folder = project_at(project)
    if pull not in deploying.PULLS:
        raise UserError(f"--pull {pull}: expected {', '.join(deploying.PULLS[:-1])} or {deploying.PULLS[-1]}")
    deployed = deploying.deploy(folder, pool=pool, pull=pull, repository=repository, secret=git_secret, move=move)
    origin = deployed.origin
    if as_json:
        clone = {"repository": origin.repository, "branch": origin.branch, "commit": origin.commit} if origin else {}
        was = {name: asdict(there) for name, there in deployed.was.items()}
        print_json({"deployed": deployed.names, "pool": pool, **clone, "was": was})
        return
    for name in deployed.names:
        say(f"deployed {name}" + (f" (was: {deployed.was[name]})" if name in deployed.was else ""))
    if origin:
        branch = f"branch {origin.branch}, " if origin.branch else ""
        say(f"runs clone {origin.repository}, {branch}commit {origin.commit[:12]}")
    say(f"to the work pool {pool}; on each worker: prefect worker start --pool {pool}")


@app.command()
def down(project: Project = HERE, as_json: AsJson = False, debug: Debug = False) -> None:
    """End exactly what `up` started."""
    from flows.services import up

    folder = project_at(project)
    ended = up.down(folder)
    if as_json:
        print_json({"ended": [{"name": each.name, "pid": each.pid} for each in ended]})
    else:
        up.print_ended(folder, ended)
