"""What docs/learners.md tells people to write can be written."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from refit.learners import Spec, make
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
