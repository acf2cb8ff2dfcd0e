"""The decisions on drift of a model: in the registry's database, and as files of the checkout that made them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from refit.files.artifacts import REPORTS
from refit.runtime.context import Context
from refit.runtime.registry_store import opened
from refit.schemas.drift_decision import DriftDecision
from registry.records import Records
from registry.store import Store

DECISIONS = REPORTS / "drift" / "decisions"


def read_all(context: Context) -> list[DriftDecision]:
    """Every decision, oldest first: those of all checkouts that share the registry, and of an older Refit in this one.

    Raises:
        RefitError: a file in the folder is not a decision.
    """
    with opened(context) as store:
        return [made for _, made in _named(context, store)]


def newest_made(decisions: Sequence[DriftDecision]) -> DriftDecision | None:
    """The decision that was made last, whatever moment it is about; None if there is none.

    Of those that an older Refit made, which did not note when, it is the one of the latest `as_of`.
    """
    made = {each.made_at: each for each in decisions if each.made_at is not None}
    return made[max(made)] if made else decisions[-1] if decisions else None


def store_decision(context: Context, store: Store, made: DriftDecision) -> None:
    """Store a decision next to the others of its `as_of`, because a request for retraining stays valid.

    A decision equal to the last one replaces it, with the time at which it was made again. The caller holds the
    registry's lock.
    """
    records = Records(store, made.model)
    if store.ledger_uri is None:  # those that an older Refit wrote
        copy_files(context, records)
    stem = f"{made.as_of:%Y%m%dT%H%M%SZ}"
    earlier = [(name, each) for name, each in _named(context, store) if name.partition(".")[0] == stem]
    same = bool(earlier) and earlier[-1][1].model_copy(update={"made_at": made.made_at}) == made
    name = earlier[-1][0] if same else f"{stem}{f'.{len(earlier) + 1}' if earlier else ''}"
    records.put("drift", name, json.dumps(made.to_json()))
    made.write(context.path(DECISIONS / f"{name}.json"))


def copy_files(context: Context, records: Records) -> None:
    """Record the decisions in files of the checkout that are not recorded yet."""
    there = records.read("drift")
    for path in context.path(DECISIONS).glob("*.json"):
        if path.stem not in there and (made := DriftDecision.read(path)).model == records.model:
            records.put("drift", path.stem, json.dumps(made.to_json()))


def names(context: Context, store: Store) -> list[str]:
    """The names of all decisions, without reading them."""
    recorded = Records(store, context.params.project.name).read("drift")
    return sorted({*recorded, *(path.stem for path in _files(context, store))})


def _named(context: Context, store: Store) -> list[tuple[str, DriftDecision]]:
    """The decisions by name, ordered by `as_of`, then by the order in which they were made."""
    records = Records(store, context.params.project.name)
    made = {
        name: DriftDecision.from_json(json.loads(text), f"the decision {name} in {records.location}")
        for name, text in records.read("drift").items()
    }
    made |= {path.stem: DriftDecision.read(path) for path in _files(context, store) if path.stem not in made}
    return sorted(made.items(), key=lambda each: (each[0].partition(".")[0], len(each[0]), each[0]))


def _files(context: Context, store: Store) -> list[Path]:
    """The files that count: a checkout whose ledger is elsewhere has seen only its own decisions."""
    return [] if store.ledger_uri else list(context.path(DECISIONS).glob("*.json"))
