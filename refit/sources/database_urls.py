"""URLs of databases, which only the environment holds, and errors of databases without what is secret in them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

from refit.errors import RefitError, UserError, first_line
from refit.extras import not_installed

if TYPE_CHECKING:
    from sqlalchemy import URL, Engine

# drivers that know `connect_timeout`; those of other names may refuse it
_TIMEOUTS = ("psycopg", "psycopg2", "psycopg2cffi", "pymysql", "mysqldb", "mysqlconnector", "mariadbconnector")
_LOST = ("OperationalError", "InterfaceError", "OSError", "TimeoutError")


def parsed(variable: str, where: str) -> URL:
    """The URL in the environment variable `${NAME}`; PostgreSQL's plain form takes the driver that Refit brings.

    Raises:
        UserError: the variable is not set, is no URL, or its driver is not installed.
    """
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    name = variable[2:-1]
    value = os.environ.get(name)
    if not value:
        raise UserError(
            f"the environment variable {name} is not set; it holds the URL of a database, such as "
            f"postgresql://USER:PASSWORD@HOST/DATABASE ({where})"
        )
    try:
        url = make_url(re.sub(r"^postgres(ql)?://", "postgresql+psycopg://", value))
        url.get_dialect().import_dbapi()
        return url
    except ImportError as error:
        raise not_installed(error, where) or _no_driver(url.drivername, error, where) from None
    except (ArgumentError, ValueError, LookupError) as error:  # the text of an ArgumentError has the password
        known = f" ({first_line(error)})" if type(error).__name__ == "NoSuchModuleError" else ""
        raise UserError(
            f"the environment variable {name} holds no URL of a database that can be read{known}; it is "
            f"DIALECT://USER:PASSWORD@HOST:PORT/DATABASE, with %40 for @, %3A for : and %2F for / in the password "
            f"({where})"
        ) from None


def engine(url: URL, **options: Any) -> Engine:
    """An engine without a pool, whose errors show no values, whose attempts to connect end and whose times are UTC."""
    from sqlalchemy import create_engine, event
    from sqlalchemy.pool import NullPool

    timeouts = {"connect_timeout": 10} if url.get_driver_name() in _TIMEOUTS else {}
    made = create_engine(url, poolclass=NullPool, connect_args=timeouts, hide_parameters=True, **options)
    if url.get_backend_name() in ("mysql", "mariadb"):
        event.listen(made, "connect", _in_utc)
    return made


def _in_utc(connection: Any, _: object) -> None:
    """Let MySQL give a TIMESTAMP in UTC, as it says none of them with its zone: its own is that of the server."""
    with closing(connection.cursor()) as cursor:
        cursor.execute("set time_zone = '+00:00'")


@contextmanager
def errors(variable: str, where: str, advice: str) -> Iterator[None]:
    """Turn errors of a database and its driver into one line without secrets.

    Args:
        advice: what to do where the database answered, and refused.
    """
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except RefitError:
        raise
    except (SQLAlchemyError, ImportError, OSError) as error:
        url = parsed(variable, where)
        said = first_line(getattr(error, "orig", None) or error)
        for secret in filter(None, (url.render_as_string(hide_password=False), url.password, *_texts(url.query))):
            said = said.replace(str(secret), "***")
        if type(error).__name__ in _LOST:
            advice = f"check that the server is reachable, user and password, and correct {variable[2:-1]}"
        raise UserError(f"the {url.get_backend_name()} database of {where} failed: {said[:300]}; {advice}") from None


def _no_driver(drivername: str, error: ImportError, where: str) -> UserError:
    return UserError(
        f"a database of {drivername} needs {error.name}, which is not installed; install that package next to Refit "
        f"({where})"
    )


def _texts(query: Mapping[str, Any]) -> list[str]:
    values = [each if isinstance(each, str) else " ".join(each) for each in query.values()]
    return [each for each in values if len(each) >= 6]
