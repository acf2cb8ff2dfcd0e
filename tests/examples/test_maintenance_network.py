"""A model that reads sequences, through all stages: its own stored definition computes them when it scores rows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from driving import check_here, drive

from flows.session import session
from refit.files.artifacts import CANDIDATE, FEATURE_SET, MODEL_CARD, PREDICTIONS, REFERENCE, TABLE
from refit.models import verification
from refit.schemas.feature_table import FeatureTable
from tasks import score
from tasks.featurize.profile import read_profile

pytestmark = pytest.mark.ci

TINY = {
    "train.learners.gru.params.epochs": 1,
    "train.learners.gru.params.units": 4,
    "evaluate.gate.min_gain_over_baseline": 0.0,
    "evaluate.permutation_rows": 40,
}
ENGINES = 20  # as few as the gate judges


@pytest.fixture(scope="module")
def life(example: Callable[[str], Path]) -> dict[str, Any]:
    """The example on a small stand-in; then the champion scores the test engines, after the features have changed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verification, "in_fresh_process", check_here)
        patch.setenv("REFIT_SHARED_DATA", "/nowhere")
        project = example("maintenance_network")
        few = (project / "stand_in.py").read_text().replace("ENGINES = 30", f"ENGINES = {ENGINES}")
        (project / "stand_in.py").write_text(few)
        found: dict[str, Any] = {"project": project, "run": drive(project, overrides=TINY)}
        code = project / "features.py"
        code.write_text(code.read_text().replace("last=", "last=1 + 0 * "))
        with session(project) as run:
            found["scores"] = score.run(run.context(), "2008-10-03", as_of="latest")
        return found


@pytest.mark.slow
def test_a_sequence_is_an_array_of_the_training_table(life: dict[str, Any]) -> None:
    features = FeatureTable.read(life["project"] / FEATURE_SET)
    array = features.arrays["readings"]
    assert (array.kind, array.shape) == ("sequence", features.definitions.feature_set.sequences()["readings"])
    lengths = [len(steps) for steps in pq.read_table(life["project"] / TABLE)["readings"].to_pylist()]
    assert max(lengths) == array.shape[0]
    assert min(lengths) == 1


def test_a_sequence_is_profiled_by_its_length_and_its_missing_values(life: dict[str, Any]) -> None:
    columns = read_profile(life["project"] / TABLE.parent).layout.columns
    assert {"readings.length", "readings.missing"} <= set(columns)
    assert "readings" not in columns


def test_embeddings_of_sequences_are_stored_with_the_model_and_with_each_score(life: dict[str, Any]) -> None:
    names = {f"readings.embedding.{index}" for index in range(32)}
    (log,) = (life["project"] / PREDICTIONS).glob("day=2008-10-03/*.parquet")
    for path in (life["project"] / CANDIDATE / REFERENCE, log):
        assert names < set(pq.read_schema(path).names)


def test_the_champion_scores_with_its_own_sequences(life: dict[str, Any]) -> None:
    assert life["run"]["model"]["alias"] == "champion"
    assert "readings" in (life["project"] / MODEL_CARD).read_text()
    judged = pq.read_table(life["project"] / "reports/predictions.parquet")
    scored = pq.read_table(life["scores"].out)
    key = next(name for name in scored.column_names if name in judged.column_names)
    wanted = dict(zip(judged[key].to_pylist(), judged["candidate"].to_pylist(), strict=True))
    found = dict(zip(scored[key].to_pylist(), scored["prediction"].to_pylist(), strict=True))
    assert len(wanted) == ENGINES
    assert {name: found[name] for name in wanted} == wanted
