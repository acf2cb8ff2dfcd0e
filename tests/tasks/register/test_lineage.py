"""Where a version comes from and where a batch went, both ways; and why a version is in charge, in words."""

from __future__ import annotations

from typing import Any

import pytest

from refit.errors import UserError
from refit.files import artifacts
from refit.files.artifacts import write_json
from tasks import register
from tasks.register import lineage

pytestmark = pytest.mark.usefixtures("same_process")  # that a fresh process is asked is tested beside it

BATCH = {"source": "rows", "name": "2013-11", "sha256": "ab" * 32, "rows": 200, "files": ["rows.csv"]}


def with_batch(project: Any) -> None:
    content = {"as_of": "2014-01-01T00:00:00Z", "batches": [BATCH], "pending": {}}
    write_json(project.folder / artifacts.SNAPSHOT, {**content, "digest": artifacts.snapshot_digest(content)})


def test_a_version_names_its_batches_and_a_batch_its_versions(project: Any) -> None:
    project.registered(0)
    project.judged(1)
    with_batch(project)
    register.run(project.context)
    told = lineage.lineage(project.context, "2")
    assert told["batches"] == [BATCH]
    assert (told["learner"], told["seen_until"]) == ("logistic", "2013-12-17T00:00:00Z")
    found = lineage.made_from(project.context, "ababab")
    assert [(each["version"], each["batches"]) for each in found] == [("2", ["rows 2013-11"])]
    by_snapshot = lineage.made_from(project.context, told["snapshot"])
    assert [each["version"] for each in by_snapshot] == ["2"]


def test_why_a_version_is_or_is_not_in_charge_is_said_in_words(project: Any) -> None:
    project.registered(0)
    project.registered(1)
    project.registered(2, promote=False)
    register.rollback(project.context, why="version 2 fails on Mondays")
    first, second, third = (" ".join(lineage.explain(project.context, number)) for number in "123")
    assert first.endswith("It is in charge now.")
    assert "took charge" in first
    assert "was put back in place of version 2 (version 2 fails on Mondays" in first
    assert "It was the one in charge before, and can be put back: refit rollback. Version 1 is." in second
    assert "version 3 was refused" in third
    assert third.endswith("It is not in charge. Version 1 is.")


def test_a_version_or_a_digest_that_nobody_knows_is_one_clear_line(project: Any) -> None:
    project.registered(0)
    with pytest.raises(UserError, match="toy has no version '7'; `refit history`"):
        lineage.explain(project.context, "7")
    with pytest.raises(UserError, match="no version of toy was made from data with a digest that begins with ffffff"):
        lineage.made_from(project.context, "ffffff")
    with pytest.raises(UserError, match="at least 6 characters"):
        lineage.made_from(project.context, "ff")
