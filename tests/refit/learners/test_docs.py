"""What docs/learners.md tells people to write can be written."""

from __future__ import annotations

import re
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

from refit.learners import Spec, make
from refit.learners.conformance.sample import CATEGORICAL, FEATURES, sample
from refit.learners.imports import DECIDED


def test_every_learner_in_the_docs_can_be_made(root: Path) -> None:
    text = (root / "docs/learners.md").read_text(encoding="utf-8")
    block = re.search(r"```yaml\n(.*?)```", text, re.DOTALL)
    assert block
    learners = yaml.safe_load(block[1])["train"]["learners"]
    assert len(learners) == 5
    for learner in learners:
        make(Spec(learner["name"], learner["kind"], ("a",), params=learner.get("params", {})))
    assert all(f"`{name}`" in text for name in DECIDED)


@pytest.mark.skipif(find_spec("keras") is None, reason="the extra [keras] is not installed")
def test_the_keras_model_in_the_docs_can_be_fitted(root: Path) -> None:
    text = (root / "docs/keras.md").read_text(encoding="utf-8")
    source, params = (re.search(rf"```{language}\n(.*?)```", text, re.DOTALL) for language in ("python", "yaml"))
    assert source
    assert params
    project = yaml.safe_load(params[1])
    (learner,), trusted = project["train"]["learners"], tuple(project["registry"]["trusted_types"])
    rows = sample("multiclass", 200, seed=1)
    spec = Spec("it", learner["kind"], FEATURES, CATEGORICAL, learner["params"], 0, "log_loss", trusted, "multiclass")
    fitted = make(replace(spec, classes=rows.classes, source=source[1]))
    fitted.fit(rows.table, rows.label)
    assert fitted.unsafe_reason() is None
    assert fitted.predict(rows.table).shape == (200, 3)
