"""The database in which the ledger lies, with what belongs to it: an SQLite file, or PostgreSQL for many machines."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from registry import postgresql
from registry.secrets import redacted
from registry.sqlite_files import Fault, Row, fault, readable, select_read_only, unusable
from registry.store import RegistryError
from registry.urls import sqlite_path

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine, MetaData

ACCEPTING = '`refit repair --accept-ledger --why "..."` goes on with what is there, on the record'


class LedgerDatabase:
    """Reads and writes the tables of one database. Reading an SQLite file imports nothing heavy, and creates none."""

    def __init__(self, url: str) -> None:
        self.url = url

    @property
    def file(self) -> Path | None:
        """The SQLite file; None for PostgreSQL."""
        return sqlite_path(self.url)

    @property
    def location(self) -> str:
        """The path or redacted URL, for messages."""
        return str(self.file or redacted(self.url))

    def select(self, sql: str, table: str = "ledger", **values: str) -> list[Row]:
        """The rows of a SELECT; none if `table` does not exist yet.

        Raises:
            RegistryError: the database cannot be used.
        """
        if (file := self.file) is not None:
            if problem := unusable(file):
                raise self.refusing(problem)
            if not file.is_file():
                return []
            try:
                return select_read_only(file, sql, values)
            except sqlite3.OperationalError as error:
                if "no such table" in str(error):
                    return []  # the first writer is creating them; a second one would interfere
                # otherwise a journal left by a kill, which a writer must roll back
            except sqlite3.DatabaseError as error:
                raise self._unusable(error) from error
        from sqlalchemy import text

        try:
            if self.file is None and table not in _tables_of(postgresql.engine(self.url)):
                return []  # reading creates nothing
            with self._engine.connect() as connection:
                return [dict(row) for row in connection.execute(text(sql), values).mappings()]
        except Exception as error:
            raise self._unusable(error, "nothing was read") from error

    def now(self) -> datetime | None:
        """The time by PostgreSQL's clock, which is the same for all machines; None for an SQLite file.

        Raises:
            RegistryError: the database cannot be used.
        """
        if self.file is not None:
            return None
        from sqlalchemy import text

        try:
            with postgresql.engine(self.url).connect() as connection:
                moment: datetime = connection.execute(text("select now()")).scalar_one()
        except Exception as error:
            raise self._unusable(error, "nothing was read") from error
        return moment.astimezone(UTC)

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that no other writer's overlaps: what is read in it decides what is written.

        Raises:
            RegistryError: the database cannot be used; nothing was written.
        """
        from sqlalchemy.exc import SQLAlchemyError

        try:
            with self._engine.begin() as connection:
                # a lock of the transaction, not of the table: inserting and reading are all the rights that it needs
                connection.exec_driver_sql(
                    "begin immediate" if self.file else f"select pg_advisory_xact_lock({postgresql.key('/writing')})"
                )
                yield connection
        except SQLAlchemyError as error:
            raise self._unusable(error) from error

    @cached_property
    def tables(self) -> MetaData:
        """Every table: `ledger` (append-only), `pending`, `identity` and `records`."""
        from sqlalchemy import DDL, Column, Integer, MetaData, Table, Text, event

        metadata = MetaData()
        ledger = Table(
            "ledger",
            metadata,
            Column("id", Integer, primary_key=True),
            Column("key", Text, nullable=False, unique=True),
            *(Column(name, Text, nullable=False) for name in ("at", "who", "trigger", "action", "model", "to_version")),
            *(Column(name, Text, nullable=True) for name in ("from_version", "anchor", "digest")),
            *(Column(name, Text, nullable=False) for name in ("reasons", "digests")),
        )
        Table("identity", metadata, Column("name", Text, primary_key=True))
        Table("pending", metadata, Column("model", Text, primary_key=True), Column("entry", Text, nullable=False))
        Table(
            "records",
            metadata,
            *(Column(name, Text, primary_key=True) for name in ("model", "kind", "name")),
            Column("content", Text, nullable=False),
        )
        for verb in ("update", "delete"):
            forbid = DDL(  # type: ignore[no-untyped-call]
                f"create trigger ledger_no_{verb} before {verb} on ledger "
                f"begin select raise(abort, 'the ledger is append-only'); end"
            )
            event.listen(ledger, "after_create", forbid.execute_if(dialect="sqlite"))
        for statement in (
            "create function ledger_is_append_only() returns trigger language plpgsql as $$ "
            "begin raise exception 'the ledger is append-only'; end $$",
            "create trigger ledger_append_only before update or delete or truncate on ledger "
            "for each statement execute function ledger_is_append_only()",
        ):
            forbid = DDL(statement)  # type: ignore[no-untyped-call]
            event.listen(ledger, "after_create", forbid.execute_if(dialect="postgresql"))
        return metadata

    def refusing(self, problem: Fault) -> RegistryError:
        """The one-line error for a file that cannot be used."""
        instead = f"; where there is none, move the file away, and {ACCEPTING}" if problem.damaged else ""
        return RegistryError(f"the ledger {self.location} cannot be used: {problem}{instead}")

    @cached_property
    def _engine(self) -> Engine:
        from sqlalchemy import create_engine, event, inspect

        if (file := self.file) is None:
            engine = postgresql.engine(self.url)
            if not self.tables.tables.keys() <= _tables_of(engine):
                lock = postgresql.advisory_lock(self.url, "/tables", wait_seconds=60)  # no project has this name
                with lock, engine.begin() as connection:
                    connection.exec_driver_sql(f"create schema if not exists {postgresql.SCHEMA}")
                    self.tables.create_all(connection)
            return engine
        file.parent.mkdir(parents=True, exist_ok=True)
        engine = create_engine(self.url)
        event.listen(engine, "connect", lambda connection, _: setattr(connection, "text_factory", readable))
        self.tables.create_all(engine)
        if "digest" not in {column["name"] for column in inspect(engine).get_columns("ledger")}:  # older
            with engine.begin() as connection:
                connection.exec_driver_sql("alter table ledger add column digest text")
        return engine

    def _unusable(self, error: Exception, state: str = "nothing moves without it") -> RegistryError:
        if (file := self.file) is None:
            return error if isinstance(error, RegistryError) else postgresql.failed(self.url, error, state)
        return self.refusing(fault(file, error))


def _tables_of(engine: Engine) -> set[str]:
    """The tables that a PostgreSQL database has, even if this user may not read them."""
    from sqlalchemy import inspect

    return set(inspect(engine).get_table_names(postgresql.SCHEMA))
