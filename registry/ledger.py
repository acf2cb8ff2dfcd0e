"""Append-only record of every promotion, refusal and rollback, and of the move in progress, if any."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Literal

from registry import chain
from registry.chain import Chain
from registry.ledger_database import ACCEPTING, LedgerDatabase
from registry.sqlite_files import Fault, Row
from registry.store import RegistryError, Store

if TYPE_CHECKING:
    from sqlalchemy import Connection

Action = Literal["promote", "refuse", "overrule", "rollback", "restore", "accept", "await", "lift"]
NO_VERSION = "0"  # `to_version` of a line about a model without a champion
MOVES: tuple[Action, ...] = ("promote", "overrule", "rollback", "restore")
_MOVED = f"action in {MOVES}"
_LINES = "select * from ledger order by id"
_WRITTEN = set[str]()  # keys of the lines that this process wrote


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
    """The ledger in an SQLite file or a PostgreSQL database."""

    def __init__(self, url: str) -> None:
        self.url, self.database = url, LedgerDatabase(url)

    @classmethod
    def of(cls, store: Store) -> Ledger:
        """The ledger of a store."""
        return cls(store.ledger_url)

    @property
    def location(self) -> str:
        """The path or redacted URL of the ledger, for messages."""
        return self.database.location

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
        """Whether a version was ever made champion by a line, or was the champion when the ledger began.

        That its alias was set outside of Refit, and another version replaced it, makes no former champion of it.
        """
        entries = self.entries(model)
        return any(each.action in MOVES and each.to_version == version for each in entries) or any(
            each.from_version == version for each in entries[:1]
        )

    def newest_number(self, model: str) -> int:
        """The largest version number in the ledger; 0 if it has no lines.

        A number is never reused, even after the whole model was deleted and MLflow counts from 1 again.
        """
        return max((int(each.to_version) for each in self.entries(model) if each.to_version.isdecimal()), default=0)

    def demotion(self, model: str, version: str, digest: str | None = None) -> Entry | None:
        """The line with which a person replaced this version, or the same model under another number, by another one.

        None if the model was made champion again since, under any number: a person may do so. Accepting a version whose
        alias was set outside of Refit replaces none.

        Args:
            digest: of the version's model; None if it has none.
        """
        same, line = {version}, None  # numbers of the same model
        for each in self.entries(model):
            if digest is not None and each.digests.get("model_digest") == digest:
                same.add(each.to_version)
            if each.action in ("overrule", "rollback") and each.from_version in same:
                line = each
            if each.action in MOVES and each.to_version in same:
                line = None
        return line

    def rolled_back(self, model: str, version: str) -> Entry | None:
        """The rollback that replaced a version; None if there was none, or it was made champion again since."""
        about = (each for each in reversed(self.entries(model)) if version in (each.from_version, each.to_version))
        last = next((each for each in about if each.action in MOVES), None)
        return last if last and last.action == "rollback" and last.to_version != version else None

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
        rows = self.database.select("select entry from pending where model = :model", model=model)
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
        return tuple(row["model"] for row in self.database.select("select distinct model from ledger order by model"))

    def examine(self, notes: Mapping[str, str] | None = None) -> Chain:
        """Check that no line was changed; `notes` holds the heads that the registry stores by model."""
        return chain.examine(self._select(_LINES), notes)

    def broken(self, problem: str) -> RegistryError:
        """The error that refuses every move while the ledger is changed or damaged."""
        return RegistryError(
            f"the ledger {self.location} is broken: {problem}; no alias moves on its word: restore the "
            f"{'file' if self.database.file else 'database'} from a copy, or {ACCEPTING}"
        )

    def append(self, entry: Entry, note: Note = lambda head: None) -> str | None:
        """Write a line, unless one with its key exists already. Returns the head of the chain.

        Args:
            note: called with the note to store, before the line is committed.

        Raises:
            RegistryError: an earlier line was changed; nothing was added.
        """
        with self._writing(entry) as connection:
            return self._insert(connection, entry, note)

    def identity(self) -> str:
        """The random name of this ledger, which it gets now if it has none; a clone's ledger has another name."""
        identity = self.database.tables.tables["identity"]
        with self.database.writing() as connection:
            if (row := connection.execute(identity.select()).first()) is None:
                name = secrets.token_hex(8)
                connection.execute(identity.insert().values(name=name))
                return name
            return str(row.name)

    def name(self) -> str | None:
        """The random name of this ledger; None if nothing was written to it yet."""
        return next((row["name"] for row in self.database.select("select name from identity")), None)

    def begin(self, entry: Entry) -> None:
        """Note that a move starts, so that another process can finish it if it is interrupted.

        Raises:
            RegistryError: another move of the model is going on, or was cut off.
        """
        pending = self.database.tables.tables["pending"]
        with self.database.writing() as connection:
            if connection.execute(pending.select().where(pending.c.model == entry.model)).first():
                raise RegistryError(
                    f"another move of {entry.model} is going on or was cut off; nothing moved: run again"
                )
            note = json.dumps(asdict(entry) | {"digest": _note_digest(entry)})
            connection.execute(pending.insert().values(model=entry.model, entry=note))

    def finish(self, entry: Entry, note: Note = lambda head: None) -> str | None:
        """Write a line and delete the pending note of its model's move, in one transaction; otherwise as `append`.

        The line is that of the completed move, or an `accept` line, which adopts all earlier lines as they are.
        """
        pending = self.database.tables.tables["pending"]
        with self._writing(entry) as connection:
            head = self._insert(connection, entry, note)
            connection.execute(pending.delete().where(pending.c.model == entry.model))
            return head

    @contextmanager
    def _writing(self, entry: Entry) -> Iterator[Connection]:
        """A transaction that writes a line; one that fails has written none, though another process may do so later."""
        try:
            with self.database.writing() as connection:
                yield connection
        except BaseException:
            _WRITTEN.discard(entry.key)
            raise

    def _insert(self, connection: Connection, entry: Entry, note: Note) -> str | None:
        rows = self._lines(connection)
        chained = chain.examine(rows)
        if entry.action != chain.ACCEPT and chained.problem:
            raise self.broken(chained.problem)
        if any(row["key"] == entry.key for row in rows):
            return chained.head
        values = asdict(entry) | {"reasons": json.dumps(entry.reasons), "digests": json.dumps(dict(entry.digests))}
        line = {"id": rows[-1]["id"] + 1 if rows else 1, **values}
        digest = chain.next_digest(rows, line)
        connection.execute(self.database.tables.tables["ledger"].insert().values(line | {"digest": digest}))
        _WRITTEN.add(entry.key)
        head = chain.head_of([line | {"digest": digest}])
        note(chain.about_to_follow(chain.head_of(rows), head))
        return head

    def _select(self, sql: str, **values: str) -> list[Row]:
        return self._with_all_fields(self.database.select(sql, **values))

    def _lines(self, connection: Connection) -> Sequence[Row]:
        from sqlalchemy import text

        return self._with_all_fields([dict(row) for row in connection.execute(text(_LINES)).mappings()])

    def _with_all_fields(self, rows: list[Row]) -> list[Row]:
        missing = sorted(_FIELDS - rows[0].keys()) if rows else []
        if missing:
            what = f"it is damaged (its lines have no {', '.join(missing)})"
            raise self.database.refusing(Fault(what, "restore the file from a copy", damaged=True))
        return rows


def written_here(line: Entry) -> bool:
    """Whether this process wrote a line: who else writes one announces it."""
    return line.key in _WRITTEN


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
