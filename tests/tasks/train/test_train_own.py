"""The stage with a learner from a file of the project."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from refit.errors import UserError
from refit.learners import load

KIND = "my_learner.py:ShareOf"


@pytest.fixture
def learner_file(root: Path, project: Any) -> Path:
    """The example of CONTRIBUTING.md, in the project."""
    block = re.search(r"```python\n(.*?)```", (root / "CONTRIBUTING.md").read_text(), re.DOTALL)
    assert block
    path: Path = project.folder / "my_learner.py"
    path.write_text("\n".join(line.removeprefix("   ") for line in block[1].splitlines()) + "\n")
    return path


def test_the_steps_of_the_docs_lead_to_a_candidate_that_keeps_its_code(project: Any, learner_file: Path) -> None:
    own_one = [{"name": "base", "kind": "baseline"}, {"name": "shares", "kind": KIND}]
    said: list[str] = []
    compared = project.run(said, train__learners=own_one)
    assert compared["learner"] == "base"
    warned = next(line for line in said if line.startswith("warning: shares is compared and never chosen"))
    assert said.index(warned) < said.index("fitting base"), "before hours of training"
    assert "registry.trusted_types: ['my_learner.py:ShareOf']" in compared["learners"][1]["not_chosen"]

    said.clear()
    first = project.run(said, train__learners=own_one, registry={"trusted_types": [KIND]})
    assert not any("never chosen" in line for line in said)
    assert first["learner"] == "shares"
    assert (project.candidate / "code/my_learner.py").read_text() == learner_file.read_text()
    assert project.run(train__learners=own_one, registry={"trusted_types": [KIND]})["inputs"] == first["inputs"]

    learner_file.write_text(learner_file.read_text() + "# changed\n")
    assert load(project.candidate, trusted_types=(KIND,)).digest() == first["model_digest"]  # by the code of then
    second = project.run(train__learners=own_one, registry={"trusted_types": [KIND]})
    assert (second["inputs"], second["model_digest"]) != (first["inputs"], first["model_digest"])


def test_a_learner_for_another_task_is_refused_before_anything_is_fitted(project: Any, learner_file: Path) -> None:
    learner_file.write_text(learner_file.read_text().replace('tasks=("binary",)', 'tasks=("regression",)'))
    with pytest.raises(UserError, match=r"declares regression; train.task is 'binary' \(.*train.learners\[0\].kind\)"):
        project.run(train__learners=[{"name": "shares", "kind": KIND}])
