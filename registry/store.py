"""Location of a project's registry, and one-line errors for its failures."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from registry.object_stores import s3_fault
from registry.refusals import lost, refusal
from registry.secrets import expanded, first_line, redacted
from registry.sqlite_files import fault
from registry.urls import sqlite_path, sqlite_url

URI_VARIABLE = "MLFLOW_TRACKING_URI"
LEDGER_VARIABLE = "REFIT_LEDGER_URI"
_LIBRARIES = ("mlflow", "sqlalchemy", "requests", "urllib3", "sqlite3", "boto")
POSTGRESQL = ("postgresql://", "postgresql+psycopg://")  # what `ledger_uri` may start with


class RegistryError(Exception):
    """The registry or its content cannot be used as requested; one line that says why and what to do."""


@dataclass(frozen=True)
class Store:
    """One MLflow tracking store and registry, and where its lock and ledger are."""

    uri: str = field(repr=False)  # includes the password from the environment
    home: Path  # folder of the lock and ledger, unless they are in a database
    ledger_uri: str | None = field(default=None, repr=False)  # their database, one for all machines; password included
    scope: str = ""  # in that database each scope has a lock of its own: the project's name

    @property
    def shown(self) -> str:
        """`uri` as it may be printed and stored."""
        return redacted(self.uri)

    @property
    def database(self) -> Path | None:
        """The SQLite file behind `uri`; None for a server."""
        return _sqlite_file(self.uri)

    @property
    def has_no_server(self) -> bool:
        """Whether `uri` is a database that MLflow's client opens itself, and no file: it names no artifact store.

        >>> Store("postgresql+psycopg://db/m", Path()).has_no_server, Store("http://mlflow", Path()).has_no_server
        (True, False)
        """
        return self.uri.partition(":")[0].partition("+")[0] in ("postgresql", "mysql", "mssql")

    @property
    def server(self) -> str | None:
        """The address of the MLflow server, without user and password; None if `uri` is a database.

        >>> Store("https://ann:hunter2@models.example.org/mlflow/", Path("/p")).server
        'https://models.example.org/mlflow'
        """
        url = urlsplit(self.uri)
        if url.scheme not in ("http", "https"):
            return None
        return url._replace(netloc=url.netloc.rpartition("@")[2], query="", fragment="").geturl().rstrip("/")

    @property
    def artifacts(self) -> Path | None:
        """Where Refit's experiments store their artifacts; None if the server decides."""
        return self.home / "mlartifacts" if self.database else None

    @property
    def ledger_url(self) -> str:
        """SQLAlchemy's URL of the ledger."""
        return self.ledger_uri or sqlite_url(self.home / "ledger.db")

    @property
    def one_ledger(self) -> bool:
        """Whether all that use this registry have the same ledger; otherwise each checkout has its own."""
        return bool(self.database or self.ledger_uri)

    @property
    def lock_name(self) -> str:
        """What tells the lock of this registry from those of others that a process holds."""
        return f"{self.ledger_uri} {self.scope}" if self.ledger_uri else str(self.home)

    @property
    def exists(self) -> bool:
        """Whether anything can have been stored yet; a server is assumed to exist."""
        return self.database is None or self.database.is_file()


def locate(
    project: Path,
    uri: str | None,
    environ: Mapping[str, str] = os.environ,
    *,
    ledger_uri: str | None = None,
    scope: str = "",
) -> Store:
    """The store of a project: `MLFLOW_TRACKING_URI`, else `uri` from its params, else SQLite in `.refit/`.

    The environment comes first because a deployment knows better than a versioned file where its server is. A relative
    SQLite path is relative to the project's folder, whatever the working directory. The ledger is next to an SQLite
    file, or in the database that the tracking URI names; that of a server is in the database that `REFIT_LEDGER_URI`
    or `ledger_uri` names, else in `.refit/`.

    >>> locate(Path("/p"), None, environ={}).uri
    'sqlite:////p/.refit/mlflow.db'
    >>> locate(Path("/p"), "sqlite:///shared/m.db", environ={}).home.as_posix()
    '/p/shared'
    >>> locate(Path("/p"), "sqlite:///m.db", environ={"MLFLOW_TRACKING_URI": "http://mlflow:5000"}).uri
    'http://mlflow:5000'
    >>> locate(Path("/p"), "postgresql://refit:${PW}@db/m", environ={"PW": "hunter2"}).shown
    'postgresql://refit:***@db/m'

    Raises:
        RegistryError: a URI names no file or no database, or a variable that is not set.
    """
    state = project.absolute() / ".refit"
    chosen = environ.get(URI_VARIABLE) or _expanded(uri, "tracking_uri", environ) or sqlite_url(state / "mlflow.db")
    ledger = environ.get(LEDGER_VARIABLE) or _expanded(ledger_uri, "ledger_uri", environ) or None
    if ledger and not ledger.startswith(POSTGRESQL):
        raise RegistryError(
            f"{redacted(ledger)} is no PostgreSQL database: registry.ledger_uri is postgresql://USER@HOST/DATABASE"
        )
    if (file := _sqlite_file(chosen)) is None:
        return Store(
            chosen, state, ledger or (chosen if chosen.startswith(("postgresql://", "postgresql+")) else None), scope
        )
    path = project.absolute() / file
    if ".." in path.parts:  # projects that name one file from their own folders mean one store
        path = path.resolve()
    return Store(sqlite_url(path), path.parent, ledger, scope)


def _expanded(uri: str | None, param: str, environ: Mapping[str, str]) -> str:
    try:
        return expanded(uri or "", environ)
    except LookupError as error:
        name = error.args[0]
        raise RegistryError(f"registry.{param} needs the variable {name}, which is not set; export {name}") from None


@contextmanager
def faults(store: Store) -> Iterator[None]:
    """Turn errors of MLflow, SQLAlchemy or the network inside the block into a one-line RegistryError."""
    try:
        yield
    except RegistryError:
        raise
    except Exception as error:
        if not type(error).__module__.startswith(_LIBRARIES):
            raise
        if refused := s3_fault(error):
            raise RegistryError(
                f"the artifact store of the registry at {store.shown} failed: {redacted(refused)}"
            ) from error
        said = refusal(error) or f"{lost(error) or first_line(error)}; check that it is reachable"
        said = str(fault(store.database, error)) if store.database else said
        raise RegistryError(f"the registry at {store.shown} failed: {said}") from error


def missing(error: Exception) -> bool:
    """Whether an MLflow error says that the requested object does not exist."""
    return getattr(error, "error_code", "") in ("RESOURCE_DOES_NOT_EXIST", "ENDPOINT_NOT_FOUND") or (
        getattr(error, "error_code", "") == "INVALID_PARAMETER_VALUE" and "alias" in str(error).lower()
    )


def _sqlite_file(uri: str) -> Path | None:
    try:
        return sqlite_path(uri)
    except ValueError as error:
        raise RegistryError(f"tracking URI {redacted(str(error))} (registry.tracking_uri)") from None
