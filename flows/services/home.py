"""The home page of a project and the pages behind it, on MLflow's server: the browser asks for one secret only.

    /refit/                      what is champion, the last decision, drift, and links to everything
    /refit/history               the ledger
    /refit/compare?first=&second=
    /refit/card, /refit/replay, /refit/data-docs/...    the reports of this folder
    /refit/drift                 the report of the newest decision on drift, made wherever the registry is shared
    /refit/versions/N/card       the model card of a registered version
    /refit/runs/ID               leads to a run's page of MLflow

Each page says that a browser may load and run nothing: what it shows came from data, files and people.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from flows.services.overview import mlflow_page, overview
from flows.session import context_of
from refit.errors import RefitError, UserError
from refit.files.artifacts import DATA_DOCS, MODEL_CARD
from refit.models.comparison import compared
from refit.operations.replay.history import FOLDER as REPLAY
from refit.reports import comparison_page, home_page, replay_report
from refit.reports.drift import drift_report
from refit.runtime import registry_store
from refit.storage import drift_decisions
from registry import run_files, tracking, versions
from tasks import register

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import ASGIApp, Receive, Scope, Send

PREFIX = "/refit"
_NOTHING = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; frame-ancestors 'none'"
POLICY = f"{_NOTHING}; form-action 'self'"
# A report is a file: were there a script in it, it could neither load nor send anything, nor call MLflow as this page.
REPORT_POLICY = f"{_NOTHING}; script-src 'unsafe-inline'; form-action 'none'; sandbox allow-scripts allow-modals"


def with_home(app: ASGIApp, project: Path) -> ASGIApp:
    """Serve the pages under `/refit/` in addition to what `app` serves."""
    home = _pages(project)

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        ours = scope["type"] == "http" and (path == PREFIX or path.startswith(f"{PREFIX}/"))
        await (home if ours else app)(scope, receive, send)

    return serve


def leading_to(server: str) -> ASGIApp:
    """Redirect each address to the same one on another server; a browser keeps what follows `#`, MLflow's pages."""

    def redirect(request: Request) -> Response:
        query = f"?{request.url.query}" if request.url.query else ""
        return RedirectResponse(f"{server}{request.scope['raw_path'].decode('ascii')}{query}")

    return Starlette(routes=[Route("/{path:path}", redirect)])


def _pages(project: Path) -> Starlette:
    def page(content: str) -> Response:
        return HTMLResponse(content, headers={"content-security-policy": POLICY, **_PRIVATE})

    def report(path: Path) -> Response:
        if not path.is_file():
            raise UserError(f"there is no {path.name} in {path.parent} yet")
        return HTMLResponse(path.read_bytes(), headers={"content-security-policy": REPORT_POLICY, **_PRIVATE})

    def home(request: Request) -> Response:
        return page(home_page.render(overview(project), context_of(project).params.project.zone))

    def history(request: Request) -> Response:
        context = context_of(project)
        named = context.params.project
        return page(home_page.render_history(named.name, register.history(context), named.zone))

    def compare(request: Request) -> Response:
        numbers = request.query_params.get("first", ""), request.query_params.get("second", "")
        links = {"Home": "./"} | {f"card of version {number}": f"versions/{number}/card" for number in numbers}
        context = context_of(project)
        return page(comparison_page.render(compared(context, *numbers), links, context.params.project.zone))

    def data_docs(request: Request) -> Response:
        folder = (project / DATA_DOCS).resolve()
        path = (folder / request.path_params["path"]).resolve()
        if path.suffix != ".html" or not path.is_relative_to(folder):
            raise UserError("the Data Docs have no such page")
        return report(path)

    def card(request: Request) -> Response:
        return HTMLResponse(
            _card_of(project, request.path_params["version"]),
            headers={"content-security-policy": REPORT_POLICY, **_PRIVATE},
        )

    def run(request: Request) -> Response:
        context, run_id = context_of(project), request.path_params["run"]
        with registry_store.opened(context) as store:
            experiment = tracking.find_experiment(store, context.params.project.name)
        page = f"experiments/{experiment}/runs/{quote(run_id, safe='')}" if experiment else "experiments"
        return RedirectResponse(mlflow_page(page))

    def drift(request: Request) -> Response:
        """The page of the decision that the home page shows: the file of the last one here may be of another."""
        context = context_of(project)
        made = drift_decisions.read_all(context)
        if (newest := drift_decisions.newest_made(made)) is None:
            raise UserError("drift was not checked yet")
        page = drift_report.render(newest, made, context.params.project.zone)
        return HTMLResponse(page, headers={"content-security-policy": REPORT_POLICY, **_PRIVATE})

    def file(path: Path) -> Callable[[Request], Response]:
        return lambda request: report(project / path)

    routes = {
        "/": home,
        "/history": history,
        "/compare": compare,
        "/card": file(MODEL_CARD),
        "/drift": drift,
        "/replay": file(REPLAY / replay_report.REPORT),
        "/data-docs/{path:path}": data_docs,
        "/versions/{version}/card": card,
        "/runs/{run}": run,
    }
    return Starlette(
        routes=[
            Route(PREFIX, lambda request: RedirectResponse(f"{PREFIX}/")),
            *(Route(f"{PREFIX}{path}", _in_one_line(answer)) for path, answer in routes.items()),
        ]
    )


_PRIVATE = {"cache-control": "no-store", "x-content-type-options": "nosniff", "referrer-policy": "same-origin"}


def _in_one_line(answer: Callable[[Request], Response]) -> Callable[[Request], object]:
    """Answer in a thread; an error of Refit becomes one line of plain text."""

    async def answered(request: Request) -> Response:
        try:
            return await run_in_threadpool(answer, request)
        except RefitError as error:
            return PlainTextResponse(error.sentence, 404 if isinstance(error, UserError) else 500, headers=_PRIVATE)

    return answered


def _card_of(project: Path, number: str) -> bytes:
    """Return the model card of a version, as it was logged with its run.

    Raises:
        UserError: there is no such version, or it was registered without a run.
        RefitError: its run has no card any more.
    """
    context = context_of(project)
    model = context.params.project.name
    with registry_store.opened(context) as store, tempfile.TemporaryDirectory() as folder:
        of = versions.version(store, model, number)
        if of is None or of.run_id is None:
            raise UserError(f"{model} has no version {number!r}, or it was registered without a run")
        run_files.fetch(store, of.run_id, MODEL_CARD.name, target := Path(folder) / MODEL_CARD.name)
        return target.read_bytes()
