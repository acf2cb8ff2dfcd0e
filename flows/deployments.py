"""A project's `prefect.yaml`, and the work pool and automation that its deployments need on a Prefect server."""

from __future__ import annotations

import math
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import yaml

from flows.paused_schedules import with_paused
from flows.services.processes import python
from refit.errors import RefitError, UserError
from refit.files.yaml_files import YamlTree, read_yaml
from refit.runtime import environments
from refit.runtime.environments import value_of
from refit.runtime.terminal import say

if TYPE_CHECKING:
    from prefect.client.schemas.objects import WorkPool
    from prefect.events.schemas.automations import AutomationCore

    from refit.config import Params

T = TypeVar("T")
_NAME, _ROLE = "prefect.resource.name", "prefect.resource.role"

PREFECT_YAML = Path("prefect.yaml")
POOL = "refit"
NOT_STARTED = "NotStarted"  # the state, of the type Failed, of a run that may not start; the gate's no is `Refused`
LONGEST_DAYS: Mapping[str, float] = {"day": 1, "week": 7, "month": 31}
TRAINING = "flows.continuous_training:"  # the module of the flow that trains
SILENT_SECONDS = 90  # three heartbeats, after which a run counts as crashed
FLOW_NAMES = ("continuous-training", "drift-watch", "batch-scoring")  # a server may run other flows too
RESOURCES = ("cpu", "memory", "gpu", "deadline_seconds")  # what a deployment may ask for in a pool that has machines
STARTING_SECONDS = 3600  # for the machine to start, the image to arrive, and the project and its data to be pulled
STARTING = ("Pending", "Submitting")  # events that another one must follow in that time: none comes before the flow
UNDER_WAY = ("Running", "heartbeat")  # events that another one must follow while nobody is silent

_TEMPLATE = """\
# What runs by itself: `refit up` deploys it on this machine, `refit deploy --pool NAME` to a team's workers.
# docs/scheduling.md says what each of them does, docs/deploying.md where it can run.
name: <model>

deployments:
  - name: scheduled
    entrypoint: flows.continuous_training:continuous_training
    description: Brings the model up to date; costs seconds where nothing changed.
    schedules: [{cron: "0 6 * * *", timezone: <timezone>}]
    parameters: {project: ".", reason: schedule, allow_uncommitted: false, wait_seconds: 3600}
    concurrency_limit: {limit: 1, collision_strategy: CANCEL_NEW}
    work_pool: {name: refit}

  - name: on-drift
    entrypoint: flows.continuous_training:continuous_training
    description: Retrains when drift-watch says so; a window that was answered is not answered again.
    triggers:
      - name: <model> drifted
        type: event
        match: {prefect.resource.id: refit.model.<model>}
        expect: [drift.detected]
        threshold: 1
        parameters:  # an expression alone keeps its type: a mapping, a list, a text
          as_of: "{{ event.payload.as_of }}"
          reason: "{{ event.payload.reason }}"
          window: "{{ event.payload.window }}"
          columns: "{{ event.payload.columns }}"
          emitted: "{{ event.occurred | string }}"
    parameters: {project: ".", reason: drift, allow_uncommitted: false, wait_seconds: 3600}
    concurrency_limit: {limit: 1, collision_strategy: CANCEL_NEW}
    work_pool: {name: refit}

  - name: after-crash  # its own crash starts nothing, so that a run that cannot live does not come back for ever
    entrypoint: flows.continuous_training:continuous_training
    description: Goes on from what a crashed run had finished, once.
    triggers:
      - name: <model> run crashed
        type: event
        match: {prefect.resource.id: prefect.flow-run.*}
        match_related:
          - {prefect.resource.role: flow, prefect.resource.name: continuous-training}
          - {prefect.resource.role: deployment, prefect.resource.name: [scheduled, on-drift]}
        expect: [prefect.flow-run.Crashed]
        threshold: 1
        parameters:
          as_of: "{{ flow_run.parameters.as_of | default('latest') }}"
          overrides: "{{ flow_run.parameters.overrides | default(none) }}"
          reason: "{{ flow_run.parameters.reason | default('a crashed run') }}"
          window: "{{ flow_run.parameters.window | default(none) }}"
          columns: "{{ flow_run.parameters.columns | default(none) }}"
          allow_uncommitted: "{{ flow_run.parameters.allow_uncommitted | default(false) }}"
    parameters: {project: ".", allow_uncommitted: false, wait_seconds: 3600}
    concurrency_limit: {limit: 1, collision_strategy: CANCEL_NEW}
    work_pool: {name: refit}

  - name: daily
    entrypoint: flows.drift_watch:drift_watch
    description: Compares recent rows with those the champion was trained on; emits drift.detected.
    schedules: [{cron: "0 5 * * *", timezone: <timezone>}]
    parameters: {project: ".", as_of: now, wait_seconds: 3600}
    concurrency_limit: {limit: 1, collision_strategy: CANCEL_NEW}
    work_pool: {name: refit}

  - name: daily
    entrypoint: flows.batch_scoring:batch_scoring
    description: Scores what happens in the day after its schedule with the champion, and logs the predictions.
    schedules: [{cron: "0 4 * * *", timezone: <timezone>}]
    parameters: {project: ".", rows: next 24h, as_of: now, wait_seconds: 3600}
    concurrency_limit: {limit: 1, collision_strategy: ENQUEUE}  # missed days run one after the other
    work_pool: {name: refit}
"""


def prefect_yaml(model: str, timezone: str) -> str:
    """Return a project's `prefect.yaml`: what its schedules and events start, and with which parameters."""
    return _TEMPLATE.replace("<model>", model).replace("<timezone>", timezone)


def require(project: Path) -> None:
    """Refuse a project without deployments.

    Raises:
        UserError: it has no `prefect.yaml`.
    """
    if not (project / PREFECT_YAML).is_file():
        raise UserError(f"{project} has no {PREFECT_YAML}; `refit init DIR` writes one into a new project: copy that")


def declared_in(project: Path) -> YamlTree:
    """Return a project's `prefect.yaml` for the model of this process's environment, which may have another name."""
    return for_model(read_yaml(project / PREFECT_YAML), str(value_of(environments.layered(project), "project.name")))


def for_model(declared: YamlTree, model: str) -> YamlTree:
    """Return `prefect.yaml` with a model's name in place of the one that is written there, in its triggers too.

    >>> trigger = {"name": "shop drifted", "match": {"prefect.resource.id": "refit.model.shop"}}
    >>> declared = {"name": "shop", "deployments": [{"name": "on-drift", "triggers": [trigger]}]}
    >>> for_model(declared, "shop_staging")["deployments"][0]["triggers"]
    [{'name': 'shop_staging drifted', 'match': {'prefect.resource.id': 'refit.model.shop_staging'}}]
    """
    written = str(declared.get("name"))
    if written == model:
        return declared

    def renamed(value: object) -> object:
        if isinstance(value, Mapping):
            other = {key: renamed(each) for key, each in value.items()}
            of_model = value.get(_NAME) == written and _ROLE not in value  # with a role, it is a flow or a deployment
            return other | {_NAME: model} if of_model else other
        if isinstance(value, list):
            return [renamed(each) for each in value]
        return f"refit.model.{model}" if value == f"refit.model.{written}" else value

    def trigger_of_model(trigger: YamlTree) -> YamlTree:
        words = str(trigger.get("name", "")).split(" ")
        name = " ".join(model if word == written else word for word in words)
        return {key: renamed(value) for key, value in trigger.items()} | ({"name": name} if name else {})

    entries = [
        {**entry, "triggers": [*map(trigger_of_model, entry["triggers"])]} if entry.get("triggers") else entry
        for entry in declared.get("deployments") or ()
    ]
    return {**declared, "name": model, "deployments": entries}


def trains_by_clock(project: Path, params: Params) -> str:
    """Return a line about deployments that train more often than `retrain_every_days` says; empty if there is none."""
    policy, period = params.drift, params.ingest.period
    if "schedule" not in policy.retrain_on or (policy.retrain_every_days or math.inf) <= LONGEST_DAYS[period]:
        return ""
    declared = read_yaml(project / PREFECT_YAML).get("deployments") if (project / PREFECT_YAML).is_file() else None
    names = [
        f"{FLOW_NAMES[0]}/{each.get('name')}"
        for each in (declared if isinstance(declared, list) else [])
        if isinstance(each, Mapping) and each.get("schedules") and str(each.get("entrypoint")).startswith(TRAINING)
    ]
    if not names:
        return ""
    days = policy.retrain_every_days
    counted = f"more often than drift.retrain_every_days ({days:g})" if days else "although retrain_every_days is null"
    return (
        f"{', '.join(names)} trains whenever a new {period} of data is complete, as drift.retrain_on lists schedule, "
        f"{counted}: take schedule out of drift.retrain_on, and drift decisions alone retrain; or, once there is a "
        f"champion, take the schedules of {', '.join(names)} out of {PREFECT_YAML}, and drift-watch counts the days"
    )


def prefect(*arguments: str) -> list[str]:
    """Return a Prefect command that imports our flows before Prefect puts the working directory on the path."""
    flow_modules = "flows.continuous_training, flows.drift_watch, flows.batch_scoring"
    program = f"import runpy, {flow_modules}; runpy.run_module('prefect', run_name='__main__', alter_sys=True)"
    return [sys.executable, "-P", "-c", program, *arguments]


def provide(
    project: Path, environment: Mapping[str, str], *, pool: str = POOL, in_project: bool = True, theirs: bool = False
) -> None:
    """Create the process work pool and the automations that find dead runs, or update them where they differ.

    Args:
        environment: Prefect's settings that name the server and let this process in.
        in_project: whether runs work in `project`; otherwise each works in an empty folder of its own.
        theirs: whether a pool that is there keeps its template, unless that is Prefect's own, or of this `project`.

    Raises:
        UserError: runs are to work in `project`, and the pool's runs work elsewhere.
    """
    from prefect import get_client, settings
    from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
    from prefect.exceptions import ObjectAlreadyExists

    template = job_template(project if in_project else None)
    updates = {getattr(settings, name): value for name, value in environment.items()}
    with settings.temporary_settings(updates), get_client(sync_client=True) as client:
        with suppress(ObjectAlreadyExists):
            client.create_work_pool(WorkPoolCreate(name=pool, type="process", base_job_template=template))
        known = client.read_work_pool(pool)
        # a worker that starts first creates the pool, with Prefect's template: it runs whatever a request says
        ours = known.type == "process" and (
            known.base_job_template == _prefects_template() or (in_project and _works_in(known, project))
        )
        if in_project and theirs and not ours:
            raise UserError(
                f"work pool {pool} is there already, and its runs do not work in {project}; name another pool by --pool"
            )
        if (ours or not theirs) and known.base_job_template != template:
            client.update_work_pool(pool, WorkPoolUpdate(base_job_template=template))
        for automation in _crash_automations():
            automations = client.read_automations_by_name(automation.name)
            if not automations:
                client.create_automation(automation)
            elif (automations[0].trigger, automations[0].actions) != (automation.trigger, automation.actions):
                client.update_automation(automations[0].id, automation)  # an update forgets the watched runs


def every(read: Callable[..., Sequence[T]], **filters: object) -> list[T]:
    """Everything of a kind that a Prefect server has: it answers with pages, of 200 at most.

    >>> every(lambda offset: "seven"[offset : offset + 2])
    ['s', 'e', 'v', 'e', 'n']
    """
    found = list[T]()
    while page := read(offset=len(found), **filters):
        found += page
    return found


def deploy(project: Path, content: YamlTree, environment: Mapping[str, str], *, log: Path) -> None:
    """Deploy everything in `content`, made from the project's `prefect.yaml`, and update what is deployed already.

    A schedule that somebody paused on the server stays paused, and is named.

    Raises:
        RefitError: Prefect refused it; the message names the log.
    """
    from prefect import get_client, settings

    updates = {getattr(settings, name): value for name, value in environment.items()}
    with settings.temporary_settings(updates), get_client(sync_client=True) as client:
        content, paused = with_paused(content, every(client.read_deployments))
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / PREFECT_YAML.name
        file.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
        process = subprocess.run(
            prefect("--no-prompt", "deploy", "--all", "--prefect-file", str(file)),
            cwd=project,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
    log.write_text(process.stdout + process.stderr, encoding="utf-8")
    if process.returncode:
        raise RefitError(f"prefect could not deploy {project / PREFECT_YAML}; it says why in {log}")
    for name in paused:
        say(f"{name} stays paused: resume it in Prefect's pages, or say `active: true` at its schedule", stderr=True)


def job_template(project: Path | None) -> dict[str, object]:
    """Return the pool's job template: one command in one folder, and variables that change nothing.

    Prefect's own template has variables for command, environment and folder, which every request for a run may set.
    `env` is left out rather than empty, since Prefect would fill an empty one from a request. The variables are
    those of `infra/kubernetes/pool.json`, so that one `prefect.yaml` can be deployed there and here.

    Args:
        project: the folder; None for a new one for each run, with the first `python` on the worker's PATH.
    """
    command = python("flows.deployed_run")
    where = {"working_dir": str(project)} if project else {}
    return {
        "job_configuration": {
            "command": shlex.join(command if project else ["python", *command[1:]]),
            **where,
            "stream_output": True,
        },
        "variables": {"type": "object", "properties": {name: {} for name in RESOURCES}, "additionalProperties": False},
    }


def _works_in(pool: WorkPool, project: Path) -> bool:
    return (pool.base_job_template.get("job_configuration") or {}).get("working_dir") == str(project)


def _prefects_template() -> dict[str, object]:
    from prefect.workers.process import ProcessWorker

    return ProcessWorker.get_default_base_job_template()


def deployed_name(name: str, model: str, environment: str | None = None) -> str:
    """Return the name of a deployment on a server that other projects use too.

    >>> deployed_name("daily", "flight_delays"), deployed_name("daily", "flight_delays", "staging")
    ('flight_delays.daily', 'flight_delays@staging.daily')
    """
    return f"{model}@{environment}.{name}" if environment else f"{model}.{name}"


def declared_name(deployed: str, declared: YamlTree) -> str:
    """Return the name that `prefect.yaml` gives to a deployment.

    >>> [declared_name(f"{model}.daily", {"name": "flights"}) for model in ("flights", "flights@staging", "other")]
    ['daily', 'daily', 'other.daily']
    """
    return deployed.removeprefix(deployed_name("", str(declared.get("name")), environment_of(deployed)))


def environment_of(deployed: str) -> str | None:
    """Return the environment that a deployment was made for; None for `params.yaml` alone.

    >>> [environment_of(name) for name in ("flights@staging.daily", "flights.daily", "daily")]
    ['staging', None, None]
    """
    return deployed.partition(".")[0].partition("@")[2] or None


def _crash_automations() -> list[AutomationCore]:
    """Return the automations that mark runs as crashed whose worker may have died with them."""
    return [
        _crash_automation(
            "refit: a run without a heartbeat has crashed", UNDER_WAY, SILENT_SECONDS, "no heartbeat for"
        ),
        _crash_automation("refit: a run that does not begin has crashed", STARTING, STARTING_SECONDS, "not begun in"),
    ]


def _crash_automation(name: str, events: Sequence[str], seconds: int, silence: str) -> AutomationCore:
    from prefect.client.schemas.objects import StateType
    from prefect.events.actions import ChangeFlowRunState
    from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture

    return AutomationCore(
        name=name,
        description=f"Marks runs of Refit's flows as crashed: {silence} {seconds} s.",
        trigger=EventTrigger.model_validate(
            {
                "posture": Posture.Proactive,
                "match": {"prefect.resource.id": "prefect.flow-run.*"},
                "match_related": {"prefect.resource.role": "flow", "prefect.resource.name": list(FLOW_NAMES)},
                "for_each": ["prefect.resource.id"],
                "after": [f"prefect.flow-run.{event}" for event in events],
                "expect": ["prefect.flow-run.*"],
                "threshold": 1,
                "within": seconds,
            }
        ),
        actions=[ChangeFlowRunState(state=StateType.CRASHED, message=f"{silence} {seconds} s: its process died")],
    )
