"""A disk that fills up while batches are written and judged: clear words, no scraps, and on it goes with room."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from refit.errors import machine_fault
from refit.files.artifacts import VALIDATED, read_json
from tasks import validate


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """No file may become larger: writing more fails as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def put(project: Any) -> None:
    lines = [
        f"{number},2013-01-{number % 31 + 1:02d} 10:00,{'ab'[number % 2]},{number * 7919 % 1000}\n"
        for number in range(900)
    ]
    project.zone = "UTC"
    project.put("a.csv", "id,at,kind,cost\n" + "".join(lines) + "x,2013-01-05,a,1\n")


@pytest.mark.parametrize("size", [0, 600, 4000])
def test_a_full_disk_while_ingesting_is_said_and_leaves_nothing_half_written(project: Any, size: int) -> None:
    put(project)
    with pytest.raises(Exception) as caught, room_for(size):
        project.ingest()
    assert machine_fault(caught.value) is not None, repr(caught.value)
    assert not list(project.path.rglob("*.partial"))
    assert project.stored() == []
    assert project.ingest()["batches"][0]["read"] == 901


def test_a_full_disk_while_validating_is_said_and_leaves_nothing_half_written(project: Any) -> None:
    put(project)
    project.ingest()
    with pytest.raises(Exception) as caught, room_for(500):
        validate.run(project.context())
    assert machine_fault(caught.value) is not None, repr(caught.value)
    assert not list(project.path.rglob("*.partial"))
    assert not (project.path / VALIDATED).exists()
    validate.run(project.context())
    assert read_json(project.path / VALIDATED)["rows"]["accepted"] == 900
