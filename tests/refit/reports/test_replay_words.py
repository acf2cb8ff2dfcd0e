"""A replay calls a policy the best only where the interval shows it, and says what it recommends."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from flows.deployment_remarks import remarks
from flows.retraining_policy import never_retrains
from refit.cli import doctor
from refit.cli.replays import replay
from refit.config import DriftParams
from refit.errors import UserError
from refit.operations.replay.comparing import Contender, knee
from refit.operations.replay.history import FOLDER
from refit.operations.replay.policies import parse, settings_of
from refit.reports.replay_report import RESULT, render
from refit.reports.replay_words import recommendation, verdict
from refit.runtime import run_file
from refit.schemas.replay_result import Gain, PolicyResult, ReplayResult


def policy(score: float, retrainings: int, behind: tuple[float, float, float] | None) -> PolicyResult:
    value, lower, upper = behind or (0.0, None, None)
    return PolicyResult(
        score=score,
        behind_best=Gain(value=value, lower=lower, upper=upper),
        trainings=retrainings + 1,
        retrainings=retrainings,
        promotions=retrainings,
        refusals=0,
        train_seconds=1.0,
        train_cost=0.0,
        first=None,
        rows=100,
        labelled=100,
        by_window=(),
        steps=(),
    )


def replayed(behind: tuple[float, float, float]) -> ReplayResult:
    policies = {"performance": policy(0.79, 4, behind), "always": policy(0.80, 40, None)}
    return ReplayResult(
        model="demo",
        start="2024-01-01",
        end="2024-06-01",
        every="week",
        metric="roc_auc",
        confidence=0.95,
        currency="EUR",
        policies=policies,
        no_change=None,
        budget=None,
        best="always",
        knee="performance",
        trained_now=0,
        parts={},
        seconds=1.0,
    )


def test_a_policy_did_best_only_where_the_interval_shows_it() -> None:
    assert verdict(replayed((0.01, 0.004, 0.016))) == "always did best: 0.8000 with 40 retrainings."
    unsure = replayed((0.01, -0.002, 0.022))
    assert unsure.not_worse == ("performance",)
    assert (
        verdict(unsure) == "No policy is shown to be the best. always has the best score: 0.8000 with 40 retrainings."
    )


def test_scores_that_all_break_the_budget_are_scores_and_no_good_news() -> None:
    over = replayed((0.01, 0.004, 0.016)).model_copy(update={"best": None, "knee": None, "budget": 0})
    assert verdict(over) == "No policy keeps the budget of 0 retrainings."
    assert '<div class="verdict warn">' in render(over)
    assert '<div class="verdict good">' in render(replayed((0.01, 0.004, 0.016)))
    unscored = {name: each.model_copy(update={"score": None}) for name, each in over.policies.items()}
    assert verdict(over.model_copy(update={"policies": unscored})) == "No policy had a score."


def test_the_recommendation_says_whether_the_policies_really_differ() -> None:
    sure, unsure = replayed((0.01, 0.004, 0.016)), replayed((0.01, -0.002, 0.022))
    assert "0.0100 behind always (0.0040 to 0.0160: which is more than chance)" in recommendation(sure)
    assert "(-0.0020 to 0.0220: not shown to be worse); --recommend writes it" in recommendation(unsure)
    written = sure.model_copy(update={"recommended": {"breached": 1}})
    assert recommendation(written).endswith("params.yaml: drift: breached: 1")
    deeper = sure.model_copy(update={"recommended": {"breached": 1, "min_effect": {"psi": 0.3}}})
    assert recommendation(deeper).endswith("drift: breached: 1, min_effect.psi: 0.3")


def test_the_settings_of_a_policy_make_production_retrain_as_it_did() -> None:
    drift = DriftParams()
    for name in ("never", "schedule", "always", "configured", "performance:breached=1:alpha=0.2"):
        [policy] = parse(name, drift)
        settings = settings_of(policy, drift, 1)
        made = DriftParams.model_validate({**drift.model_dump(), **settings})
        assert (made.retrain_on == ()) == (name == "never")
        if name == "always":
            assert (made.retrain_every_days, made.cooldown_days, made.monthly_budget) == (1, 1, 30)
            assert made.min_new_labelled_rows == 1
        if name == "configured":
            assert settings == {}
    overridden = DriftParams.model_validate({"min_effect": {"psi": 0.3}})
    [policy] = parse("drift", overridden)
    assert settings_of(policy, drift, 1) == {"retrain_on": ("input",), "min_effect": {"psi": 0.3}}


def test_a_policy_beyond_the_budget_is_not_named_next_to_the_best() -> None:
    unsure = replayed((0.01, -0.002, 0.022))
    assert unsure.model_copy(update={"budget": 4}).not_worse == ("performance",)
    assert unsure.model_copy(update={"budget": 3}).not_worse == ()


def test_where_each_retraining_brings_more_than_the_one_before_the_best_policy_is_recommended() -> None:
    convex = {"never": Contender(0.70, 0), "schedule": Contender(0.71, 20), "always": Contender(0.80, 40)}
    assert knee(convex, "roc_auc") == "always"


def _recommended_in(project: Path, *, policies: str = "performance,always", quiet: bool = True) -> ReplayResult:
    """The result of `refit replay --recommend` in a project."""
    return replay(
        project,
        start="2024-01-01",
        end="2024-06-01",
        every="week",
        policies=policies,
        metric=None,
        budget=None,
        random=0,
        recommend=True,
        overrides={},
        wait_seconds=0,
        quiet=quiet,
    )


def test_a_recommendation_that_params_yaml_refuses_loses_no_finished_replay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(Path(__file__).parents[3] / "params.yaml", tmp_path)
    text = (tmp_path / "params.yaml").read_text()
    before = re.sub(r"(?m)^drift:\n(?:[ #].*\n|\n)*", "", text) + "\ndrift: {alpha: 0.05}\n"
    (tmp_path / "params.yaml").write_text(before)
    monkeypatch.setattr("refit.operations.replay.run", lambda *_: replayed((0.01, -0.002, 0.022)))
    with pytest.raises(UserError, match="enter it yourself: "):
        _recommended_in(tmp_path)
    assert ReplayResult.read(tmp_path / FOLDER / RESULT).knee == "performance"
    assert (tmp_path / "params.yaml").read_text() == before


def test_a_recommendation_never_to_retrain_says_so_and_that_no_policy_is_shown_to_be_the_best(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(Path(__file__).parents[3] / "params.yaml", tmp_path)
    policies = {"never": policy(0.79, 0, (0.01, -0.002, 0.022)), "always": policy(0.80, 40, None)}
    result = replayed((0.01, -0.002, 0.022)).model_copy(update={"policies": policies, "knee": "never"})
    monkeypatch.setattr("refit.operations.replay.run", lambda *_: result)
    assert "; with it no model retrains by itself; --recommend writes it" in recommendation(result)
    assert never_retrains(run_file.params_outside(tmp_path)) == ""
    _recommended_in(tmp_path, policies="never,always", quiet=False)
    said = " ".join(capsys.readouterr().out.split())
    assert "Best: no policy is shown to be the best; always has the best score; not shown to be worse: never" in said
    assert "Note: no model retrains by itself: drift.retrain_on is empty, so neither the clock nor drift" in said
    assert never_retrains(run_file.params_outside(tmp_path)) in remarks(tmp_path), "`refit up` says so too"
    assert any(each.what.startswith("no model retrains by itself") for each in doctor.examine(tmp_path))


def test_what_an_environment_recommends_changes_no_other_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(Path(__file__).parents[3] / "params.yaml", tmp_path)
    before = (tmp_path / "params.yaml").read_bytes()
    (tmp_path / "params.staging.yaml").write_text(
        "project: {name: demo_staging}\ndrift:\n  retrain_on: [input]  # as tried\n"
    )
    monkeypatch.setenv("REFIT_ENV", "staging")
    monkeypatch.setattr("refit.operations.replay.run", lambda *_: replayed((0.01, -0.002, 0.022)))
    result = _recommended_in(tmp_path)
    assert (tmp_path / "params.yaml").read_bytes() == before
    assert 'retrain_on: ["performance"]  # as tried' in (tmp_path / "params.staging.yaml").read_text()
    assert "; params.staging.yaml: drift: " in recommendation(result)
    assert run_file.params_of(tmp_path).drift.retrain_on == ("performance",)
