"""A project's registry: which one it is, and its faults as one-line errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from refit.errors import RefitError
from registry import relocation
from registry.ledger_database import LedgerDatabase
from registry.store import RegistryError, Store, faults, locate

if TYPE_CHECKING:
    from refit.config import Params
    from refit.runtime.context import Context


def store_of(project: Path, params: Params) -> Store:
    """The project's registry: from the environment, the params, or SQLite in `.refit/`. Opens and creates nothing."""
    try:
        return locate(
            project,
            params.registry.tracking_uri,
            ledger_uri=params.registry.ledger_uri,
            scope=params.project.name,
        )
    except RegistryError as error:
        raise RefitError(str(error)) from None


@contextmanager
def opened(context: Context) -> Iterator[Store]:
    """Open the project's registry for a block in which its faults become one-line RefitErrors.

    If the project was copied or moved, the registry's paths are updated first, with a message.
    """
    store = store_of(context.project, context.params)
    try:
        with faults(store):
            if message := relocation.settle(store):
                context.progress(message)
            yield store
    except RegistryError as error:
        raise RefitError(str(error)) from error


def now(context: Context, store: Store) -> datetime:
    """The time that decides what machines share: by the clock of the ledger's server; by this one's for a file."""
    return LedgerDatabase(store.ledger_url).now() or context.now()
