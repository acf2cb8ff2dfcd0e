"""The commands that start and stop servers: the user interfaces, and all that a project needs to run by itself."""

from __future__ import annotations

from typing import Annotated

import typer

from refit.cli.options import HERE, Debug, Port, Project, project_at

app = typer.Typer()


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
