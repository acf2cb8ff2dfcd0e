"""Records in a team's database what only the files of this checkout say, since an older Refit wrote them."""

from __future__ import annotations

from refit.files.artifacts import STATE, atomic
from refit.runtime.context import Context
from refit.runtime.registry_store import opened, store_of
from refit.storage import drift_answers, drift_decisions, prediction_log
from registry import versions
from registry.records import Records

ADOPTED = STATE / "adopted"  # says which database has what this checkout knew


def adopt(context: Context) -> None:
    """Add answered drift, decisions on drift and predictions to those of all machines, once for each checkout.

    Nothing happens where no machine shares the ledger's database. The caller holds the project's lock.

    Raises:
        RefitError: a file cannot be read, or the database cannot be written.
    """
    if store_of(context.project, context.params).ledger_uri is None:  # known without opening the registry
        return
    with opened(context) as store:
        if not store.exists:
            return
        records, done = Records(store, context.params.project.name), context.path(ADOPTED)
        said = f"{records.model} in {records.location}\n"
        if done.is_file() and done.read_text(errors="replace") == said:
            return
        drift_answers.move(context, records, records)
        drift_decisions.copy_files(context, records)
        if any(context.path(prediction_log.LOG).glob("day=*")):
            context.progress("copying the prediction log")
            every = versions.tagged_by_client(store, records.model, {})
            prediction_log.adopt(context, {each.version: each.tags.get("refit.model_digest", "") for each in every})
    with atomic(done) as scratch:
        scratch.write_text(said)
