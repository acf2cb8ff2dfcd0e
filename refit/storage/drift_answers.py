"""Which drift the retrainings of a model have answered, for every checkout that shares its registry."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from pydantic import ValidationError

from refit.errors import RefitError
from refit.files.artifacts import STATE
from refit.runtime.context import Context
from refit.runtime.registry_store import opened
from refit.schemas.answered_drift import Answer, read_answers, write_answers
from registry.ledger_database import LedgerDatabase
from registry.records import Records
from registry.store import Store

ANSWERS = STATE / "answered.json"  # where an older Refit recorded them, in each checkout
_NEWEST = "newest"


@dataclass(frozen=True)
class Recorded:
    """An answer, where it is recorded, and whether another checkout, with newer rows, may have recorded it.

    `now` is the time by the clock that all these checkouts share; None if there is none.
    """

    answer: Answer
    place: str
    shared: bool = False
    now: datetime | None = None


def newest(context: Context) -> Recorded | None:
    """The answer for the latest window; None if no drift was answered yet.

    Raises:
        RefitError: the record cannot be read.
    """
    with opened(context) as store:
        records = _records(context, store)
        if text := records.read("answer").get(_NEWEST):
            shared = bool(store.ledger_uri) or store.home != context.path(STATE).absolute()
            now = LedgerDatabase(store.ledger_url).now()
            return Recorded(_parsed(text, records), f"the record in {records.location}", shared, now)
    older = read_answers(context.path(ANSWERS)).get(context.params.project.name)
    return None if older is None else Recorded(older, str(ANSWERS))


def record(context: Context, answer: Answer, check: Callable[[str], None]) -> None:
    """Record an answer in place of an earlier one.

    Args:
        check: that no other checkout may answer drift meanwhile.

    Raises:
        RefitError: one may.
    """
    with opened(context) as store:
        check("the drift counts as not answered, though its retraining has ended")
        _records(context, store).put("answer", _NEWEST, json.dumps(answer.to_json()))


def forget(context: Context) -> None:
    """Delete the record of the model, wherever it is."""
    model, path = context.params.project.name, context.path(ANSWERS)
    if model in (answers := read_answers(path)):
        write_answers(path, {name: each for name, each in answers.items() if name != model})
    with opened(context) as store:
        records = _records(context, store)
        records.forget("answer", records.read("answer"))


def move(context: Context, source: Records, target: Records) -> None:
    """Copy the record into `target`, which has none yet."""
    if target.read("answer"):
        return
    older = read_answers(context.path(ANSWERS)).get(source.model)
    text = source.read("answer").get(_NEWEST) or (json.dumps(older.to_json()) if older else None)
    if text is not None:
        target.put("answer", _NEWEST, text)


def _parsed(text: str, records: Records) -> Answer:
    try:
        return Answer.model_validate_json(text)
    except ValidationError:
        raise RefitError(
            f"the record of answered drift in {records.location} was changed since a retraining wrote it; delete it "
            f"(records, kind answer, model {records.model}): the newest drift may be answered once more"
        ) from None


def _records(context: Context, store: Store) -> Records:
    return Records(store, context.params.project.name)
