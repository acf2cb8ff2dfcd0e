"""A run that a worker starts is one of its project's prefect.yaml; no request names other code, folders or steps."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from flows import deployments
from flows.deployed_run import CLONE, IMAGE, end_as_not_started, refusal

DECLARED = yaml.safe_load(deployments.prefect_yaml("demo", "UTC"))
CLONED = {"repository": "https://example.org/r.git", "commit": "0" * 40, "project": "."}


def stored(project: Path, **changed: Any) -> Any:
    """The deployment `scheduled` as a server knows it."""
    step = {"prefect.deployments.steps.set_working_directory": {"directory": str(project)}}
    known = {
        "name": "scheduled",
        "entrypoint": "flows.continuous_training:continuous_training",
        "path": None,
        "pull_steps": [step],
        "parameters": {"project": "."},
    }
    return SimpleNamespace(**known | changed)


def test_a_deployment_as_prefect_yaml_declares_it_may_run(tmp_path: Path) -> None:
    assert refusal(stored(tmp_path), tmp_path, DECLARED) is None
    assert refusal(stored(tmp_path, pull_steps=None), tmp_path, DECLARED) is None
    assert refusal(stored(tmp_path, pull_steps=[{IMAGE: {}}]), tmp_path, DECLARED) is None
    assert refusal(stored(tmp_path, pull_steps=[{CLONE: CLONED}]), tmp_path, DECLARED, brought=True) is None
    own = [{"prefect.deployments.steps.git_clone": {"repository": "https://example.org/r.git"}}]
    assert refusal(stored(tmp_path, pull_steps=own), tmp_path, DECLARED | {"pull": own}) is None


@pytest.mark.parametrize(
    "changed",
    [
        {"entrypoint": "os:system"},
        {"entrypoint": "flows.drift_watch:drift_watch"},
        {"entrypoint": "evil.py:flow"},
        {"entrypoint": None},
        {"name": "evil"},
        {"path": "/tmp"},
        {"pull_steps": [{"prefect.deployments.steps.run_shell_script": {"script": "true"}}]},
        {"pull_steps": [{"prefect.deployments.steps.set_working_directory": {"directory": "/tmp"}}]},
        {"pull_steps": [{"prefect.deployments.steps.set_working_directory": {"directory": ["/tmp"]}}]},
        {"pull_steps": [{"prefect.deployments.steps.set_working_directory": None}]},
        {"pull_steps": [{CLONE: CLONED}]},
        {"pull_steps": [{IMAGE: {"requires": "evil"}}]},
        {"pull_steps": [{IMAGE: {}, "prefect.deployments.steps.run_shell_script": {"script": "true"}}]},
        {"pull_steps": [{IMAGE: {}}, {IMAGE: {}}]},
        {"pull_steps": [{}]},
        {"parameters": {"project": "/tmp"}},
    ],
    ids=str,
)
def test_a_deployment_that_was_changed_on_the_server_may_not(tmp_path: Path, changed: dict[str, Any]) -> None:
    assert refusal(stored(tmp_path, **changed), tmp_path, DECLARED)


@pytest.mark.parametrize(
    ("name", "here", "said"),
    [
        ("demo@staging.scheduled", "staging", None),
        ("demo.scheduled", "", None),
        ("scheduled", "staging", None),  # of `refit up`, whose worker has the environment of the command
        ("demo@staging.scheduled", "", r"is in params.yaml alone: start the worker with REFIT_ENV=staging"),
        ("demo@staging.scheduled", "production", r"deploy by `refit --env production deploy`"),
        ("demo.scheduled", "staging", r"start the worker with no REFIT_ENV"),
    ],
)
def test_a_run_has_the_params_of_the_environment_that_was_deployed_or_does_not_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, here: str, said: str | None
) -> None:
    monkeypatch.setenv("REFIT_ENV", here)
    reason = refusal(stored(tmp_path, name=name), tmp_path, DECLARED)
    assert reason is None if said is None else said in (reason or "")


def test_no_step_installs_packages_first(tmp_path: Path) -> None:
    stay = {"prefect.deployments.steps.set_working_directory": {"directory": str(tmp_path), "requires": "evil"}}
    assert refusal(stored(tmp_path, pull_steps=[stay]), tmp_path, DECLARED)
    cloned = {CLONE: {**CLONED, "requires": "evil"}}
    assert refusal(stored(tmp_path, pull_steps=[cloned]), tmp_path, DECLARED, brought=True)


def test_a_run_of_no_deployment_may_not(tmp_path: Path) -> None:
    assert refusal(None, tmp_path, DECLARED) == "it belongs to no deployment"


@pytest.mark.usefixtures("prefect_server")
def test_a_run_that_may_not_start_is_named_by_its_deployment_and_not_at_random() -> None:
    from prefect import flow, get_client

    with get_client(sync_client=True) as client:
        made = client.create_deployment(
            client.create_flow(flow(lambda: None, name="harmless")), name="demo.scheduled", paused=True
        )
        run = client.create_flow_run_from_deployment(made)
        end_as_not_started(run.id, "its data cannot be brought")
        ended = client.read_flow_run(run.id)
        client.delete_deployment(made)
    assert (ended.name, ended.state_name) == ("demo.scheduled not started", "NotStarted")


@pytest.mark.usefixtures("prefect_server")
@pytest.mark.parametrize(
    "variables",
    [{"command": "true"}, {"env": {"PYTHONPATH": "/tmp"}}, {"env.PYTHONPATH": "/tmp"}, {"working_dir": "/tmp"}],
    ids=str,
)
def test_no_request_for_a_run_may_say_its_command_environment_or_folder(
    tmp_path: Path, variables: dict[str, Any]
) -> None:
    import asyncio

    from prefect import flow, get_client
    from prefect.exceptions import PrefectHTTPStatusError
    from prefect.settings import PREFECT_API_URL
    from prefect.workers.process import ProcessJobConfiguration

    deployments.provide(tmp_path, {"PREFECT_API_URL": PREFECT_API_URL.value()})
    with get_client(sync_client=True) as client:
        made = client.create_deployment(
            client.create_flow(flow(lambda: None, name="harmless")), name="harmless", work_pool_name=deployments.POOL
        )
        with pytest.raises(PrefectHTTPStatusError, match="Additional properties are not allowed"):
            client.create_flow_run_from_deployment(made, job_variables=variables)
        template = client.read_work_pool(deployments.POOL).base_job_template
    started = asyncio.run(ProcessJobConfiguration.from_template_and_values(template, variables))
    assert started.command == template["job_configuration"]["command"]
    assert (str(started.working_dir), started.env) == (str(tmp_path), {}), (
        "where a server lets it through, it is ignored"
    )
