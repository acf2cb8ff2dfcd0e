"""Append-only record of every promotion, refusal and rollback, and of the move in progress, if any."""

from __future__ import annotations

import json
import secrets
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from registry import chain, postgresql
from registry.chain import Chain
from registry.secrets import redacted
from registry.sqlite_files import Fault, Row, fault, readable, select_read_only, unusable
from registry.store import RegistryError, Store
from registry.urls import sqlite_path

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine, MetaData

Action = Literal["promote", "refuse", "overrule", "rollback", "restore", "accept"]
MOVES: tuple[Action, ...] = ("promote", "overrule", "rollback", "restore")
_MOVED = f"action in {MOVES}"
_LINES = "select * from ledger order by id"
ACCEPTING = '`refit repair --accept-ledger --why "..."` goes on with what is there, on the record'


@dataclass(frozen=True)
class Entry:
    """One line: what was done with which version, by which person and why. `key` is unique: one line per action."""

    key: str
    at: str
    who: str
    trigger: str
    action: Action
    model: str
    from_version: str | None
    to_version: str
    reasons: tuple[str, ...]
    anchor: str | None = None  # the anchor after this line
    digests: Mapping[str, str | None] = field(default_factory=dict)


Note = Callable[[str], None]
_FIELDS = {"id", *Entry.__dataclass_fields__}


class Ledger:
    """The ledger in an SQLite file or a PostgreSQL database. Reading an SQLite file imports nothing heavy."""

    def __init__(self, url: str) -> None:
        self.url = url

    @classmethod
    def of(cls, store: Store) -> Ledger:
        """The ledger of a store."""
        return cls(store.ledger_url)

    @property
    def location(self) -> str:
        """The path or redacted URL of the ledger, for messages."""
        return str(self._file or redacted(self.url))

    def entries(self, model: str) -> list[Entry]:
        """Every line of `model`, oldest first."""
        return [
            _entry(row) for row in self._select("select * from ledger where model = :model order by id", model=model)
        ]

    def find(self, key: str) -> Entry | None:
        """The line with this key."""
        rows = self._select("select * from ledger where key = :key", key=key)
        return _entry(rows[0]) if rows else None

    def last_move(self, model: str) -> Entry | None:
        """The line that names the champion: the newest promotion, overruling, rollback or restoration."""
        rows = self._select(
            f"select * from ledger where model = :model and {_MOVED} order by id desc limit 1",
            model=model,
        )
        return _entry(rows[0]) if rows else None

    def was_champion(self, model: str, version: str) -> bool:
        """Whether a version was ever promoted, or was the champion when another version was promoted."""
        return bool(
            self._select(
                f"select id from ledger where model = :model and {_MOVED}"
                " and :version in (to_version, from_version) limit 1",
                model=model,
                version=version,
            )
        )

    def newest_number(self, model: str) -> int:
        """The largest version number in the ledger; 0 if it has no lines.

        A number is never reused, even after the whole model was deleted and MLflow counts from 1 again.
        """
        return max((int(each.to_version) for each in self.entries(model) if each.to_version.isdecimal()), default=0)

    def demotion(self, model: str, version: str) -> Entry | None:
        """The line with which a person replaced this version by another: a rollback or an overruling."""
        rows = self._select(
            "select * from ledger where model = :model and from_version = :version"
            " and action in ('overrule', 'rollback') order by id desc limit 1",
            model=model,
            version=version,
        )
        return _entry(rows[0]) if rows else None

    def restored(self, model: str, version: str) -> Entry | None:
        """The line with which a version deleted in MLflow was registered again under another number."""
        rows = self._select(
            "select * from ledger where model = :model and from_version = :version and action = 'restore'"
            " order by id desc limit 1",
            model=model,
            version=version,
        )
        return _entry(rows[0]) if rows else None

    def pending(self, model: str) -> Entry | None:
        """The move that was started and not finished: its process was killed, or is still running.

        Raises:
            RegistryError: the note is damaged, or was changed since it was written.
        """
        rows = self._select("select entry from pending where model = :model", model=model)
        if not rows:
            return None
        try:
            note = json.loads(rows[0]["entry"])
            digest = note.pop("digest", None)
            entry = _parse(note)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise self.broken("the note of the move that was cut off is torn") from None
        by_older_refit = digest is None and self.examine().head is None
        if digest != _note_digest(entry) and not by_older_refit:
            raise self.broken("the note of the move that was cut off was changed since it was written")
        return entry

    def models(self) -> tuple[str, ...]:
        """The models in the ledger: projects that share an SQLite file share its ledger."""
        return tuple(row["model"] for row in self._select("select distinct model from ledger order by model"))

    def examine(self, noted: Mapping[str, str] | None = None) -> Chain:
        """Check that no line was changed; `noted` holds the heads that the registry stores by model."""
        return chain.examine(self._select(_LINES), noted)

    def broken(self, problem: str) -> RegistryError:
        """The error that refuses every move while the ledger is changed or damaged."""
        return RegistryError(
            f"the ledger {self.location} is broken: {problem}; no alias moves on its word: restore the "
            f"{'file' if self._file else 'database'} from a copy, or {ACCEPTING}"
        )

    def append(self, entry: Entry, note: Note | None = None) -> str | None:
        """Write a line, unless one with its key exists already. Returns the head of the chain.

        Args:
            note: called with the note to store, before the line is committed.

        Raises:
            RegistryError: an earlier line was changed; nothing was added.
        """
        with self._writing() as connection:
            return self._insert(connection, entry, note)

    def identity(self) -> str:
        """The random name of this ledger, which it gets now if it has none; a clone's ledger has another name."""
        identity = self._tables.tables["identity"]
        with self._writing() as connection:
            if (row := connection.execute(identity.select()).first()) is None:
                name = secrets.token_hex(8)
                connection.execute(identity.insert().values(name=name))
                return name
            return str(row.name)

    def name(self) -> str | None:
        """The random name of this ledger; None if nothing was written to it yet."""
        return next((row["name"] for row in self._select("select name from identity")), None)

    def accept(self, entry: Entry, note: Note | None = None) -> str | None:
        """Write an `accept` line, which adopts all earlier lines in their current state, and drop the pending move."""
        return self.finish(entry, note)

    def begin(self, entry: Entry) -> None:
        """Note that a move starts, so that another process can finish it if it is interrupted.

        Raises:
            RegistryError: another move of the model is going on, or was cut off.
        """
        pending = self._tables.tables["pending"]
        with self._writing() as connection:
            if connection.execute(pending.select().where(pending.c.model == entry.model)).first():
                raise RegistryError(
                    f"another move of {entry.model} is going on or was cut off; nothing moved: run again"
                )
            note = json.dumps(asdict(entry) | {"digest": _note_digest(entry)})
            connection.execute(pending.insert().values(model=entry.model, entry=note))

    def finish(self, entry: Entry, note: Note | None = None) -> str | None:
        """Write the line of a completed move and delete its pending note, in one transaction.

        Returns the head of the chain.
        """
        with self._writing() as connection:
            head = self._insert(connection, entry, note)
            self._forget(connection, entry.model)
            return head

    def _forget(self, connection: Connection, model: str) -> None:
        pending = self._tables.tables["pending"]
        connection.execute(pending.delete().where(pending.c.model == model))

    def _insert(self, connection: Connection, entry: Entry, note: Note | None) -> str | None:
        rows = self._lines(connection)
        chained = chain.examine(rows)
        if entry.action != chain.ACCEPT and chained.problem:
            raise self.broken(chained.problem)
        if any(row["key"] == entry.key for row in rows):
            return chained.head
        values = asdict(entry) | {"reasons": json.dumps(entry.reasons), "digests": json.dumps(dict(entry.digests))}
        line = {"id": rows[-1]["id"] + 1 if rows else 1, **values}
        digest = chain.next_digest(rows, line)
        connection.execute(self._tables.tables["ledger"].insert().values(line | {"digest": digest}))
        head = chain.head_of([line | {"digest": digest}])
        if note is not None:
            note(chain.about_to_follow(chain.head_of(rows), head))
        return head

    def _lines(self, connection: Connection) -> Sequence[Row]:
        from sqlalchemy import text

        return self._with_all_fields([dict(row) for row in connection.execute(text(_LINES)).mappings()])

    def _with_all_fields(self, rows: list[Row]) -> list[Row]:
        missing = sorted(_FIELDS - rows[0].keys()) if rows else []
        if missing:
            what = f"it is damaged (its lines have no {', '.join(missing)})"
            raise self._refusing(Fault(what, "restore the file from a copy", damaged=True))
        return rows

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        from sqlalchemy.exc import SQLAlchemyError

        try:
            with self._engine.begin() as connection:
                # take the write lock now: the lines read here decide what is written
                connection.exec_driver_sql("begin immediate" if self._file else "lock table ledger in exclusive mode")
                yield connection
        except SQLAlchemyError as error:
            raise self._unusable(error) from error

    @cached_property
    def _engine(self) -> Engine:
        from sqlalchemy import create_engine, event, inspect

        if (file := self._file) is None:
            engine = postgresql.engine(self.url)
            if not self._has_tables(engine):
                lock = postgresql.advisory_lock(self.url, "/tables", wait_seconds=60)  # no project has this name
                with lock, engine.begin() as connection:
                    connection.exec_driver_sql(f"create schema if not exists {postgresql.SCHEMA}")
                    self._tables.create_all(connection)
            return engine
        file.parent.mkdir(parents=True, exist_ok=True)
        engine = create_engine(self.url)
        event.listen(engine, "connect", lambda connection, _: setattr(connection, "text_factory", readable))
        self._tables.create_all(engine)
        if "digest" not in {column["name"] for column in inspect(engine).get_columns("ledger")}:  # older
            with engine.begin() as connection:
                connection.exec_driver_sql("alter table ledger add column digest text")
        return engine

    @staticmethod
    def _has_tables(engine: Engine) -> bool:
        """Whether a PostgreSQL database has the ledger's tables, even if this user may not read them."""
        from sqlalchemy import inspect

        return inspect(engine).has_table("ledger", postgresql.SCHEMA)

    @cached_property
    def _tables(self) -> MetaData:
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

    @property
    def _file(self) -> Path | None:
        return sqlite_path(self.url)

    def _select(self, sql: str, **values: str) -> list[Row]:
        if (file := self._file) is not None:
            if problem := unusable(file):
                raise self._refusing(problem)
            if not file.is_file():
                return []
            try:
                rows = select_read_only(file, sql, values)
                return self._with_all_fields(rows) if sql.startswith("select *") else rows
            except sqlite3.OperationalError as error:
                if "no such table" in str(error):
                    return []  # the first writer is creating them; a second one would interfere
                # otherwise a journal left by a kill, which a writer must roll back
            except sqlite3.DatabaseError as error:
                raise self._unusable(error) from error
        from sqlalchemy import text

        try:
            if self._file is None and not self._has_tables(postgresql.engine(self.url)):
                return []  # reading creates nothing
            with self._engine.connect() as connection:
                return [dict(row) for row in connection.execute(text(sql), values).mappings()]
        except Exception as error:
            raise self._unusable(error) from error

    def _unusable(self, error: Exception) -> RegistryError:
        if (file := self._file) is None:
            return error if isinstance(error, RegistryError) else postgresql.failed(self.url, error)
        return self._refusing(fault(file, error))

    def _refusing(self, problem: Fault) -> RegistryError:
        instead = f"; where there is none, move the file away, and {ACCEPTING}" if problem.damaged else ""
        return RegistryError(f"the ledger {self.location} cannot be used: {problem}{instead}")


def _entry(row: Row) -> Entry:
    values = {name: row[name] for name in Entry.__dataclass_fields__}
    try:
        reasons, digests = json.loads(row["reasons"]), json.loads(row["digests"])
        if not isinstance(reasons, list) or not isinstance(digests, dict):
            raise TypeError
        return _parse(values | {"reasons": [str(each) for each in reasons], "digests": digests})
    except (ValueError, TypeError, RecursionError):  # damaged, which the chain reports; people may still read it
        return Entry(**{**values, "reasons": (str(row["reasons"]),), "digests": {}})


def _parse(values: Row) -> Entry:
    return Entry(**{**values, "reasons": tuple(values["reasons"])})


def _note_digest(entry: Entry) -> str:
    """The digest of the pending note of a move."""
    return chain.line_digest(asdict(entry), "pending")
