"""A password that the environment gives is printed and stored nowhere, and one that params.yaml holds is refused."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from commands import commands, refit

from refit.cli import main
from refit.cli.options import Why
from refit.errors import RefitError, UserError
from refit.runtime import run_file
from refit.runtime.terminal import guard_logs
from registry.secrets import holds_literal, redacted
from registry.store import Store, faults, locate

CANARY = "hunter2-Canary"


@pytest.mark.parametrize(
    "text",
    [
        f"postgresql://refit:{CANARY}@db/m",
        f"mysql+pymysql://refit:{CANARY}@db:3306/m?charset=utf8",
        f"postgresql://refit:p@ss/{CANARY}@db/m",
        f"redis://:{CANARY}@host:6379/0",
        f"https://{CANARY}@mlflow.example/x",
        f"could not connect to 'http://me:{CANARY}@h:5000/api/2.0' (refused)",
        f"https://acc.blob.core.windows.net/x?sv=1&sig={CANARY}&se=2",
        f"s3://bucket/key?X-Amz-Signature={CANARY}",
        f"duckdb:///md:m?motherduck_token={CANARY}",
        f"host=db user=refit password={CANARY} dbname=m",
        f"password = '{CANARY} with blanks'",
        f"Driver={{PostgreSQL}};Server=db;UID=me;PWD={{{CANARY};}};Port=5432",
        f"AccountName=a;AccountKey={CANARY}==;EndpointSuffix=core",
        f"aws_secret_access_key={CANARY}",
        f"Authorization: Bearer {CANARY}",
    ],
)
def test_a_secret_is_hidden_wherever_a_text_repeats_it(text: str) -> None:
    assert CANARY not in redacted(text)
    assert "***" in redacted(text)
    assert redacted(redacted(text)) == redacted(text)
    assert CANARY not in str(RefitError(f"the registry failed: {text}"))


@pytest.mark.parametrize(
    "text",
    ["http://mlflow:5000/a@b", "http://[::1]:5000/a@b", "postgresql://refit@db/m", "max_tokens=5 n_tokens=3", "a@b.c"],
)
def test_what_is_no_secret_is_shown(text: str) -> None:
    assert redacted(text) == text
    assert not holds_literal(text)


def test_an_aws_key_is_known_by_its_form() -> None:
    assert redacted("key AKIAABCDEFGHIJKLMNOP of us") == "key *** of us"


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("registry.tracking_uri", f"postgresql://refit:{CANARY}@db/m"),
        ("registry.tracking_uri", f"postgresql://refit:${{PW:-{CANARY}}}@db/m"),
        ("registry.tracking_uri", f"mssql+pyodbc:///?odbc_connect=UID=me;PWD={CANARY}"),
        ("ingest.sources.table.path", f"https://u:{CANARY}@h/x.csv"),
        ("ingest.sources.table.published", f"https://h/x.csv?token={CANARY}"),
    ],
)
def test_a_password_in_params_is_refused_and_not_repeated(project: Path, setting: str, value: str) -> None:
    with pytest.raises(UserError, match=r"holds a password or a token; write \$\{NAME\} in its place") as error:
        run_file.check(project, run_file.RunFile(overrides={setting: value}))
    assert setting in str(error.value)
    assert CANARY not in str(error.value)


def test_a_variable_in_params_is_expanded_to_connect_and_nowhere_else(tmp_path: Path) -> None:
    uri = "postgresql://refit:${REFIT_DB_PASSWORD}@db/m"
    store = locate(tmp_path, uri, environ={"REFIT_DB_PASSWORD": CANARY})
    assert store.uri == f"postgresql://refit:{CANARY}@db/m"
    assert CANARY not in repr(store)
    assert store.shown == "postgresql://refit:***@db/m"
    with pytest.raises(Exception, match="needs the variable REFIT_DB_PASSWORD, which is not set"):
        locate(tmp_path, uri, environ={})


def test_an_error_of_a_library_does_not_repeat_the_uri(tmp_path: Path) -> None:
    import sqlalchemy

    store = Store(f"postgresql://refit:{CANARY}@db/m", tmp_path)
    with pytest.raises(Exception, match=r"refit:\*\*\*@db") as error, faults(store):
        raise sqlalchemy.exc.ArgumentError(f"cannot connect to {store.uri}")
    assert CANARY not in str(error.value)


@pytest.fixture
def guarded() -> Iterator[None]:
    before = logging.getLogRecordFactory()
    guard_logs()
    yield
    logging.setLogRecordFactory(before)


@pytest.mark.usefixtures("guarded")
def test_no_log_repeats_a_secret_not_even_in_a_traceback(caplog: pytest.LogCaptureFixture) -> None:
    guard_logs()  # twice is once
    try:
        raise ValueError(f"cannot open postgresql://u:{CANARY}@db \x1b[31m")
    except ValueError:
        logging.getLogger("sqlalchemy").exception("at %s", f"postgresql://u:{CANARY}@db")
    assert CANARY not in caplog.text
    assert "\x1b" not in caplog.text
    assert "u:***@db" in caplog.text


def test_a_reason_is_recorded_without_the_password_that_it_repeats() -> None:
    app, reasons = typer.Typer(), []

    @app.command()
    def note(why: Why = None) -> None:
        reasons.append(why)

    app(["--why", f"moved to postgresql://u:{CANARY}@h/d"], standalone_mode=False)
    app([], standalone_mode=False)
    assert reasons == ["moved to postgresql://u:***@h/d", None]


# Nobody listens there, and nothing waits for it.
URI = f"http://refit:{CANARY}@127.0.0.1:9"


@pytest.mark.ci
def test_no_command_prints_or_stores_the_password_of_the_tracking_uri(
    project: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(project)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", URI)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    for command in commands(main.app):
        if command[0] in ("ui", "up", "init", "check-learner", "replay", "cross-validate", "lr-find"):
            continue  # none of them opens the registry before it starts a server, or at all
        arguments = {
            ("stage",): ["register"],
            ("score",): ["2024-10"],
            ("compare",): ["1", "1"],
            ("explain",): ["1"],
            ("lineage",): ["1"],
            ("export",): ["1", "--to", "out"],
            ("sign",): ["1"],
            ("promote",): ["1", "--why", f"moved to {URI}"],
            ("approve",): ["1", "--why", f"moved to {URI}"],
            ("reject",): ["1", "--why", f"moved to {URI}"],
            ("rollback",): ["--why", f"moved to {URI}"],
            ("reproduce",): ["1"],
            ("run",): ["--set", f"registry.tracking_uri=postgresql://u:{CANARY}@h/d"],
            ("quarantine", "release"): ["table", "2024-01", "1", "--why", f"see {URI}"],
        }.get(command, [])
        status, printed = refit(capfd, *command, *arguments)
        assert CANARY not in printed, command
        if command in (("show",), ("promote",), ("score",)):
            assert status == 1, printed
            assert "refit:***@127.0.0.1" in printed, printed
    for path in project.rglob("*"):
        if path.is_file():
            assert CANARY.encode() not in path.read_bytes(), path


@pytest.mark.parametrize(("kind", "status"), [(UserError, 2), (OSError, 1)])
def test_debug_shows_where_an_error_came_from_and_no_secret_of_a_librarys(
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    kind: type[Exception],
    status: int,
) -> None:
    def fails(*_: object) -> None:
        try:
            raise ValueError(f"API request to http://u:{CANARY}@h failed \x1b[31m")
        except ValueError as error:
            raise kind("the registry failed") from error

    monkeypatch.chdir(project)
    monkeypatch.setattr("refit.cli.inspection.status", fails)
    found, printed = refit(capsys, "status", "--debug")
    assert found == status
    assert r"ValueError: API request to http://u:***@h failed \x1b[31m" in printed
    assert "in fails" in printed
    assert CANARY not in printed
    assert "error: " in printed.splitlines()[-1]
