"""A stored opponent of policies is played only if the problem's options, whose code is trusted, name it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from refit import learners
from refit.config import parse
from refit.errors import RefitError, UserError
from refit.learners.baseline import Baseline
from refit.learners.contract import Spec
from refit.problems import problem_of
from tasks.train.specs import make_all

pytest.importorskip("gymnasium", reason="needs the extra [rl]")
EPISODES = pa.table({"seed": [1, 2]})
OPTIONS = {"environment": "CartPole-v1", "seed": "seed"}


def stored(folder: Path, opponent: str, sources: dict[str, str]) -> Path:
    """A baseline that plays an opponent, as somebody may have written it into the artifact store."""
    spec = Spec("opponent", "baseline", ("seed",), metric="mean_return", task="reinforcement", options=OPTIONS)
    baseline = Baseline(spec)
    baseline._naive = {"opponent": opponent, "arguments": {}, "earned": {}, "scene": ["seed"]}
    object.__setattr__(spec, "sources", sources)
    folder.mkdir()
    baseline.save(folder)
    return folder


def test_code_that_is_not_trusted_is_refused_before_training() -> None:
    named = ("corridor.py:Corridor",)
    learners_of = [{"name": "opponent", "kind": "baseline"}, {"name": "ppo", "kind": "policy"}]
    params = parse(
        {
            "project": {"name": "demo"},
            "ingest": {
                "sources": {"rows": {"kind": "files", "path": "*", "columns": {"seed": "integer"}, "key": ["seed"]}}
            },
            "featurize": {"label": {"source": "rows"}},
            "train": {"task": "reinforcement", "problem": {"environment": named[0]}, "learners": learners_of},
            "evaluate": {"gate": {"max_loss": 1.0, "min_gain_over_baseline": 0.5}},
        }
    )
    code = {"corridor.py": "raise AssertionError('it ran')"}
    common = {"metric": "mean_return", "task": "reinforcement", "options": {"environment": named[0]}, "sources": code}
    specs = [Spec(each["name"], each["kind"], ("seed",), **common) for each in learners_of]  # type: ignore[arg-type]
    with pytest.raises(
        UserError, match=r"2 learners are wrong(.|\n)*have to be named: registry\.trusted_types: \['corridor"
    ):
        make_all(specs, params)
    assert "they have to be named" in str(Baseline(specs[0]).unsafe_reason())
    make_all([replace(spec, trusted_types=named) for spec in specs], params)


def test_an_opponent_that_the_options_do_not_name_is_not_run(tmp_path: Path) -> None:
    assert learners.load(stored(tmp_path / "random", "random", {})).predict(EPISODES).shape == (2,)
    loaded = learners.load(stored(tmp_path / "imported", "os:getcwd", {}))
    with pytest.raises(RefitError, match=r"opponent 'os:getcwd' is none of train\.problem\.heuristics"):
        loaded.predict(EPISODES)


def test_a_file_that_the_options_do_not_name_is_not_run(tmp_path: Path) -> None:
    code = {"x.py": f"open({str(tmp_path / 'ran')!r}, 'w')\ndef f(seen): return 0\n"}
    folder = stored(tmp_path / "file", "x.py:f", code)
    with pytest.raises(RefitError, match=r"opponent 'x\.py:f' is none of train\.problem\.heuristics"):
        learners.load(folder).predict(EPISODES)
    assert not (tmp_path / "ran").exists()
    assert problem_of("reinforcement", (), OPTIONS, code).sources == {}
