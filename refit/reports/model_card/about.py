"""What the model card says of the model as a whole: who is responsible, what it is for, and which one it is."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from pydantic import JsonValue

from refit.config.evaluate import CardParams
from refit.config.train import ThresholdParams
from refit.errors import RefitError
from refit.plain_text import one_line
from refit.runtime import environments, provenance
from refit.runtime.context import Context
from refit.schemas.evaluation import Evaluation
from refit.schemas.training import Training, short_candidate

NOT_STATED = "not stated"
CHOSEN = {
    "f1": "which gave the best F1 on validation rows; accuracy pays for it",
    "cost": "which cost least on validation rows, by the prices of train.threshold",
    "share": "so that a share of the rows is called positive, as train.threshold asks",
    "fixed": "which train.threshold states",
}


@dataclass(frozen=True)
class About:
    """What a card says beyond the evaluation."""

    name: str
    zone: ZoneInfo
    stated: CardParams
    written: datetime
    release: str
    commit: str | None  # None outside git
    uncommitted: int  # code files that were not committed
    prices: ThresholdParams  # of wrong calls


@dataclass(frozen=True)
class Fact:
    """A line of the card's table about the model; `stated` is False where the params say nothing."""

    name: str
    value: str
    stated: bool = True


def about(context: Context) -> About:
    """What the params, git and the clock say of a model that is evaluated now."""
    params = context.params
    try:
        commit = provenance.commit_hash(context.project)
        uncommitted = len(provenance.uncommitted_code(context.project) or ())
    except RefitError:  # a broken repository stops `register`, which stores the commit; a page can do without
        commit, uncommitted = None, 0
    return About(
        name=params.project.name,
        zone=params.project.zone,
        stated=params.evaluate.card,
        written=context.now(),
        release=provenance.release(),
        commit=commit,
        uncommitted=uncommitted,
        prices=params.train.threshold,
    )


def entries(known: About, evaluation: Evaluation, training: Training) -> Iterator[Fact]:
    """The table about the model."""
    stated = known.stated
    for name, value in (
        ("owner", stated.owner),
        ("intended use", stated.intended_use),
        ("limits", "; ".join(stated.limits)),
        ("licence", stated.licence),
    ):
        yield Fact(name, value or f"{NOT_STATED} (evaluate.card in params.yaml)", bool(value))
    champion = evaluation.incumbent.version
    compared = f"compared with version {champion}" if champion else "the first: there was no champion"
    candidate = short_candidate(training.inputs)
    number = f"its number is in the line of {environments.command('history')} that names candidate {candidate}"
    yield Fact("version", f"candidate {candidate}, {compared}; {number}; MLflow's run is {training.run_name!r}")
    yield Fact("date", f"{known.written.astimezone(known.zone):%Y-%m-%d %H:%M} ({known.zone}), Refit {known.release}")


def hyperparameters(training: Training) -> list[tuple[str, str]]:
    """The arguments of the candidate's learner, as its params set them or a search found them."""
    chosen = training.chosen
    given = [(name, one_line(_text(value))) for name, value in chosen.params.items()]
    iterations = [] if chosen.iterations is None else [("iterations", str(chosen.iterations))]
    return [("kind", chosen.kind), *given, *iterations, ("seed", str(training.seed))]


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)


def commands(known: About, as_of: str, overrides: Mapping[str, JsonValue]) -> str:
    """What to type to train and evaluate the same candidate again, from the project's folder.

    Of a candidate made in an environment, its params too: `refit --env staging run`.
    """
    within = f" --env {name}" if (name := environments.current()) else ""
    settings = "".join(f" --set {shlex.quote(f'{key}={json.dumps(value)}')}" for key, value in overrides.items())
    checkout = [f"git checkout {known.commit}"] if known.commit else []
    return "\n".join([*checkout, f"refit{within} run --as-of {as_of}{settings}"])
