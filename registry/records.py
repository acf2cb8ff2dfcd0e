"""What a project notes outside of the ledger's lines, in the ledger's database: a text by kind and name."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal

from registry.ledger_database import LedgerDatabase
from registry.locking import lock_of
from registry.store import Store

Kind = Literal["answer", "data", "drift", "prediction", "registry"]


@dataclass(frozen=True)
class Records:
    """The records of one model; every machine that shares the ledger sees the same."""

    store: Store
    model: str

    @property
    def location(self) -> str:
        """Where they are, for messages."""
        return self._database.location

    def read(self, kind: Kind) -> dict[str, str]:
        """The texts of a kind by name, in the names' order; empty if there are none.

        Raises:
            RegistryError: the database cannot be used.
        """
        rows = self._database.select(
            "select name, content from records where model = :model and kind = :kind",
            table="records",
            model=self.model,
            kind=kind,
        )
        return {row["name"]: row["content"] for row in sorted(rows, key=lambda row: str(row["name"]))}

    def put(self, kind: Kind, name: str, content: str) -> None:
        """Write a text in place of an earlier one of its name.

        Raises:
            RegistryError: the database cannot be used; nothing was written.
        """
        self._write(kind, name, content, lambda present: True)

    def put_in_place_of(self, kind: Kind, name: str, content: str, *, expected: str | None) -> bool:
        """Write a text only if the one of its name is `expected`, or if there is none and `expected` is None.

        Returns whether it was written.

        Raises:
            RegistryError: the database cannot be used; nothing was written.
        """
        return self._write(kind, name, content, lambda present: present == expected)

    def _write(self, kind: Kind, name: str, content: str, may_replace: Callable[[str | None], bool]) -> bool:
        from sqlalchemy import select

        table = self._database.tables.tables["records"]
        values = {"model": self.model, "kind": kind, "name": name}
        this = [table.c[key] == value for key, value in values.items()]
        with self._database.writing() as connection:
            if not may_replace(connection.execute(select(table.c.content).where(*this)).scalar_one_or_none()):
                return False
            connection.execute(table.delete().where(*this))
            connection.execute(table.insert().values(**values, content=content))
        return True

    def forget(self, kind: Kind, names: Iterable[str]) -> None:
        """Delete texts.

        Raises:
            RegistryError: the database cannot be used; nothing was deleted.
        """
        table = self._database.tables.tables["records"]
        with self._database.writing() as connection:
            for name in names:
                connection.execute(
                    table.delete().where(table.c.model == self.model, table.c.kind == kind, table.c.name == name)
                )

    def lock(self, purpose: str, *, wait_seconds: float) -> AbstractContextManager[Callable[[str], None]]:
        """Hold a lock of this model for a purpose of its own, apart from that of promotions; yields its check.

        Raises:
            RegistryError: another process holds it for longer than `wait_seconds`; the message names that process.
        """
        return lock_of(self.store, f"{self.model}/{purpose}", wait_seconds)

    @property
    def _database(self) -> LedgerDatabase:
        return LedgerDatabase(self.store.ledger_url)
