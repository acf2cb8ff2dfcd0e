"""Parts of a stage on a Ray cluster of two nodes on this machine, one of which is killed."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flows.ray_workers import on_ray
from refit.errors import RefitError, UserError
from refit.files import artifacts
from refit.learners.fit_workers import fitting_with
from tasks import featurize
from tasks.featurize import parts
from tasks.train.tuning import tune
from tests.refit.learners.test_per_group import fitted
from tests.refit.learners.test_per_group import rows as of_shops
from tests.refit.runtime.test_workers import Task, calls, work
from tests.tasks.orders import projects_in
from tests.tasks.train.test_tuning import rows, search, spec, tried

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("prefect_server")]

pytest.importorskip("prefect_ray", reason="the extra ray is not installed")
NODE: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 100_000_000, "include_dashboard": False}
PATIENT = {"RAY_agent_register_timeout_ms": "300000", "RAY_raylet_start_wait_time_s": "300"}  # on a crowded machine


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        for name, value in PATIENT.items():
            patch.setenv(name, value)
        started = Cluster(initialize_head=True, head_node_args=NODE)
        patch.setenv("RAY_ADDRESS", started.address)
        yield started
        started.shutdown()


@pytest.fixture
def second(cluster: Any) -> Any:
    """The node that is not the head."""
    others = [node for node in cluster.worker_nodes if node.any_processes_alive()]
    return others[0] if others else cluster.add_node(num_cpus=1, object_store_memory=100_000_000)


@pytest.mark.usefixtures("second")
def test_parts_have_results_in_order_and_errors_are_those_of_parts(tmp_path: Path) -> None:
    with on_ray(2) as workers:
        assert workers.map(work, [Task(n, tmp_path) for n in range(4)]) == [0, 10, 20, 30]
        with pytest.raises(UserError, match="part 1 is wrong"):
            workers.map(work, [Task(0, tmp_path), Task(1, tmp_path, fails=True)])


@pytest.mark.usefixtures("second")
def test_once_an_error_is_raised_no_part_goes_on(tmp_path: Path) -> None:
    import ray

    with on_ray(2) as workers:
        with pytest.raises(UserError, match="part 1 is wrong"):
            workers.map(
                work, [Task(0, tmp_path), Task(1, tmp_path, fails=True, seconds=5), Task(2, tmp_path, seconds=600)]
            )
        end = time.monotonic() + 60
        while ray.available_resources().get("CPU") != 2:
            assert time.monotonic() < end, "a processor is still reserved for a part"
            time.sleep(0.1)


@pytest.mark.usefixtures("second")
def test_a_part_whose_process_is_killed_is_computed_again_until_that_is_hopeless(tmp_path: Path) -> None:
    with on_ray(2) as workers:
        assert workers.map(work, [Task(0, tmp_path, killed=1), Task(1, tmp_path)]) == [0, 10]
        with pytest.raises(RefitError, match="Ray gave a part up"):
            workers.map(work, [Task(2, tmp_path, killed=99)])
    assert calls(tmp_path) == {0: 2, 1: 1, 2: 4}


def test_the_parts_of_a_node_that_dies_are_computed_on_another(cluster: Any, second: Any, tmp_path: Path) -> None:
    tasks = [Task(n, tmp_path, seconds=10) for n in range(2)]  # one on each node

    def kill() -> None:
        while len([*tmp_path.iterdir()]) < 2:
            time.sleep(0.05)
        cluster.remove_node(second, allow_graceful=False)

    threading.Thread(target=kill, daemon=True).start()
    with on_ray(2) as workers:
        assert workers.map(work, tasks) == [0, 10]
    assert sorted(calls(tmp_path).values()) == [1, 2]


def test_features_are_those_of_one_process_also_if_a_node_dies(
    cluster: Any, second: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "FEWEST", 100)
    project = projects_in(tmp_path)

    def files(name: str, *, workers: int = 1) -> dict[str, str]:
        context = replace(project({"resources.workers": workers}, name=name), workers=on_ray)
        featurize.run(context)
        return {path.name: artifacts.sha256(path) for path in context.path(artifacts.FEATURES).iterdir()}

    def kill() -> None:
        while not [*tmp_path.rglob(".part-*.partial")]:
            time.sleep(0.005)
        cluster.remove_node(second, allow_graceful=False)

    alone = files("alone")
    assert files("two", workers=2) == alone
    threading.Thread(target=kill, daemon=True).start()
    assert files("four", workers=4) == alone


@pytest.mark.usefixtures("second")
def test_trials_on_ray_find_what_they_find_one_by_one(tmp_path: Path) -> None:
    asked = search(trials=6, parallel=2)
    on_cluster = tune(spec(), asked, rows(200), tmp_path / "ray", start_workers=on_ray)[1]
    alone = tune(spec(), asked, rows(200), tmp_path / "alone", start_workers=lambda count: nullcontext())[1]
    assert tried(on_cluster) == tried(alone)


def test_models_of_groups_fitted_on_ray_are_those_of_one_process_also_if_a_node_dies(
    cluster: Any, second: Any, tmp_path: Path
) -> None:
    alone = fitted(*of_shops()).digest()
    with fitting_with(on_ray, 2, tmp_path, large=10**9):
        assert fitted(*of_shops()).digest() == alone

        def kill() -> None:
            while not [*tmp_path.glob("*/*/model/manifest.json")]:
                time.sleep(0.001)
            cluster.remove_node(second, allow_graceful=False)

        killer = threading.Thread(target=kill, daemon=True)
        killer.start()
        assert fitted(*of_shops()).digest() == alone
        killer.join()
    assert not second.any_processes_alive()
    assert not [*tmp_path.iterdir()]


@pytest.mark.usefixtures("second")
def test_a_run_that_says_ray_computes_its_parts_there(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from prefect import flow, runtime

    from flows.run_options import RunOptions
    from flows.session import session
    from tasks.prefect_tasks import featurize as stage

    monkeypatch.setattr(parts, "FEWEST", 100)
    table = project / artifacts.TABLE
    before = artifacts.sha256(table)

    @flow(persist_result=False)
    def featurize_again() -> None:
        settings = {"resources.workers": 2, "resources.engine": "ray"}
        options = RunOptions(overrides=settings, force=True, flow_run=str(runtime.flow_run.id))
        with session(project, options) as run:
            assert run.context().workers is on_ray
            table.write_bytes(b"")
            stage(run)

    featurize_again()
    assert artifacts.sha256(table) == before


def test_a_cluster_that_does_not_answer_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    for address in ("127.0.0.1:9", "ray://127.0.0.1:9"):
        monkeypatch.setenv("RAY_ADDRESS", address)
        with pytest.raises(RefitError, match=f"Ray does not answer at {address}: .*RAY_ADDRESS"), on_ray(2):
            pass
    monkeypatch.setenv("RAY_ADDRESS", "nowhere")
    with pytest.raises(UserError, match="RAY_ADDRESS is 'nowhere'; it has to be HOST:PORT"), on_ray(2):
        pass
