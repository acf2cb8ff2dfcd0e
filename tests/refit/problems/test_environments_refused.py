"""What a policy cannot be trained in, or by, is refused in one line."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

from refit.config import parse
from refit.errors import UserError
from refit.learners import make
from refit.problems import episodes
from tasks.train.specs import make_all
from tests.refit.problems.test_reinforcement import CORRIDOR, NAMES, OPTIONS, PARAMS, rows, spec

pytest.importorskip("stable_baselines3", reason="needs the extra [rl]")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("there = abs(self.way) < 1", "there = False"), "has not ended after 100,000 steps; set .*time_limit"),
        (("10.0 * there - self.cost", "float('nan')"), "gave the reward nan; rewards are finite numbers"),
        (("self.np_random.normal(0, self.noise)", "np.random.normal()"), "not the same after reset|breaks gymnasium"),
        (("spaces.Box(-20.0, 20.0, (1,), np.float32)", "spaces.Box(0.0, 1.0, (3,), np.float32)"), "breaks gymnasium's"),
        (("spaces.Discrete(2)", "spaces.MultiDiscrete([2, 2])"), "MultiDiscrete.* are not supported; one choice"),
        (("spaces.Discrete(2)", "spaces.Discrete(2, start=1)"), "begin at 1, let them begin at 0"),
        (("spaces.Discrete(2)", "spaces.Box(-np.inf, np.inf, (1,))"), "have no bounds"),
        (
            ("self.way += -1.0", "self.way += missing"),
            r"failed: NameError.*\(line 30 of corridor.py\)|breaks gymnasium",
        ),
        (("import gymnasium\n", "import gymnasium, nowhere\n"), "cannot be imported: .*nowhere"),
        (("class Corridor", "class Other"), "cannot be imported: corridor.py has no Corridor"),
        (("class Corridor(gymnasium.Env)", "class Corridor(dict)"), "no gymnasium.Env"),
    ],
)
def test_an_environment_that_cannot_be_used_is_refused_in_one_line(change: tuple[str, str], message: str) -> None:
    text = CORRIDOR.read_text()
    assert change[0] in text
    learner = make(spec(options={"environment": NAMES[0]}, sources={"corridor.py": text.replace(*change)}))
    with pytest.raises(UserError, match=message) as error:
        learner.fit(rows(), np.zeros(40), iterations=128)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"environment": "CartPole-v99"}, "environment 'CartPole-v99' cannot be built: .*name gymnasium's id"),
        ({"environment": "no.such:Thing"}, "environment 'no.such:Thing' cannot be imported: No module named 'no'"),
        ({"environment": "CartPole-v1", "params": {"x": 1}}, "cannot be built: TypeError.*'x'"),
        ({"environment": "other.py:Thing"}, "there is no file other.py"),
    ],
)
def test_an_environment_that_cannot_be_made_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make(spec(options=options)).fit(rows(), np.zeros(40))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"learning_rat": 0.1}, r"no argument 'learning_rat' with ppo; did you mean 'learning_rate'\?"),
        ({"buffer_size": 10}, "no argument 'buffer_size' with ppo"),
        ({"device": "cuda"}, "device is not set here, small networks"),
        ({"algorithm": "td3"}, "learner 'policy': input should be 'ppo', 'a2c', 'dqn' or 'sac'; found 'td3'"),
        ({"algorithm": "dqn", "environments": 2}, "dqn plays one episode at a time"),
    ],
)
def test_an_argument_that_is_not_known_is_named_before_anything_is_trained(params: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make(spec(params))


def test_an_algorithm_that_cannot_choose_these_actions_names_those_that_can() -> None:
    with pytest.raises(UserError, match=r"sac chooses numbers, .* takes Discrete.*: use ppo, a2c or dqn"):
        make(spec({"algorithm": "sac", "steps": 100})).fit(rows(), np.zeros(40))


@pytest.mark.parametrize(
    ("problem", "message"),
    [
        (None, r"train: problem.environment: is missing"),
        (
            {"environmen": "CartPole-v1", "environment": "x"},
            "problem.environmen: unknown key; did you mean 'environment'",
        ),
        (
            {"environment": "x", "time_limit": 0},
            "problem.time_limit: input should be greater than or equal to 1; found 0",
        ),
        (
            {"environment": "x", "heuristics": [{"rule": "a.b", "choices": {"s": []}}]},
            r"heuristics\[0\].choices: s has no",
        ),
    ],
)
def test_an_option_of_the_problem_that_is_wrong_is_named(problem: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse(PARAMS | {"train": PARAMS["train"] | {"problem": problem}})
    labelled = {"label": {"source": "episodes", "column": "exit", "delay_hours": 0}}
    binary = {"task": "binary", "metric": "roc_auc", "learners": PARAMS["train"]["learners"], "problem": OPTIONS}
    with pytest.raises(UserError, match="problem: task 'binary' has no options: leave it out"):
        parse(PARAMS | {"train": binary, "featurize": labelled})


@pytest.mark.parametrize(
    ("learner", "message"),
    [
        ({"kind": "sklearn.ensemble.RandomForestClassifier"}, "train.task is 'reinforcement'"),
        ({"kind": "mlp"}, "train.task is 'reinforcement'"),
        ({"kind": "policy", "params": {"algorithm": "ppo"}}, ""),
    ],
)
def test_a_learner_of_another_kind_of_problem_is_refused_in_a_line(learner: dict[str, Any], message: str) -> None:
    params = parse(PARAMS | {"train": PARAMS["train"] | {"learners": [{"name": "it", **learner}]}})
    specs = [spec(learner.get("params", {}), kind=learner["kind"])]
    if not message:
        make_all(specs, params)
        return
    with pytest.raises(UserError, match=message) as error:
        make_all(specs, params)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("library", ["gymnasium", "stable_baselines3"])
def test_without_the_extra_one_line_names_it(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(UserError, match=r"not installed; .* -e '\.\[rl\]'") as error:
        make(spec())
    assert len(str(error.value).splitlines()) == 1


def test_no_seed_of_training_is_one_of_evaluation() -> None:
    judged = {episodes.seed_for(episodes.EVALUATION, seed) for seed in range(2000)}
    trained = {episodes.seed_for(episodes.TRAINING, seed) for seed in range(2000)}
    assert len(judged) == len(trained) == 2000
    assert not judged & trained
