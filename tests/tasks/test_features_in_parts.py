"""Features that several processes compute in parts are those of one, byte for byte, even if one of them is killed."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from refit.errors import UserError
from refit.files import artifacts
from refit.runtime.context import Context
from refit.runtime.workers import StartWorkers, Workers, processes
from tasks import featurize
from tasks.featurize import parts
from tests.tasks.orders import FEATURES, Project, projects_in


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setattr(parts, "FEWEST", 100)
    return projects_in(tmp_path)


def files(context: Context) -> dict[str, str]:
    featurize.run(context)
    assert not [*context.path("data").glob(".*")], "the parts are gone"
    return {path.name: artifacts.sha256(path) for path in context.path(artifacts.FEATURES).iterdir()}


def killing_one(folder: Path, killed: list[int]) -> StartWorkers:
    """Processes of which one is killed while it writes its part."""

    @contextmanager
    def start(count: int) -> Iterator[Workers]:
        with processes(count) as workers:

            def kill() -> None:
                while not [*folder.rglob(".part-*.partial")]:
                    time.sleep(0.001)
                process = next(iter(workers._pool._processes.values()))  # type: ignore[attr-defined]
                process.kill()
                killed.append(process.pid)

            threading.Thread(target=kill, daemon=True).start()
            yield workers

    return start


@pytest.mark.ci
@pytest.mark.parametrize("workers", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_several_workers_write_the_files_of_one(project: Project, workers: int) -> None:
    alone = files(project(name="alone"))
    assert files(project({"resources.workers": workers}, name="several")) == alone


@pytest.mark.slow
def test_a_killed_worker_changes_nothing(project: Project) -> None:
    alone = files(project(name="alone"))
    several, killed = project({"resources.workers": 2}, name="several"), list[int]()
    assert files(replace(several, workers=killing_one(several.project, killed))) == alone
    assert len(killed) == 1


@pytest.mark.slow
def test_a_part_that_fails_is_the_error_of_the_stage(project: Project) -> None:
    broken = FEATURES.replace('sql="year(event_time) - born"', "sql=\"case when id = 7 then error('odd') end\"")
    with pytest.raises(UserError, match="odd"):
        files(project({"resources.workers": 2}, features=broken))
