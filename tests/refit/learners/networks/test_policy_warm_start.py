"""A policy goes on from a policy: from its layers, in episodes of its own, and never to a worse one."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from quick import quick

from refit.errors import UserError
from refit.learners import Learner, Spec, make, update
from refit.learners.networks.policies.learner import Policy

pytest.importorskip("stable_baselines3", reason="needs the extra [rl]")

QUICK: dict[str, dict[str, Any]] = {
    "ppo": {"n_steps": 64, "batch_size": 32, "learning_rate": 0.01},
    "a2c": {"normalize": True},
    "dqn": {"learning_starts": 20, "buffer_size": 500},
}
NOTHING = {"learning_rate": 1e-12}


def spec(algorithm: str = "ppo", **changes: Any) -> Spec:
    params = {"algorithm": algorithm, "steps": 256, "hidden": [8], **QUICK[algorithm], **changes}
    problem = {"environment": "CartPole-v1", "time_limit": 50}
    kinds = {"metric": "mean_return", "task": "reinforcement", "options": problem}
    return Spec("it", "policy", ("seed",), params=params, **kinds)


def rows(start: int) -> tuple[pa.Table, Any]:
    return pa.table({"seed": random.Random(start).sample(range(10_000), 12)}), np.zeros(12)


def fitted(algorithm: str = "ppo", **changes: Any) -> Learner:
    learner = make(spec(algorithm, **changes))
    learner.fit(*rows(0))
    return learner


def resumed(before: Learner, wanted: Spec, **named: Any) -> Policy:
    after = make(wanted)
    assert isinstance(after, Policy)
    after.report = after.resume(before, *rows(1), **named)  # type: ignore[attr-defined]
    return after


@pytest.mark.parametrize("algorithm", quick(QUICK))
def test_without_learning_it_is_the_policy_that_it_went_on_from(algorithm: str) -> None:
    before = fitted(algorithm)
    assert isinstance(before, Policy)
    after = resumed(before, spec(algorithm, **NOTHING, **({"learning_starts": 10_000} if algorithm == "dqn" else {})))
    for name, array in before._fitted.arrays.items():
        if not name.startswith("observation"):
            np.testing.assert_allclose(after._fitted.arrays[name], array, atol=1e-6)
    if algorithm == "a2c":
        np.testing.assert_allclose(
            after._fitted.arrays["observation.mean"], before._fitted.arrays["observation.mean"], atol=0.3
        )


@pytest.mark.slow
def test_going_on_is_repeatable_and_leaves_the_first_as_it_was() -> None:
    before = fitted()
    digest = before.digest()
    first, again = (resumed(before, spec()) for _ in range(2))
    assert first.digest() == again.digest() != digest == before.digest()
    batches = [rows(2), rows(3)]
    assert update(update(before, batches[:1]), batches[1:]).digest() == update(before, batches).digest()


@pytest.mark.slow
def test_a_policy_that_no_check_betters_stays_as_it_was() -> None:
    before = fitted()
    ruinous = spec(learning_rate=10.0)
    after = resumed(before, ruinous, validation=rows(4))
    curve = after.report.curve  # type: ignore[attr-defined]
    assert curve[0].iteration == 0, "the policy itself is the first check"
    best = max(point.validation for point in curve)
    assert after.predict(rows(4)[0]).mean() == pytest.approx(best)
    assert best >= before.predict(rows(4)[0]).mean()


def test_a_policy_of_another_form_is_refused_in_a_line() -> None:
    with pytest.raises(
        UserError, match=r"with layers of 4 x 8 x 2 \(tanh, choice\), and .* for layers of 4 x 6 x 2 .*warm_start: null"
    ):
        resumed(fitted(), spec(hidden=[6]))
