"""The retraining policies that a replay compares: each has a name and optional settings."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import ValidationError

from refit.config import DriftParams, nearest
from refit.errors import UserError
from refit.files.yaml_files import read_value

__all__ = ["NAMES", "RetrainingPolicy", "parse", "settings_of"]

NAMES = {
    "never": "the first model stays champion",
    "schedule": "every `drift.retrain_every_days`",
    "drift": "when inputs drift",
    "performance": "when skill is lost",
    "always": "at every step",
    "configured": "as `drift` in params.yaml says",
}
_UNSET = {  # keys of `drift` that cannot be set for a single policy
    "retrain_on": "; the policy's name says what it retrains on",
    "min_effect": "; --set drift.min_effect.KEY=VALUE sets it for all policies",
}
SETTINGS = [key for key in DriftParams.model_fields if key not in _UNSET]
_CAUSES = {"schedule": ("schedule",), "drift": ("input",), "performance": ("performance",)}


@dataclass(frozen=True)
class RetrainingPolicy:
    """When to retrain after the first model: never, always, at given steps, or by the drift decision."""

    name: str
    kind: Literal["never", "always", "given", "decided"]
    drift: DriftParams
    steps: frozenset[int] = frozenset()


def settings_of(policy: RetrainingPolicy, drift: DriftParams, step_days: float) -> dict[str, Any]:
    """The keys of `drift` that make production retrain as a policy does; empty if it already does.

    Args:
        step_days: length of a step of the replay, at each of which `always` trains.

    >>> [policy] = parse("performance:breached=1", DriftParams())
    >>> settings_of(policy, DriftParams(), 7)
    {'retrain_on': ('performance',), 'breached': 1}
    """
    wanted = policy.drift
    if policy.kind == "never":
        wanted = wanted.model_copy(update={"retrain_on": ()})
    if policy.kind == "always":
        budget = max(wanted.monthly_budget, math.ceil(30 / step_days))
        due = {"retrain_on": ("schedule",), "retrain_every_days": step_days, "monthly_budget": budget}
        at_once = {"cooldown_days": min(wanted.cooldown_days, step_days), "min_new_labelled_rows": 1}
        wanted = wanted.model_copy(update={**due, **at_once})
    names = ("retrain_on", *SETTINGS)
    settings = {name: value for name in names if (value := getattr(wanted, name)) != getattr(drift, name)}
    effects = {name: value for name, value in wanted.min_effect if value != getattr(drift.min_effect, name)}
    return settings | ({"min_effect": effects} if effects else {})


def parse(text: str, drift: DriftParams) -> list[RetrainingPolicy]:
    """Parse comma-separated names of policies, each with optional settings of `drift` after colons.

    Raises:
        UserError: a name or setting is unknown, or a value is invalid.

    >>> [policy.name for policy in parse("never, performance:breached=1", DriftParams())]
    ['never', 'performance:breached=1']
    """
    policies = [_parsed(each.strip(), drift) for each in text.split(",") if each.strip()]
    names = [policy.name for policy in policies]
    if not policies:
        raise UserError(f"--policies names none; there are {', '.join(NAMES)}")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(
            f"--policies names {twice[0]} twice; leave one out, or give it other settings: drift:breached=1"
        )
    return policies


def _parsed(text: str, drift: DriftParams) -> RetrainingPolicy:
    name, *settings = text.split(":")
    if name not in NAMES:
        raise UserError(f"policy {name!r} is unknown{nearest(name, NAMES)}; there are {', '.join(NAMES)}")
    if name in ("never", "always"):
        if settings:
            raise UserError(f"policy {name} has no settings; found {':'.join(settings)!r}")
        return RetrainingPolicy(name, "never" if name == "never" else "always", drift)
    changed: dict[str, object] = {"retrain_on": _CAUSES[name]} if name in _CAUSES else {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise UserError(f"policy {text}: {setting!r} gives no value; write {name}:key=value")
        if key not in SETTINGS:
            why = _UNSET.get(key.partition(".")[0], nearest(key, SETTINGS))
            raise UserError(f"policy {text}: {key!r} is no setting of a policy{why}")
        if key in changed:
            raise UserError(f"policy {text}: {key} is set twice; leave one out")
        changed[key] = read_value(value)
    try:
        return RetrainingPolicy(text, "decided", DriftParams.model_validate({**drift.model_dump(), **changed}))
    except ValidationError as error:
        first = error.errors()[0]
        where, said = ".".join(map(str, first["loc"])), str(first["msg"]).removeprefix("Value error, ")
        value_text = f"; found {first['input']!r}" if where else ""
        raise UserError(f"policy {text}: {where or 'drift'}: {said}{value_text}") from None
