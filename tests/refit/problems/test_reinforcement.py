"""A policy, whose rows are episodes, goes through all six stages and the gate, and is judged on the same episodes."""

from __future__ import annotations

import csv
import random
import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from driving import drive, states

from flows.session import watching
from refit.cli.learner_check import run_checks
from refit.cli.replays import replay
from refit.errors import RefitError, UserError
from refit.files.artifacts import DECISION, EVALUATION, MODEL_CARD, REPORTS, TRAINING, read_json
from refit.learners import Learner, Spec, load, make
from refit.learners.contract import judged_by
from refit.learners.networks.surroundings import EpochReport, reporting_to
from refit.learners.pyfunc import TableModel
from refit.new_project.project_folder import IGNORED, pipeline
from refit.problems import problem_of
from refit.runtime import dvc_runner
from tasks import score
from tasks.drift import watch
from tasks.score import reasons

pytest.importorskip("stable_baselines3", reason="needs the extra [rl]")

CORRIDOR = Path(__file__).parent / "corridor/corridor.py"
NAMES = ("corridor.py:Corridor", "corridor.py:always_right", "corridor.py:towards")
OPTIONS: dict[str, Any] = {
    "environment": NAMES[0],
    "time_limit": 30,
    "heuristics": [{"rule": NAMES[1]}, {"rule": NAMES[2], "choices": {"beyond": [4.0, 9.0]}}],
}
QUICK = {"algorithm": "ppo", "steps": 1024, "n_steps": 128, "batch_size": 64, "hidden": [8], "learning_rate": 0.01}
PARAMS: dict[str, Any] = {
    "project": {"name": "corridor", "timezone": "UTC"},
    "ingest": {
        "period": "month",
        "sources": {
            "episodes": {
                "kind": "files",
                "path": "raw/*.csv",
                "columns": {"id": "integer", "at": "timestamp", "seed": "integer", "exit": "number"},
                "key": ["id"],
                "event_time": "at",
            }
        },
    },
    "validate": {},
    "featurize": {"label": {"source": "episodes", "delay_hours": 0}},
    "train": {
        "task": "reinforcement",
        "seed": 0,
        "problem": OPTIONS,
        "learners": [{"name": "opponent", "kind": "baseline"}, {"name": "ppo", "kind": "policy", "params": QUICK}],
    },
    "evaluate": {"gate": {"max_loss": 1.0, "min_gain_over_baseline": 0.5, "min_rows": 30, "cluster": "row"}},
    "register": {"golden_rows": 20},
    "registry": {"trusted_types": list(NAMES)},
    "cost": {},
}


def spec(params: dict[str, Any] = QUICK, options: dict[str, Any] = OPTIONS, **changes: Any) -> Spec:
    named: dict[str, Any] = {
        "name": "it",
        "kind": "policy",
        "features": ("exit", "seed"),
        "params": params,
        "metric": "mean_return",
        "task": "reinforcement",
        "options": options,
        "sources": {"corridor.py": CORRIDOR.read_text()},
        "trusted_types": NAMES,
    }
    return Spec(**(named | changes))


def rows(count: int = 40, start: int = 0) -> pa.Table:
    chance = random.Random(start)
    exits = [float(chance.choice([-6, -4, 4, 6])) for _ in range(count)]
    return pa.table({"seed": list(range(start, start + count)), "exit": exits})


def fitted(params: dict[str, Any] = QUICK, **changes: Any) -> Learner:
    learner = make(spec(params, **changes))
    learner.fit(rows(), np.zeros(40), validation=(rows(20, 100), np.zeros(20)))
    return learner


@pytest.fixture(scope="module")
def policy() -> Learner:
    return fitted()


def project_of(folder: Path, episodes: int = 182) -> Path:
    project = folder / "corridor"
    (project / "raw").mkdir(parents=True)
    chance, start = random.Random(0), datetime(2024, 1, 1, tzinfo=UTC)
    with (project / "raw/episodes.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("id", "at", "seed", "exit"))
        for number in range(episodes):
            day = start + timedelta(hours=12 * number)
            writer.writerow((number, f"{day:%Y-%m-%d %H:%M}", chance.randrange(10**6), chance.choice((-6, -4, 4, 6))))
    shutil.copyfile(CORRIDOR, project / "corridor.py")
    (project / "params.yaml").write_text(yaml.safe_dump(PARAMS))
    (project / "dvc.yaml").write_text(yaml.safe_dump({"stages": pipeline(("raw",))}))
    (project / ".gitignore").write_text(IGNORED)
    dvc_runner.initialise(project)
    return project


@pytest.mark.slow
def test_a_policy_goes_through_all_stages_and_the_gate_and_a_change_of_its_environment_trains_again(
    tmp_path: Path,
) -> None:
    project = project_of(tmp_path)
    summary = drive(project)
    training, decision = read_json(project / TRAINING), read_json(project / DECISION)
    assert training["learner"] == "ppo"
    assert training["refit_rows"] == training["rows"]["train"], "the validation episodes only choose the best check"
    assert training["baseline"]["opponent"] in NAMES[1:]
    assert decision["metric"] == "mean_return"
    assert decision["promote"] is True, decision["reasons"]
    assert summary["model"]["alias"] == "champion"
    evaluation = read_json(project / EVALUATION)
    assert evaluation["importance"]["rows"] == evaluation["explained"]["rows"] == 0
    assert states(drive(project)) == ["unchanged"] * 6
    card = (project / MODEL_CARD).read_text()
    for words in (
        "What the test episodes earned",
        "The same episodes, played by both",
        "it earned more than the opponent in",
        "The opponent, the best on the training and validation episodes, is corridor.py:",
        "Not measured: a prediction is the return of an episode",
        "at its best check there",
    ):
        assert words in " ".join(card.split()), words

    with watching(project, trigger="test", wait_seconds=0) as context:
        report = score.run(context, "2024-03", out=tmp_path / "scores.parquet")
        judged, scored = (pq.read_table(path) for path in (project / REPORTS / "predictions.parquet", report.out))
        seen = dict(zip(map(str, judged["id"].to_pylist()), judged["candidate"].to_pylist(), strict=True))
        assert dict(zip(scored["id"].to_pylist(), scored["prediction"].to_pylist(), strict=True)) == seen
        with pytest.raises(UserError, match="'reinforcement' are not explained: a prediction is the return of"):
            reasons.run(context, "181")

    file = project / "corridor.py"
    file.write_text(file.read_text().replace("cost: float = 1.0", "cost: float = 2.0"))
    again = drive(project)
    assert states(again)[:4] == ["unchanged"] * 3 + ["executed"]
    assert read_json(project / TRAINING)["baseline"]["opponent"] in NAMES[1:]
    compared = {each["against"]: each["estimate"] for each in read_json(project / DECISION)["compared"]}
    assert abs(compared["champion"]) < 2.0, "the champion is judged in the environment of the candidate"
    _require_drift_of_features_alone(project)


def _require_drift_of_features_alone(project: Path) -> None:
    """Windows of later episodes are watched, and their returns are not judged."""
    with (project / "raw/episodes.csv").open("a", newline="") as file:
        for number in range(182, 224):
            day = datetime(2024, 1, 1, tzinfo=UTC) + timedelta(hours=12 * number)
            csv.writer(file).writerow((number, f"{day:%Y-%m-%d %H:%M}", number, 4))
    with watching(project, trigger="test", wait_seconds=0) as context:
        newest = watch.run(context, as_of="2024-04-21").windows[-1]
    assert newest.performance.rows == 14
    assert newest.performance.reasons[0].startswith("not judged: the naive guess of task 'reinforcement'")
    assert "exit" in {each.column for each in newest.inputs.columns}


@pytest.mark.slow
def test_the_same_seed_gives_the_same_policy_and_another_seed_another(policy: Learner) -> None:
    assert fitted().digest() == policy.digest()
    assert fitted(seed=1).digest() != policy.digest()


@pytest.mark.slow
def test_as_many_steps_as_the_best_checkpoint_had_give_the_same_policy(policy: Learner) -> None:
    learner = make(spec())
    report = learner.fit(rows(), np.zeros(40), validation=(rows(20, 100), np.zeros(20)))
    assert report.iterations == max(report.curve, key=lambda each: (each.validation, -each.iteration)).iteration
    direct = make(spec())
    direct.fit(rows(), np.zeros(40), iterations=report.iterations)
    assert direct.digest() == learner.digest() == policy.digest()


@pytest.mark.ci
def test_the_return_of_an_episode_does_not_depend_on_the_rows_around_it(policy: Learner) -> None:
    table = rows(12, 500)
    whole = policy.predict(table)
    assert [policy.predict(table.slice(row, 1))[0] for row in range(12)] == whole.tolist()
    assert policy.predict(table.take(list(range(12))[::-1])).tolist() == whole.tolist()[::-1]


@pytest.mark.ci
def test_a_stored_policy_earns_the_same_bit_for_bit_in_a_fresh_process_without_torch(
    policy: Learner, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    policy.save(folder)
    assert {path.suffix for path in folder.iterdir()} == {".json", ".safetensors"}
    script = (
        "import sys, pyarrow as pa; from pathlib import Path; from refit.learners import load\n"
        f"learner = load(Path({str(folder)!r}), trusted_types={NAMES!r})\n"
        f"print(learner.digest(), [each.hex() for each in learner.predict(pa.table({rows(8, 300).to_pydict()!r}))])\n"
        "print([name for name in ('torch', 'stable_baselines3') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    expected = [each.hex() for each in policy.predict(rows(8, 300))]
    assert done.stdout.splitlines() == [f"{policy.digest()} {expected}", "[]"]


def test_the_code_of_an_environment_is_stored_with_the_policy_and_runs_only_if_it_is_trusted(
    policy: Learner, tmp_path: Path
) -> None:
    (tmp_path / "model").mkdir()
    policy.save(tmp_path / "model")
    with pytest.raises(RefitError, match=r"loading it runs corridor.py:Corridor and .* registry.trusted_types"):
        load(tmp_path / "model", trusted_types=NAMES[1:2])
    assert make(spec(trusted_types=())).unsafe_reason() is not None
    assert fitted(QUICK | {"steps": 128}).unsafe_reason() is None


def test_a_champion_is_judged_in_the_environment_of_the_candidate(policy: Learner) -> None:
    dearer = spec(options=OPTIONS | {"params": {"cost": 2.0}})
    before, table = policy.predict(rows(10)), rows(10)
    assert (judged_by(policy, dearer).predict(table) < before).all()
    np.testing.assert_array_equal(policy.predict(table), before)


@pytest.mark.parametrize(
    ("algorithm", "environment", "arguments"),
    [
        ("a2c", "CartPole-v1", {"n_steps": 8, "environments": 2}),
        ("dqn", "CartPole-v1", {"learning_starts": 50, "train_freq": [4, "step"], "activation": "relu"}),
        pytest.param(
            "sac",
            "Pendulum-v1",
            {"learning_starts": 50, "activation": "relu", "normalize": True},
            marks=pytest.mark.slow,
        ),
        ("ppo", "Pendulum-v1", {"n_steps": 64, "schedule": "linear", "patience": 1}),
    ],
)
def test_every_algorithm_is_stored_and_plays_as_it_was_trained(
    algorithm: str, environment: str, arguments: dict[str, Any], tmp_path: Path
) -> None:
    options = {"environment": environment, "time_limit": 40}
    params = {"algorithm": algorithm, "steps": 200, "hidden": [8, 8], "check_every": 100, **arguments}
    learner = make(spec(params, options, features=("seed",), sources={}))
    seeds = rows(3).select(["seed"])
    report = learner.fit(seeds, np.zeros(3), validation=(seeds, np.zeros(3)))
    assert report.curve
    learner.save(tmp_path)
    again = load(tmp_path)
    assert again.digest() == learner.digest()
    assert again.predict(seeds).tolist() == learner.predict(seeds).tolist()


def test_the_best_arguments_of_the_best_heuristic_are_the_opponent() -> None:
    problem = problem_of("reinforcement", options=OPTIONS, sources={"corridor.py": CORRIDOR.read_text()})
    ahead = pa.table({"seed": [1, 2, 3], "exit": [6.0, 7.0, 8.0]})
    naive = problem.naive(np.zeros(3), "mean_return", ahead)
    assert naive["opponent"] == "corridor.py:always_right"
    assert set(naive["earned"]) == {"random", *NAMES[1:]}
    assert problem.guess_for(ahead, naive).mean() == naive["earned"]["corridor.py:always_right"]
    both = rows(20)
    assert problem_of(
        "reinforcement",
        options=OPTIONS | {"heuristics": [{"rule": NAMES[2], "choices": {"beyond": [9.0, 0.0]}}]},
        sources={"corridor.py": CORRIDOR.read_text()},
    ).naive(np.zeros(20), "mean_return", both)["arguments"] == {"beyond": 0.0}


def test_a_row_without_a_seed_and_a_table_without_seeds_are_refused(policy: Learner) -> None:
    with pytest.raises(UserError, match="2 episodes of 3 have no whole number from 0 on as their seed, such as None"):
        policy.predict(pa.table({"seed": [None, 1.0, 0.5], "exit": [1.0, 2.0, 3.0]}))
    with pytest.raises(UserError, match=r"have no column 'dice' with the seed .*train.problem.seed"):
        make(spec(options=OPTIONS | {"seed": "dice"})).fit(rows(), np.zeros(40))


@pytest.mark.ci
def test_a_time_limit_is_no_end_what_would_follow_counts() -> None:
    """A reward of 1 for ever, cut off after 5 steps: with discount .5 every moment is worth 2, also the last one."""
    import torch
    from stable_baselines3.common.vec_env import DummyVecEnv

    from refit.learners.networks.policies.params import settings_of
    from refit.learners.networks.policies.training import TrainingEpisodes, _algorithm

    source = re.sub(r"there = .*", "there = False", CORRIDOR.read_text()).replace("10.0 * there - self.cost", "1.0")
    problem: Any = problem_of(
        "reinforcement", options={"environment": NAMES[0], "time_limit": 5}, sources={"corridor.py": source}
    )
    settings = settings_of(
        {"gamma": 0.5, "n_steps": 100, "learning_rate": 0.05, "batch_size": 50, "hidden": [4]}, "policy", "x"
    )
    model = _algorithm(DummyVecEnv([lambda: TrainingEpisodes(problem, [], [0], 0)]), settings, 0)
    model.learn(1000)
    with torch.no_grad():
        worth = model.policy.predict_values(torch.tensor([[3.0], [5.0], [8.0]])).numpy()
    assert (np.abs(worth - 2.0) < 0.1).all(), worth


@pytest.mark.slow
def test_a_replay_trains_policies_at_past_moments_and_compares_them_on_the_same_episodes(tmp_path: Path) -> None:
    project = project_of(tmp_path, episodes=366)
    report = replay(
        project,
        start="2024-04-01",
        end="2024-07-01",
        every="month",
        policies="never,always",
        metric=None,
        budget=None,
        random=0,
        overrides={},
        wait_seconds=0,
        quiet=True,
    )
    assert {name: each.score > 3 for name, each in report.policies.items()} == {"never": True, "always": True}


def test_a_policy_gives_the_action_for_an_observation_and_another_model_says_that_it_has_none(policy: Learner) -> None:
    model = TableModel(policy)
    assert model.act(np.array([6.0])) == 1
    assert model.act(np.array([-6.0])) == 0
    with pytest.raises(UserError, match="a model of task 'binary' takes no actions"):
        TableModel(make(Spec("it", "baseline", ("x",)))).act(np.array([6.0]))


@pytest.mark.slow
def test_every_check_is_reported_while_a_policy_trains() -> None:
    reports: list[EpochReport] = []
    with reporting_to(reports.append):
        fitted(QUICK | {"check_every": 256})
    assert [each.epoch for each in reports] == [1, 2, 3, 4]
    assert all(each.loss is None and each.validation is not None for each in reports)


def test_the_check_of_a_learner_says_in_a_line_that_a_policy_plays_episodes(tmp_path: Path) -> None:
    for task in ("binary", "reinforcement"):
        with pytest.raises(UserError, match="policy: it plays episodes, and the rules are tried on a table of rows"):
            run_checks(tmp_path, "policy", QUICK, task)
