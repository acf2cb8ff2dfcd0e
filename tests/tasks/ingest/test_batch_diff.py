"""Periods that grow, sources that change, and runs that were killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from quick import quick

from refit.errors import RefitError, UserError
from refit.files.artifacts import read_json
from refit.schemas.manifest import Manifest

Month = Callable[..., str]


def test_a_growing_period_arrives_in_parts_that_hold_only_what_is_new(project: Any, month: Month) -> None:
    project.put("a.csv", month(1, range(1, 32)) + month(2, range(1, 5), header=False))
    project.ingest()
    assert project.stored() == ["2013-01", "2013-02.1"]
    before = project.files()
    project.put("a.csv", month(1, range(1, 32)) + month(2, range(1, 12), header=False))
    project.ingest()
    assert [row["id"] for row in project.batch("2013-02.2")] == list(range(205, 212))
    project.put("a.csv", month(1, range(1, 32)) + month(2, header=False) + month(3, range(1, 3), header=False))
    snapshot = project.ingest()
    assert [batch["name"] for batch in snapshot["batches"]] == ["2013-01", "2013-02.1", "2013-02.2", "2013-02.3"]
    assert sum(batch["rows"] for batch in snapshot["batches"]) == 31 + 28
    assert snapshot["pending"] == {"trips": 2}
    assert {name: project.files()[name] for name in before} == before


def test_stored_digests_are_those_of_every_version_so_that_no_upgrade_calls_a_batch_changed(
    project: Any, month: Month
) -> None:
    project.put("a.csv", month(1, range(1, 3)) + "3,2013-01-03,a,much\n")
    project.as_of("2013-02-01")
    project.ingest()
    batch = read_json(project.path / "data/batches/trips/2013-01.1.json")
    assert batch["content"] == "60f6cebf05626aab6c7e00d1c62e5942"
    assert batch["uncast_content"] == "7d5fd14b324687b24ce7a1e726a801c7"


def test_parts_may_come_as_files_of_their_own(project: Any, month: Month) -> None:
    for days in (range(1, 5), range(5, 9), range(9, 13)):
        project.put(f"{days[0]:02d}.csv", month(1, days))
        project.as_of("2013-02-01")
        project.ingest()
    assert project.stored() == ["2013-01.1", "2013-01.2", "2013-01.3"]
    (project.path / "raw/05.csv").unlink()
    project.put("13.csv", month(1, range(13, 32)))
    snapshot = project.ingest()
    assert [batch["rows"] for batch in snapshot["batches"]] == [4, 4, 4, 19]


def test_a_complete_period_that_no_later_one_follows_may_still_grow(project: Any, month: Month) -> None:
    project.put("a.csv", month(1, range(1, 32)))
    project.ingest()
    assert project.stored() == ["2013-01"]
    project.put("a.csv", month(1, range(1, 32)) + "132,2013-01-31T23:00:00Z,a,1\n")
    project.ingest()
    assert project.stored() == ["2013-01", "2013-01.2"]


def test_a_changed_row_is_an_error_that_shows_both_digests(project: Any, month: Month) -> None:
    text = month(1, range(1, 32)) + month(2, header=False)
    project.put("a.csv", text)
    project.ingest()
    before = project.files()
    project.put("a.csv", text.replace("0107,2013-01-07T12:00:00Z,b,7.5", "0107,2013-01-07T12:00:00Z,b,7.25"))
    said = project.fails(UserError)
    assert "batch trips/2013-01 has changed: recorded 31 rows with digest " in said
    assert "1 changed, 0 new, 1 missing, first raw/a.csv line 8); put the source back or, " in said
    assert "delete data/batches/trips/2013-01* and run again" in said
    digests = [
        word for word in said.replace(",", " ").split() if len(word) == 16 and set(word) <= set("0123456789abcdef")
    ]
    assert len(set(digests)) == 2
    assert project.files() == before
    for path in (project.path / "data/batches/trips").glob("2013-01*"):
        path.unlink()
    project.ingest()
    assert project.batch("2013-01")[6]["cost"] == 7.25
    assert {name for name in before if "2013-02" in name} <= set(project.files())


def test_a_changed_row_in_an_earlier_part_is_an_error(project: Any, month: Month) -> None:
    project.put("a.csv", month(1, range(1, 5)))
    project.as_of("2013-02-01")
    project.ingest()
    project.put("a.csv", month(1, range(1, 9)).replace(",2.5", ",2.75"))
    assert "1 changed, 4 new, 1 missing, first raw/a.csv line 3" in project.fails(UserError)


def test_a_changed_row_is_seen_under_another_file_name_too(project: Any, month: Month) -> None:
    project.put("a.csv", month(1, range(1, 5)))
    project.as_of("2013-02-01")
    project.ingest()
    (project.path / "raw/a.csv").unlink()
    project.put("b.csv", month(1, range(1, 9)).replace(",2.5", ",2.75"))
    assert "1 changed, 4 new, 0 missing, first raw/b.csv line 3" in project.fails(UserError)
    project.put("b.csv", month(1, range(1, 9)))
    project.ingest()
    assert [row["id"] for row in project.batch("2013-01.2")] == [105, 106, 107, 108]


@pytest.mark.parametrize("remembering", [True, False])
def test_exports_that_overlap_hold_their_common_rows_once(project: Any, month: Month, remembering: bool) -> None:
    project.as_of("2013-02-01")
    project.put("a.csv", month(1, range(1, 9)) + "9,2013-01-09,a,much\n")
    project.ingest()
    project.put("b.csv", month(1, range(5, 13)) + "9,2013-01-09,a,much\n")
    if not remembering:
        (project.path / ".refit/ingest.json").unlink()
    snapshot = project.ingest()
    assert [(batch["rows"], batch["uncast"]) for batch in snapshot["batches"]] == [(8, 1), (4, 0)]
    (project.path / "raw/a.csv").unlink()
    project.put("b.csv", month(1, range(5, 13)) + "9,2013-01-09,a,much\n\n")
    assert project.ingest() == snapshot


@pytest.mark.parametrize("lost", [range(5, 6), range(1, 2), range(31, 32)])
def test_a_row_that_vanished_is_an_error(project: Any, month: Month, lost: range) -> None:
    days = [day for day in range(1, 32) if day not in lost]
    text = month(1, range(1, 32)).splitlines(keepends=True)
    before = "1,2012-12-15,a,1\n"
    project.put("a.csv", text[0] + before + "".join(text[1:]))
    project.ingest()
    project.put("a.csv", text[0] + before + "".join(text[day] for day in days))
    assert "0 changed, 0 new, 1 missing" in project.fails(UserError)


def test_a_whole_period_that_vanished_is_an_error(project: Any, month: Month) -> None:
    project.put("a.csv", month(1) + month(2, header=False) + month(3, header=False))
    project.ingest()
    project.put("a.csv", month(1) + month(3, header=False))
    said = project.fails(UserError)
    assert "batch trips/2013-02 has changed: recorded 28 rows" in said
    assert ", now 0 rows with digest " in said


def test_a_table_that_drops_its_oldest_rows_loses_nothing(project: Any, month: Month) -> None:
    text = month(1).splitlines(keepends=True)
    project.put("a.csv", "".join(text) + month(2, header=False) + month(3, header=False))
    snapshot = project.ingest()
    project.put("a.csv", text[0] + "".join(text[10:]) + month(2, header=False) + month(3, header=False))
    assert project.ingest() == snapshot
    project.put("a.csv", month(3) + month(4, range(1, 3), header=False))
    assert project.ingest()["batches"][:2] == snapshot["batches"][:2]


def test_a_late_row_of_a_closed_period_is_an_error(project: Any, month: Month) -> None:
    project.put("a.csv", month(1) + month(2, header=False))
    project.ingest()
    project.put("b.csv", "id,at,kind,cost\n999,2013-01-30T12:00:00Z,a,1\n")
    said = project.fails(UserError)
    assert "0 changed, 1 new, 0 missing" in said
    assert "a period that a later one follows may not grow" in said


def test_a_row_without_a_time_stays_with_the_row_above_it(project: Any, month: Month) -> None:
    project.put("a.csv", month(1, range(1, 32)) + "x,not a time,a,1\n")
    assert [(b["read"], b["uncast"]) for b in project.ingest()["batches"]] == [(32, 1)]
    before = project.files()
    project.put("a.csv", month(1, range(1, 32)) + "x,not a time,a,1\n" + month(2, header=False) + "y,none,a,1\n")
    snapshot = project.ingest()
    assert {name: project.files()[name] for name in before} == before
    assert [(b["name"], b["read"], b["uncast"]) for b in snapshot["batches"]] == [
        ("2013-01", 32, 1),
        ("2013-02", 29, 1),
    ]


def test_rows_that_did_not_cast_come_in_parts_too(project: Any, month: Month) -> None:
    project.as_of("2013-02-01")
    first = month(1, range(1, 8)) + "8,2013-01-08,a,much\n8,2013-01-08,a,much\n"
    project.put("a.csv", first)
    project.ingest()
    project.put("a.csv", first + "9,2013-01-09,a\n9,2013-01-09,a,more\n")
    snapshot = project.ingest()
    assert [(b["read"], b["rows"], b["uncast"]) for b in snapshot["batches"]] == [(9, 7, 2), (2, 0, 2)]
    assert project.batch("2013-01.2") == []
    assert [fault[::3] for fault in project.uncast("2013-01.2")] == [(11, "9,2013-01-09,a"), (12, "more")]


def test_a_period_of_which_only_a_quarantined_row_changed_is_taken_once_more(project: Any, month: Month) -> None:
    project.as_of("2013-02-01")
    first = month(1, range(1, 8)) + "8,2013-01-08,a,much\n"
    project.put("a.csv", first)
    project.ingest()
    project.put("a.csv", first.replace("much", "more"))
    snapshot = project.ingest()
    assert [(b["read"], b["rows"], b["uncast"]) for b in snapshot["batches"]] == [(8, 7, 1), (1, 0, 1)]
    assert [fault[3] for fault in project.uncast("2013-01.2")] == ["more"]
    assert project.ingest() == snapshot


def test_a_closed_period_of_which_only_a_quarantined_row_changed_is_an_error(project: Any, month: Month) -> None:
    text = month(1) + "8,2013-01-08,a,much\n" + month(2, header=False)
    project.put("a.csv", text)
    project.ingest()
    project.put("a.csv", text.replace("much", "more"))
    assert "0 changed, 1 new, 0 missing" in project.fails(UserError)


def test_a_static_table_of_which_only_a_quarantined_row_changed_is_taken_once_more(project: Any, month: Month) -> None:
    project.put("a.csv", month(1, range(1, 32)))
    project.others["prices"] = {**project.source, "event_time": None, "path": "prices.csv"}
    first = "id,at,kind,cost\n1,2013-01-01,a,1\n2,2013-01-02,b,much\n"
    for text in (first, first.replace("much", "more"), first.replace("much", "more")):
        (project.path / "prices.csv").write_text(text)
        project.ingest()
    assert project.stored("prices") == ["v1", "v2"]
    assert [fault[3] for fault in project.uncast("v2", "prices")] == ["more"]


def test_a_row_lost_at_a_files_first_moment_is_an_error(project: Any, month: Month) -> None:
    """The file still reaches back to that moment: another row of it is there."""
    twin = "9,2013-01-01T12:00:00Z,b,2\n"
    project.put("a.csv", month(1, range(1, 32)) + twin)
    project.ingest()
    project.put("a.csv", month(1, range(1, 32)))
    assert "0 changed, 0 new, 1 missing" in project.fails(UserError)


def test_another_declaration_of_the_same_source_is_an_error(project: Any, month: Month) -> None:
    project.put("a.csv", month(1, range(1, 32)))
    project.ingest()
    project.source["nulls"] = ["?"]
    assert "trips/2013-01 was read under another declaration" in project.fails(UserError)
    assert "delete data/batches/trips" in project.fails(UserError)


def test_a_stored_batch_that_was_cut_short_is_a_fault_and_never_read(project: Any, month: Month) -> None:
    project.put("a.csv", month(1, range(1, 32)))
    project.ingest()
    path = project.path / "data/batches/trips/2013-01.parquet"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    assert "2013-01.parquet is missing or is not the" in project.fails(RefitError)
    path.write_bytes(whole[:100] + bytes([whole[100] ^ 1]) + whole[101:])
    project.put("a.csv", month(1, range(1, 32)) + "99,2013-01-29,a,1\n")
    assert "2013-01.parquet has changed: recorded" in project.fails(RefitError)


@pytest.mark.ci
@pytest.mark.parametrize("after", quick(range(5), 2))
def test_a_run_killed_anywhere_is_completed_by_the_next(
    project: Any, month: Month, tmp_path: Path, after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process is killed with SIGKILL at its n-th rename of a file, the moment before that file gets its name."""
    text = month(1) + month(2, header=False) + "9,2013-02-09,a,oops\n"
    project.put("a.csv", text)
    code = (
        "import json, os, signal, sys; from pathlib import Path\n"
        "from tasks import ingest; from refit.runtime.context import Context; from refit.config import Params\n"
        "replace, left = Path.replace, [int(sys.argv[2])]\n"
        "def deadly(self, target):\n"
        "    if left[0] == 0: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    left[0] -= 1\n"
        "    return replace(self, target)\n"
        "Path.replace = deadly\n"
        "ingest.run(Context(Path(sys.argv[1]), Params.model_validate_json(sys.stdin.read())))"
    )
    params = project.context().params.model_dump_json(by_alias=True)
    killed = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path), str(after)], input=params, text=True, check=False, env=os.environ
    )
    assert killed.returncode == -signal.SIGKILL
    assert list(tmp_path.rglob("*.partial"))
    project.ingest()
    interrupted = {name: content for name, (_, content) in project.files().items()}
    other = type(project)(tmp_path / "other")
    other.put("a.csv", text)
    other.ingest()
    assert interrupted == {name: content for name, (_, content) in other.files().items()}


def test_a_file_that_grows_while_it_is_read_is_an_error(
    project: Any, month: Month, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = project.put("a.csv", month(1))
    from tasks.ingest import casting

    add = casting.Caster.add

    def meanwhile(self: Any, file: int, batch: Any) -> int:
        path.write_text(month(1) + "99,2013-01-29,a,1\n")
        return add(self, file, batch)

    monkeypatch.setattr(casting.Caster, "add", meanwhile)
    assert "raw/a.csv changed while it was read" in project.fails(UserError)
    assert project.stored() == []


def test_a_place_that_can_not_be_written_is_a_fault_that_names_it(project: Any, month: Month) -> None:
    project.put("a.csv", month(1))
    (project.path / "data").mkdir()
    (project.path / "data/batches").write_text("a file in the place of the folder: root may write everywhere")
    assert "give this user write access" in project.fails(RefitError)


def test_the_manifest_is_written_last(project: Any, month: Month, monkeypatch: pytest.MonkeyPatch) -> None:
    project.put("a.csv", month(1, range(1, 32)))
    seen: list[list[str]] = []
    write = Manifest.write
    monkeypatch.setattr(
        Manifest,
        "write",
        lambda manifest, path: (seen.append([p.name for p in path.parent.iterdir()]), write(manifest, path)),
    )
    project.ingest()
    assert seen == [["2013-01.parquet"]]


@pytest.mark.slow
def test_a_period_may_come_in_many_files(project: Any) -> None:
    project.zone = "UTC"
    for day in range(1, 32):
        project.put(f"{day:02d}.csv", f"id,at,kind,cost\n{day},2013-01-{day:02d},a,1\n")
    (batch,) = project.ingest()["batches"]
    assert (batch["rows"], len(batch["files"])) == (31, 31)
    assert [row["_row"] for row in project.batch("2013-01")] == [day * 1_000_000_000 + 2 for day in range(31)]
