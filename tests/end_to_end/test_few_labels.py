"""A learner that uses rows without a label, from the data to the champion, and again in every other way to train it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from driving import drive, states, summary_of

from flows.summary_display import summary_rows
from refit.cli.running import reproduce
from refit.files.artifacts import FEATURE_SET, MODEL_CARD, TRAINING, read_json
from refit.operations import cross_validation
from refit.operations.replay.history import history
from refit.operations.replay.policies import RetrainingPolicy
from refit.operations.replay.simulation import Parts, Simulator
from refit.runtime import run_file
from refit.runtime.context import Context
from refit.schemas.feature_table import FeatureTable

LEARNERS = [
    {"name": "base", "kind": "baseline"},
    {
        "name": "sure",
        "kind": "self_training",
        "params": {"kind": "sklearn.linear_model.LogisticRegression", "threshold": 0.8},
    },
]


def few(project: Path) -> None:
    """Let the project use rows without a label, and lose the label of two rows in three."""
    params: dict[str, Any] = yaml.safe_load((project / "params.yaml").read_text())
    params["featurize"]["label"]["use_unlabelled"] = True
    params["train"]["learners"] = LEARNERS
    (source,) = params["ingest"]["sources"].values()
    events = source["events"]
    columns = events[params["featurize"]["label"]["source"]]["columns"]
    name = params["featurize"]["label"]["column"]
    columns[name] = f"case when hash({source['key'][0]}) % 3 = 0 then ({columns[name]}) end"
    (project / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))


@pytest.mark.slow
def test_a_model_of_few_labels_is_the_same_however_it_is_trained(project: Path) -> None:
    few(project)
    summary = summary_of(project)
    told = summary.to_json()
    assert told["chosen"] == "sure"
    features = FeatureTable.read(project / FEATURE_SET)
    kept, labelled = features.labels.unlabelled, features.windows.train.rows + features.windows.validation.rows
    assert kept > labelled, "most rows have no label"
    assert f"{kept:,} rows without a label kept" in dict(summary_rows(summary))["labels"]
    assert f"{kept:,} rows without a label, of training and validation" in (project / MODEL_CARD).read_text()
    assert states(drive(project)) == ["unchanged"] * 6

    as_of, training = features.as_of, read_json(project / TRAINING)
    context = Context(project=project, params=run_file.params_of(project))
    simulation = Simulator(context, history(context, as_of, as_of), [as_of], Parts()).run(
        RetrainingPolicy("never", "never", context.params.drift)
    )
    assert simulation.newest is not None
    assert simulation.newest.record.model_digest == training["model_digest"], "a replay has the same rows"

    version = told["model"]["version"]
    assert [each.what for each in reproduce(project, str(version), wait_seconds=0) if not each.same] == []
    report = cross_validation.run(context)
    assert report.rows < labelled + features.windows.test.rows + 1, "rows without a label are not scored"
    assert {fold.learner for fold in report.folds} == {"sure"}
