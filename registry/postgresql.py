"""The ledger's PostgreSQL database: its connections, and the lock that all machines share."""

from __future__ import annotations

import hashlib
import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

from registry.secrets import first_line, redacted
from registry.store import RegistryError

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

SCHEMA = "refit"  # of the ledger's tables, apart from MLflow's where one database holds both
PAUSE_SECONDS = 0.2  # between two tries
# The server notices within a minute that a machine is gone, and frees its lock; the default is two hours.
_SETTINGS = {
    "tcp_keepalives_idle": 20,
    "tcp_keepalives_interval": 5,
    "tcp_keepalives_count": 6,
    # milliseconds: a process that hangs while it writes keeps no other one waiting for ever
    "lock_timeout": 60_000,
    "idle_in_transaction_session_timeout": 120_000,
}
_POOLED = (
    "a pooler in transaction mode (PgBouncer) gives each statement another connection; let it pool sessions, or name "
    "the database itself"
)
_LOCK = """
    locktype = 'advisory' and granted and objsubid = 1
    and pg_locks.database = (select oid from pg_database where datname = current_database())
    and ((classid::bigint << 32) | objid::bigint) = :key
"""
_HOLDER = f"select application_name from pg_locks join pg_stat_activity using (pid) where {_LOCK}"
_MINE = f"select count(*) from pg_locks where pid = pg_backend_pid() and {_LOCK}"


def engine(url: str, schema: str = SCHEMA) -> Engine:
    """The engine of a database. Its connections are ended by whichever side notices that the other one is gone.

    Args:
        schema: where it finds and makes tables whose names do not say it.

    Raises:
        RegistryError: the driver is not installed, or the URL is not one.
    """
    return _engine(url, schema, os.getpid())


def driver_url(url: str) -> str:
    """The URL of a database with the driver that SQLAlchemy is to use."""
    return f"postgresql+psycopg://{url.partition('://')[2]}"


def engine_arguments(schema: str) -> dict[str, object]:
    """What SQLAlchemy's `create_engine` is given besides the URL."""
    settings = {**_SETTINGS, "search_path": schema}
    alive = {"keepalives_idle": 20, "keepalives_interval": 5, "keepalives_count": 6, "tcp_user_timeout": 60_000}
    return {
        "pool_pre_ping": True,
        "isolation_level": "READ COMMITTED",  # what is read after a lock was waited for is what is there then
        "connect_args": {"connect_timeout": 10, **alive},
        "pool_events": [(partial(_set, settings), "connect")],
    }


def _set(settings: Mapping[str, object], connection: Any, _: object) -> None:
    """Set what holds for a connection by a statement: poolers refuse, or drop, what comes with its start."""
    with connection.cursor() as cursor:
        for name, value in settings.items():
            cursor.execute("select set_config(%s, %s, false)", (name, str(value)))
    connection.commit()


@lru_cache(maxsize=8)
def _engine(url: str, schema: str, process: int) -> Engine:
    """The engine of a process: one that was forked must not use its parent's connections."""
    from sqlalchemy import create_engine
    from sqlalchemy.exc import ArgumentError

    try:
        return create_engine(driver_url(url), **engine_arguments(schema))
    except (ArgumentError, ValueError):  # its text has parts of the password
        raise RegistryError(
            "the URL of the ledger cannot be read: it is postgresql://USER:PASSWORD@HOST:PORT/DATABASE, PORT a number, "
            "with %40 for @, %3A for : and %2F for / in the password"
        ) from None
    except ImportError:
        raise RegistryError(
            "a ledger in PostgreSQL needs the driver psycopg: uv pip install -c constraints.txt -e '.[server]'"
        ) from None


def failed(url: str, error: Exception, state: str = "nothing moves without it") -> RegistryError:
    """The one-line error for a database that cannot be used; `state` says what that means for the registry."""
    first = first_line(error)
    if "InsufficientPrivilege" in first or "UndefinedTable" in first:
        advice = "grant this user what docs/team.md lists"
    elif "LockNotAvailable" in first:
        advice = "another process, such as a dump by hand, keeps writers out for longer than a minute: let it end"
    elif "PreparedStatement" in first or "InvalidSqlStatementName" in first:
        advice = _POOLED
    else:
        advice = "check that it is reachable, and the user and password"
    return RegistryError(f"the ledger at {redacted(url)} failed: {first}; {state}: {advice}, then run again")


def key(scope: str) -> int:
    """The number of the advisory lock of a scope."""
    return int.from_bytes(hashlib.sha256(f"refit {scope}".encode()).digest()[:8], signed=True)


class HeldLock:
    """The lock while this process holds it."""

    def __init__(self, url: str, connection: Connection, lock_key: int) -> None:
        self._url, self._connection, self._key = url, connection, lock_key

    def check(self, state: str = "nothing moves without it") -> None:
        """Check that the lock was not lost with its connection.

        Args:
            state: what the error says about the registry.

        Raises:
            RegistryError: it was lost; another process may hold it now.
        """
        from sqlalchemy import text
        from sqlalchemy.exc import SQLAlchemyError

        try:
            mine = self._connection.execute(text(_MINE), {"key": self._key}).scalar()
        except SQLAlchemyError as error:
            raise failed(self._url, error, state) from error
        if not mine:
            raise RegistryError(
                f"the lock in {redacted(self._url)} is not this connection's any more; {state}: {_POOLED}"
            )


@contextmanager
def advisory_lock(url: str, scope: str, wait_seconds: float) -> Iterator[HeldLock]:
    """Hold the database's lock of a scope. The server frees it when the connection of its holder ends.

    Raises:
        RegistryError: the database cannot be used, or another process holds the lock for longer than `wait_seconds`;
            the message names that process.
    """
    from sqlalchemy import text
    from sqlalchemy.exc import SQLAlchemyError

    lock_key = key(scope)
    try:
        connection = engine(url).connect().execution_options(isolation_level="AUTOCOMMIT")
    except SQLAlchemyError as error:
        raise failed(url, error) from error
    try:
        name = f"pid {os.getpid()} on {socket.gethostname()}"[:63]
        connection.execute(text("select set_config('application_name', :name, false)"), {"name": name})
        deadline = time.monotonic() + wait_seconds
        while not connection.execute(text("select pg_try_advisory_lock(:key)"), {"key": lock_key}).scalar():
            if time.monotonic() >= deadline:
                holder = (
                    connection.execute(text(_HOLDER), {"key": lock_key}).scalar() or "a process that has just ended"
                )
                raise RegistryError(
                    f"the lock of {scope or 'the registry'} in {redacted(url)} is held by {holder}; wait for it to "
                    "end, then run again"
                )
            time.sleep(PAUSE_SECONDS)
    except SQLAlchemyError as error:
        connection.invalidate()
        raise failed(url, error) from error
    except RegistryError:
        connection.close()
        raise
    try:
        yield HeldLock(url, connection, lock_key)
    finally:
        connection.invalidate()  # ends the connection, and the lock with it, whatever state it is in
        connection.close()
