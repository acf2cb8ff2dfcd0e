"""Where a version comes from and where a batch went, both ways; and why a version is champion, in words."""

from __future__ import annotations

from typing import Any

import pytest
from snapshots import batch_of, write_snapshot

from refit.errors import UserError
from tasks import register
from tasks.register import lineage

pytestmark = pytest.mark.usefixtures("same_process")  # that a fresh process is asked is tested separately

BATCH: dict[str, Any] = {"source": "rows", "name": "2013-11", "sha256": "ab" * 32, "rows": 200, "files": ["rows.csv"]}


def with_batch(project: Any) -> None:
    write_snapshot(project.folder, [batch_of(**BATCH)])


@pytest.mark.ci
def test_a_version_names_its_batches_and_a_batch_its_versions(project: Any) -> None:
    project.registered(0)
    project.judged(1)
    with_batch(project)
    register.run(project.context)
    told = lineage.lineage(project.context, "2")
    assert [batch.to_json() for batch in told.batches] == [BATCH]
    assert (told.learner, told.seen_until) == ("logistic", "2013-12-17T00:00:00Z")
    found = lineage.made_from(project.context, "ababab")
    assert [(each.version, each.batches) for each in found] == [("2", ("rows 2013-11",))]
    by_snapshot = lineage.made_from(project.context, str(told.snapshot))
    assert [each.version for each in by_snapshot] == ["2"]


@pytest.mark.ci
def test_why_a_version_is_or_is_not_champion_is_said_in_words(project: Any) -> None:
    project.registered(0)
    project.registered(1)
    project.registered(2, promote=False)
    register.rollback(project.context, why="version 2 fails on Mondays")
    first, second, third = (" ".join(lineage.explain(project.context, number)) for number in "123")
    assert first.endswith("It is the champion now.")
    assert "was promoted" in first
    assert "was put back in place of version 2 (version 2 fails on Mondays" in first
    assert "It was the champion and was rolled back; refit promote 2 makes it champion again. Version 1 is." in second
    assert "version 3 was refused" in third
    assert third.endswith("It is not the champion. Version 1 is.")


def test_a_version_or_a_digest_that_nobody_knows_is_one_clear_line(project: Any) -> None:
    project.registered(0)
    with pytest.raises(UserError, match="toy has no version '7'; `refit history`"):
        lineage.explain(project.context, "7")
    with pytest.raises(UserError, match="no version of toy was made from data with a digest that begins with ffffff"):
        lineage.made_from(project.context, "ffffff")
    with pytest.raises(UserError, match="at least 6 characters"):
        lineage.made_from(project.context, "ff")
