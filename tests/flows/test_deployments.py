"""What runs by itself is written once, and asks of the flows only what they take."""

from __future__ import annotations

import time
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows import deployments
from flows.heartbeat import EVENT, heartbeats
from refit.config import override, parse
from refit.errors import UserError
from refit.files.yaml_files import read_yaml

MADE = yaml.safe_load(deployments.prefect_yaml("demo", "Europe/Paris"))["deployments"]


def test_the_reference_project_has_the_file_that_a_new_project_gets(root: Path, finished: Path) -> None:
    project = read_yaml(root / "params.yaml")["project"]
    reference = deployments.prefect_yaml(project["name"], project["timezone"])
    assert (root / "prefect.yaml").read_text() == reference
    assert (finished / "prefect.yaml").read_text() == deployments.prefect_yaml("demo", "UTC")


@pytest.mark.parametrize("deployment", MADE, ids=lambda made: f"{made['entrypoint']}/{made['name']}")
def test_each_deployment_gives_its_flow_parameters_that_it_takes(deployment: dict[str, Any]) -> None:
    module, name = deployment["entrypoint"].split(":")
    taken = set(getattr(import_module(module), name).parameters.properties)
    given = set(deployment["parameters"])
    for trigger in deployment.get("triggers", ()):
        given |= set(trigger["parameters"])
    assert given <= taken
    every_window = module == "flows.batch_scoring"  # the others do at once what a missed run would have done
    strategy = "ENQUEUE" if every_window else "CANCEL_NEW"
    assert deployment["concurrency_limit"] == {"limit": 1, "collision_strategy": strategy}
    if "continuous_training" in module:
        assert deployment["parameters"]["allow_uncommitted"] is False


def test_a_crash_of_the_run_after_a_crash_starts_nothing() -> None:
    (after_crash,) = (made for made in MADE if made["name"] == "after-crash")
    (trigger,) = after_crash["triggers"]
    assert after_crash["name"] not in trigger["match_related"][1]["prefect.resource.name"]


def test_a_project_without_prefect_yaml_is_told_where_one_comes_from(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no prefect\.yaml; `refit init DIR`"):
        deployments.require(tmp_path)


def test_a_silent_run_of_another_teams_flow_on_the_same_server_is_left_alone() -> None:
    declared = {str(entry["entrypoint"]).rpartition(":")[2].replace("_", "-") for entry in MADE}
    for automation in deployments._crash_automations():
        related = automation.trigger.model_dump()["match_related"]
        (names,) = (each["prefect.resource.name"] for each in (related if isinstance(related, list) else [related]))
        assert set(names) == declared, "Prefect's own heartbeat setting is off for most flows: they would all crash"


def test_a_run_whose_data_takes_long_to_pull_is_not_taken_for_a_dead_one() -> None:
    """From `Submitting` until the flow begins, with its heartbeats, no event comes: all of the pull lies there."""
    triggers = [automation.trigger.model_dump() for automation in deployments._crash_automations()]
    waits = {event: each["within"].total_seconds() for each in triggers for event in each["after"]}
    before = {waits[f"prefect.flow-run.{event}"] for event in ("Pending", "Submitting")}
    assert before == {3600}
    assert {waits[f"prefect.flow-run.{event}"] for event in ("Running", "heartbeat")} == {90}


@pytest.mark.ci
@pytest.mark.usefixtures("prefect_server")
def test_a_run_is_heard_of_while_its_project_is_brought_and_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    from prefect import flow, get_client

    @flow(name="drift-watch")
    def watch() -> None:
        """A flow of Refit, by its name."""

    with get_client(sync_client=True) as client:
        deployment = client.create_deployment(client.create_flow(watch), name="elsewhere")
        run = client.create_flow_run_from_deployment(deployment)

        def heard() -> list[dict[str, Any]]:
            wanted = {"event": {"name": [EVENT]}, "resource": {"id": [f"prefect.flow-run.{run.id}"]}}
            found: list[dict[str, Any]] = client.request("POST", "/events/filter", json={"filter": wanted}).json()[
                "events"
            ]
            return found

        monkeypatch.setenv("PREFECT__FLOW_RUN_ID", str(run.id))
        with heartbeats(0.2):
            for _ in range(100):
                if len(heard()) > 2:
                    break
                time.sleep(0.2)
        counted = len(heard())
        time.sleep(1)
        assert 2 < len(heard()) <= counted + 1, "one may have been on its way"
        flows = [each for each in heard()[0]["related"] if each["prefect.resource.role"] == "flow"]
    assert "drift-watch" in {each["prefect.resource.name"] for each in flows}, "or the automation passes it over"


@pytest.mark.usefixtures("prefect_server")
def test_an_automation_that_is_there_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from prefect.client.orchestration import SyncPrefectClient, get_client
    from prefect.settings import PREFECT_API_URL

    def forget(*_: Any) -> None:
        raise AssertionError("an update forgets which runs it is waiting for")

    environment = {"PREFECT_API_URL": PREFECT_API_URL.value()}
    deployments.provide(tmp_path, environment)
    monkeypatch.setattr(SyncPrefectClient, "update_automation", forget)
    deployments.provide(tmp_path, environment)
    with get_client(sync_client=True) as client:
        for automation in deployments._crash_automations():
            assert len(client.read_automations_by_name(automation.name)) == 1


def test_deployments_that_train_more_often_than_the_policy_counts_days_are_named(root: Path, tmp_path: Path) -> None:
    def remark(period: str, **drift: Any) -> str:
        settings = {"ingest.period": period, **{f"drift.{name}": value for name, value in drift.items()}}
        return deployments.trains_by_clock(tmp_path, parse(override(read_yaml(root / "params.yaml"), settings)))

    assert remark("day") == ""
    (tmp_path / "prefect.yaml").write_text(text := deployments.prefect_yaml("demo", "UTC"))
    shown = remark("day")
    assert shown.startswith("continuous-training/scheduled trains whenever a new day of data is complete")
    assert "more often than drift.retrain_every_days (30)" in shown
    assert remark("month") == "", "which is every 30 days"
    assert "more often than drift.retrain_every_days (60)" in remark("month", retrain_every_days=60)
    assert "although retrain_every_days is null" in remark("month", retrain_every_days=None)
    assert remark("day", retrain_on=["performance"]) == "", "then it trains nothing"
    without = text.replace('    schedules: [{cron: "0 6 * * *", timezone: UTC}]\n', "")
    assert without != text
    (tmp_path / "prefect.yaml").write_text(without)
    assert remark("day") == ""


def test_an_environments_model_takes_the_place_of_the_written_one_and_of_no_deployment() -> None:
    of_deployment = {"prefect.resource.role": "deployment", "prefect.resource.name": "shop"}
    trigger = {"match": {"prefect.resource.name": "shop"}, "match_related": [of_deployment], "expect": ["shop"]}
    declared = {"name": "shop", "deployments": [{"name": "shop", "triggers": [{"triggers": [trigger]}]}]}
    (entry,) = deployments.for_model(declared, "shop_staging")["deployments"]
    ours = trigger | {"match": {"prefect.resource.name": "shop_staging"}}
    assert entry == {"name": "shop", "triggers": [{"triggers": [ours]}]}


@pytest.mark.ci
@pytest.mark.usefixtures("prefect_server")
def test_a_schedule_that_was_paused_stays_so_when_it_is_deployed_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from prefect.client.orchestration import SyncPrefectClient, get_client
    from prefect.settings import PREFECT_API_URL

    environment = {"PREFECT_API_URL": PREFECT_API_URL.value()}
    declared = yaml.safe_load(deployments.prefect_yaml("paused", "Europe/Berlin"))
    kept = [each for each in declared["deployments"] if each["name"] in ("scheduled", "daily")]
    content = {**declared, "deployments": [{**each, "name": f"paused.{each['name']}"} for each in kept]}

    def deployed(client: SyncPrefectClient) -> dict[str, Any]:
        every = deployments.every(client.read_deployments)
        return {f"{each.entrypoint} {each.name}": each for each in every if each.name.startswith("paused.")}

    def active(client: SyncPrefectClient) -> list[str]:
        return sorted(name for name, each in deployed(client).items() if each.schedules[0].active)

    with get_client(sync_client=True) as client:
        deployments.provide(tmp_path, environment)
        try:
            deployments.deploy(tmp_path, content, environment, log=tmp_path / "log")
            first = active(client)
            assert len(first) == 3
            one = deployed(client)[first[0]]
            client.update_deployment_schedule(one.id, one.schedules[0].id, active=False)
            deployments.deploy(tmp_path, content, environment, log=tmp_path / "log")
            assert active(client) == first[1:]
            assert f"{one.name} stays paused: resume it" in " ".join(capsys.readouterr().err.split())
            for each in content["deployments"]:
                each["schedules"][0]["active"] = True
            deployments.deploy(tmp_path, content, environment, log=tmp_path / "log")
            assert active(client) == first, "the file says so"
        finally:
            for each in deployed(client).values():
                client.delete_deployment(each.id)
