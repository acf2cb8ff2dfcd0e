"""What MLflow shows of a training while it trains."""

from __future__ import annotations

import sqlite3
import sys
from dataclasses import replace
from typing import Any

import pytest

from refit.learners.networks.surroundings import EpochReport, surroundings
from refit.models.live_logging import epochs_logged
from registry import tracking
from registry.client import client
from registry.processes import process_identity


def report(epoch: int, learner: str = "network") -> None:
    """Report an epoch, as a fit does."""
    on_epoch = surroundings.get().on_epoch
    assert on_epoch is not None
    on_epoch(EpochReport(learner, 0, epoch, 9, 1 / epoch, 0.01, 2.5, training=0.9, validation=0.8))


def live_run(project: Any) -> Any:
    mlflow = client(project.store)
    (experiment,) = [each for each in mlflow.search_experiments() if each.name == "toy"]
    (run,) = mlflow.search_runs([experiment.experiment_id], "tags.`refit.role` = 'live'")
    return run


def test_each_epoch_is_in_mlflow_while_the_training_runs(project: Any) -> None:
    mlflow = client(project.store)
    with epochs_logged(project.context, "c0ffee", every_seconds=0):
        report(1)
        run = live_run(project)
        assert run.info.status == "RUNNING"
        assert run.data.tags["refit.candidate"] == "c0ffee"
        assert run.data.metrics["network 1/validation"] == 0.8
        report(2)
        report(1)  # of the next fit
    history = mlflow.get_metric_history(run.info.run_id, "network 1/loss")
    assert [(point.step, point.value) for point in history] == [(1, 1.0), (2, 0.5)]
    assert "network 2/loss" in live_run(project).data.metrics
    assert live_run(project).info.status == "FINISHED"


def test_the_use_of_the_machine_is_logged_as_system_metrics_with_the_epochs(project: Any) -> None:
    with epochs_logged(project.context, "c0ffee", every_seconds=0):
        report(1)
        sum(range(3_000_000))  # some work between two samples
        report(2)
    run = live_run(project)
    history = client(project.store).get_metric_history(run.info.run_id, "system/cpu_utilization_percentage")
    assert [point.step for point in history] == [1, 2, 3]
    assert history[1].value > 0
    assert 0 < run.data.metrics["system/system_memory_usage_percentage"] <= 100
    assert run.data.metrics["system/system_memory_usage_megabytes"] > 10


def test_without_psutil_epochs_are_logged_alone(project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow.system_metrics.metrics.cpu_monitor", None)
    with epochs_logged(project.context, "c0ffee", every_seconds=0):
        report(1)
    metrics = live_run(project).data.metrics
    assert "network 1/loss" in metrics
    assert not [name for name in metrics if name.startswith("system/")]


def test_a_training_that_fails_ends_its_run_and_a_short_one_has_none(project: Any) -> None:
    with epochs_logged(project.context, "short"):
        report(1)
    with pytest.raises(KeyboardInterrupt), epochs_logged(project.context, "long", every_seconds=0):
        report(1)
        raise KeyboardInterrupt
    assert live_run(project).info.status == "FAILED"
    assert surroundings.get().on_epoch is None


@pytest.mark.parametrize(
    ("process", "hours", "status"),
    [
        (None, 0, "RUNNING"),
        ("{namespace}.{pid}.1", 0, "KILLED"),
        ("1.7.1", 23, "RUNNING"),
        ("1.7.1", 25, "KILLED"),
        ("", 0, "KILLED"),
    ],
    ids=["running", "a later process has its number", "in another container", "a day ago", "by an older Refit"],
)
def test_only_a_run_whose_process_has_ended_is_ended_by_another_checkout(
    project: Any, process: str | None, hours: int, status: str
) -> None:
    experiment = tracking.ensure_experiment(project.store, "toy")
    run_id = tracking.start_run(project.store, experiment, "toy", {})
    mlflow = client(project.store)
    if process is not None:
        namespace, pid, _ = str(process_identity()).split(".")
        mlflow.set_tag(run_id, "refit.process", process.format(namespace=namespace, pid=pid))
    with sqlite3.connect(project.store.database) as database:
        database.execute("update runs set start_time = start_time - ?", (hours * 3_600_000,))
    tracking.end_abandoned(project.store, experiment)
    assert mlflow.get_run(run_id).info.status == status


def test_a_training_goes_on_without_a_registry(project: Any) -> None:
    said: list[str] = []
    project.store.database.write_bytes(b"no database")
    context = replace(project.context, progress=lambda what, *_: said.append(what))
    with epochs_logged(context, "c0ffee", every_seconds=0):
        report(1)
        report(2)
    (warning,) = said
    assert warning.startswith("warning: MLflow does not show the epochs live: ")
