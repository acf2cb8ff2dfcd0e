"""The same promises against a real MLflow server, where nothing can be read from a file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from servers import mlflow_server

from refit import learners
from refit.config import RetentionParams
from refit.models import incumbent
from refit.operations import retention
from registry import versions
from registry.client import client
from registry.versions import Registered
from tasks import register

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("same_process")]


@pytest.fixture
def server(tmp_path: Path, empty_registry: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    (tmp_path / "mlflow.db").write_bytes(empty_registry.read_bytes())
    with mlflow_server(f"sqlite:///{tmp_path / 'mlflow.db'}", str(tmp_path / "a")) as url:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", url)
        yield url


def test_register_promote_and_fetch_work_on_a_server_and_write_nothing_to_standard_output(
    server: str, project: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    assert project.store.uri == server
    project.registered(0)
    project.registered(1)
    register.run(project.context)
    assert project.aliases == {"challenger": "2", "champion": "2", "previous": "1"}
    assert project.told == [("promote", None, "1"), ("promote", "1", "2")]
    assert register.needs_rerun(project.context) is None
    assert learners.load(incumbent.fetch_model(project.context, "1")).spec.name == "logistic"
    assert versions.version(project.store, "toy", "9") is None
    assert versions.registered(project.store, "none") == Registered()
    assert len(versions.tagged(project.store, "toy", "refit.test", comparand_test_digest(project))) == 2
    assert capfd.readouterr().out == ""


def test_a_deleted_champion_comes_back_and_old_versions_go_on_a_server(server: str, project: Any) -> None:
    for seed in range(4):
        project.registered(seed)
    client(project.store).delete_model_version("toy", "4")
    assert register.repair(project.context).endswith("champion again as version 5")
    few = project.context.params.model_copy(update={"retention": RetentionParams(versions=1)})
    plan = retention.collect(replace(project.context, params=few), delete=True)
    assert plan.stay == {"1": "anchor", "3": "previous", "5": "challenger, champion"}
    assert plan.bytes > 1000
    assert [each.version for each in versions.tagged_by_client(project.store, "toy", {})] == ["1", "3", "5"]
    assert retention.collect(replace(project.context, params=few)).items == ()
    register.rollback(project.context)
    assert project.aliases["champion"] == "3"


def comparand_test_digest(project: Any) -> str:
    found = versions.version(project.store, "toy", "1")
    assert found is not None
    return found.tags["refit.test"]
