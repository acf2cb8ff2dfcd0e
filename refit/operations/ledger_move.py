"""Moves what a checkout alone knew of its model to the database that all machines share."""

from __future__ import annotations

from refit.models import run_logging
from refit.runtime.context import Context
from refit.storage import drift_answers, drift_decisions, prediction_log
from registry import champion, versions
from registry.ledger import Ledger
from registry.records import Records


def move_ledger(context: Context) -> str:
    """Copy the checkout's own ledger into the database of `registry.ledger_uri`. Returns a message.

    With it go the drift that was answered, the decisions on drift and the prediction log.

    Raises:
        RefitError: there is nothing to copy, or it cannot be copied; nothing was.
    """
    model = context.params.project.name
    with run_logging.opened(context) as store:
        every = versions.tagged_by_client(store, model, {}) if store.exists else []
        digests = {each.version: each.tags.get("refit.model_digest", "") for each in every}

        def copy_records(source: Records, target: Records) -> None:
            drift_answers.move(context, source, target)
            for name, text in source.read("drift").items():
                target.put("drift", name, text)
            drift_decisions.copy_files(context, target)
            context.progress("copying the prediction log")
            prediction_log.adopt(context, digests)

        lines = champion.move_ledger(store, store.home / "ledger.db", model, copy_records)
        return f"{lines} lines about {model} are in the ledger at {Ledger.of(store).location} now"
