"""The append-only record of every promotion, refusal and rollback, and of the one move that may be under way."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

from registry.secrets import redacted
from registry.store import RegistryError, Store

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine, MetaData

Action = Literal["promote", "refuse", "overrule", "rollback", "restore"]
MOVES: tuple[Action, ...] = ("promote", "overrule", "rollback", "restore")
_MOVED = f"action in {MOVES}"


@dataclass(frozen=True)
class Entry:
    """One line: what was done with which version, by whom and why. `key` is unique: the same deed is told once."""

    key: str
    at: str
    who: str
    trigger: str
    action: Action
    model: str
    from_version: str | None
    to_version: str
    reasons: tuple[str, ...]
    anchor: str | None = None  # the anchor once this line is written
    digests: Mapping[str, str | None] = field(default_factory=dict)


class Ledger:
    """The ledger at an SQLAlchemy URL. Reading imports nothing heavy where it is an SQLite file."""

    def __init__(self, url: str) -> None:
        self.url = url

    @classmethod
    def beside(cls, store: Store) -> Ledger:
        """The ledger of a store: an SQLite file in its home."""
        return cls(f"sqlite:///{store.home / 'ledger.db'}")

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
        """The line that says who is in charge: the newest promotion, overruling, rollback or restoration."""
        rows = self._select(
            f"select * from ledger where model = :model and {_MOVED} order by id desc limit 1",
            model=model,
        )
        return _entry(rows[0]) if rows else None

    def was_in_charge(self, model: str, version: str) -> bool:
        """Whether a version took charge, or was found in charge when another one did."""
        return bool(
            self._select(
                f"select id from ledger where model = :model and {_MOVED}"
                " and :version in (to_version, from_version) limit 1",
                model=model,
                version=version,
            )
        )

    def taken_out(self, model: str, version: str) -> Entry | None:
        """The line with which a person put another version in this one's place: a rollback, or an overruling."""
        rows = self._select(
            "select * from ledger where model = :model and from_version = :version"
            " and action in ('overrule', 'rollback') order by id desc limit 1",
            model=model,
            version=version,
        )
        return _entry(rows[0]) if rows else None

    def restored(self, model: str, version: str) -> Entry | None:
        """The line with which a version that was deleted in MLflow was registered again, under another number."""
        rows = self._select(
            "select * from ledger where model = :model and from_version = :version and action = 'restore'"
            " order by id desc limit 1",
            model=model,
            version=version,
        )
        return _entry(rows[0]) if rows else None

    def pending(self, model: str) -> Entry | None:
        """The move that was begun and not finished: its writer was killed, or is at work."""
        rows = self._select("select entry from pending where model = :model", model=model)
        return _parse(json.loads(rows[0]["entry"])) if rows else None

    def append(self, entry: Entry) -> None:
        """Write a line, unless one with its key stands there already."""
        with self._writing() as connection:
            self._insert(connection, entry)

    def begin(self, entry: Entry) -> None:
        """Say that a move starts, so that whoever finds it cut off can finish it."""
        pending = self._tables.tables["pending"]
        with self._writing() as connection:
            connection.execute(pending.delete().where(pending.c.model == entry.model))
            connection.execute(pending.insert().values(model=entry.model, entry=json.dumps(asdict(entry))))

    def finish(self, entry: Entry) -> None:
        """Write the line of a move that was begun and is done, and forget that it was under way: both or neither."""
        with self._writing() as connection:
            self._insert(connection, entry)
            self._forget(connection, entry.model)

    def _forget(self, connection: Connection, model: str) -> None:
        pending = self._tables.tables["pending"]
        connection.execute(pending.delete().where(pending.c.model == model))

    def _insert(self, connection: Connection, entry: Entry) -> None:
        from sqlalchemy import select

        ledger = self._tables.tables["ledger"]
        if connection.execute(select(ledger.c.id).where(ledger.c.key == entry.key)).first() is None:
            values = asdict(entry) | {"reasons": json.dumps(entry.reasons), "digests": json.dumps(dict(entry.digests))}
            connection.execute(ledger.insert().values(values))

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        from sqlalchemy.exc import SQLAlchemyError

        try:
            with self._engine.begin() as connection:
                yield connection
        except SQLAlchemyError as error:
            raise self._unusable(error) from error

    @cached_property
    def _engine(self) -> Engine:
        from sqlalchemy import create_engine

        if file := self._file:
            file.parent.mkdir(parents=True, exist_ok=True)
        engine = create_engine(self.url)
        self._tables.create_all(engine)
        return engine

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
            *(Column(name, Text, nullable=True) for name in ("from_version", "anchor")),
            *(Column(name, Text, nullable=False) for name in ("reasons", "digests")),
        )
        Table("pending", metadata, Column("model", Text, primary_key=True), Column("entry", Text, nullable=False))
        for verb in ("update", "delete"):
            forbid = DDL(  # type: ignore[no-untyped-call]
                f"create trigger ledger_no_{verb} before {verb} on ledger "
                f"begin select raise(abort, 'the ledger is append-only'); end"
            )
            event.listen(ledger, "after_create", forbid.execute_if(dialect="sqlite"))
        return metadata

    @property
    def _file(self) -> Path | None:
        return Path(self.url.removeprefix("sqlite:///")) if self.url.startswith("sqlite:///") else None

    def _select(self, sql: str, **values: str) -> list[dict[str, Any]]:
        if (file := self._file) is not None:
            if not file.is_file():
                return []
            try:
                return select_read_only(file, sql, values)
            except sqlite3.OperationalError as error:
                if "no such table" in str(error):
                    return []  # its first writer is just making them; two makers would get in each other's way
                # else a journal that a kill left behind, which a writer must roll back
            except sqlite3.DatabaseError as error:
                raise self._unusable(error) from error
        from sqlalchemy import text

        try:
            with self._engine.connect() as connection:
                return [dict(row) for row in connection.execute(text(sql), values).mappings()]
        except Exception as error:
            raise self._unusable(error) from error

    def _unusable(self, error: Exception) -> RegistryError:
        first = redacted(str(error).splitlines()[0])
        if (file := self._file) is None:
            return RegistryError(f"the ledger at {redacted(self.url)} failed: {first}; check that it is reachable")
        return RegistryError(
            f"the ledger {file} cannot be used: {first}; restore the file, or move it away: a new one is begun, and "
            "who is in charge stays as it is"
        )


def select_read_only(file: Path, sql: str, values: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows of one SELECT on an SQLite file that is not written to, not even to roll back a journal.

    Raises:
        sqlite3.OperationalError: the file needs a writer first, or has other tables.
    """
    connection = sqlite3.connect(f"file:{quote(str(file))}?mode=ro", uri=True, timeout=30)
    try:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute(sql, values)]
    finally:
        connection.close()


def _entry(row: Mapping[str, Any]) -> Entry:
    values = {name: row[name] for name in Entry.__dataclass_fields__}
    return _parse(values | {"reasons": json.loads(row["reasons"]), "digests": json.loads(row["digests"])})


def _parse(values: Mapping[str, Any]) -> Entry:
    return Entry(**{**values, "reasons": tuple(values["reasons"])})
