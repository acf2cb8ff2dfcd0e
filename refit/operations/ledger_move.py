"""Moves what a checkout alone knew of its model to the database that all machines share."""

from __future__ import annotations

from refit.errors import counted
from refit.runtime import registry_store
from refit.runtime.context import Context
from refit.storage import adoption, drift_answers
from registry import champion
from registry.ledger import Ledger
from registry.records import Records


def move_ledger(context: Context) -> str:
    """Copy the checkout's own ledger into the database of `registry.ledger_uri`. Returns a message.

    With it go the drift that was answered, the decisions on drift and the prediction log.

    Raises:
        RefitError: there is nothing to copy, or it cannot be copied; nothing was.
    """
    model = context.params.project.name
    with registry_store.opened(context) as store:

        def copy_records(source: Records, target: Records) -> None:
            drift_answers.move(context, source, target)
            for name, text in source.read("drift").items():
                target.put("drift", name, text)

        lines = champion.move_ledger(store, store.home / "ledger.db", model, copy_records)
        adoption.adopt(context)  # without the registry's lock, for which others wait; if cut off, its next use goes on
        moved = counted(lines, f"line about {model} is", f"lines about {model} are")
        return f"{moved} in the ledger at {Ledger.of(store).location} now"
