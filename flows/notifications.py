"""Who hears of promotions, refusals, waiting versions, drift and failures: events, and automations for them."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.deployments import every
from flows.drift_events import DETECTED
from flows.run_summary import RunSummary
from flows.services.service_state import home_page
from refit.config import Params
from refit.config.notify import NotifyParams, Occasion
from refit.errors import UserError
from refit.files.artifacts import MODEL_CARD
from refit.plain_text import as_markdown, one_line
from refit.runtime import environments
from refit.runtime.context import Context
from registry.urls import folder_url

if TYPE_CHECKING:
    from prefect.events.schemas.automations import AutomationCore

PROMOTED, REFUSED, AWAITS = "model.promoted", "model.refused", "model.awaits-approval"
WEBHOOK = "webhook"  # the type of block that is called with JSON; others are notification blocks
_EVENTS: Mapping[Occasion, str] = {
    "promotion": PROMOTED,
    "refusal": REFUSED,
    "approval": AWAITS,
    "drift": DETECTED,
}
_NAMESPACE = uuid.UUID("0d8f2f0e-0f57-4c3c-8a35-5f4f1d7f3c1a")
_FAILED = ["FAILED", "CRASHED"]
# expressions of Prefect's templates
_OF_MODEL = "event.payload.text or event.payload.reason"
_OF_RUN = 'flow.name ~ " run " ~ flow_run.name ~ ": " ~ flow_run.state.name ~ ". " ~ (flow_run.state.message or "")'


def announce(model: str, event: str, text: str, *, key: str) -> None:
    """Emit an event of `refit.model.<model>`; the same `key` gives the same event, so that it is announced once."""
    from prefect.events import emit_event

    emit_event(
        event,
        resource={"prefect.resource.id": f"refit.model.{model}", "prefect.resource.name": model},
        payload={"model": model, "text": one_line(text)},
        id=uuid.uuid5(_NAMESPACE, f"{model}/{event}/{key}"),
    )


def announce_run(summary: RunSummary) -> None:
    """Announce what became of a run's candidate."""
    model = summary.model
    title, key = f"{model.name} version {model.version}", f"{model.version}/{summary.decision.digest}"
    if model.awaits_approval:
        announce(model.name, AWAITS, f"{model.name} {model.why_not[0]}", key=key)
    else:
        event, outcome = (PROMOTED, "is champion") if model.is_champion else (REFUSED, "is not champion")
        announce(model.name, event, f"{title} {outcome}: {'; '.join(summary.reasons)}", key=key)


def publish_wait(summary: RunSummary, project: Path) -> None:
    """Show in Prefect's UI that a version waits for approval, with its card and the two commands."""
    from prefect.artifacts import create_markdown_artifact

    model = summary.model
    create_markdown_artifact(
        key="refit-approval",
        markdown=f"{as_markdown(model.why_not[0])}\n\nThe model card: {card_link(project, model.version)}, "
        f"and at the MLflow run `{summary.mlflow_run_id}`. In a checkout of the project, one of\n\n"
        f'    {environments.command(f"approve {model.version}")} --why "..."\n'
        f'    {environments.command(f"reject {model.version}")} --why "..."',
        description=as_markdown(f"{model.name} version {model.version} waits for approval"),
    )


def card_link(project: Path, version: str) -> str:
    """Where the card of a version is, in Markdown: a link if a server of the project is up, else the file."""
    home = home_page(project)  # a browser follows no link from a server's page to a file
    return (
        f"[version {version}]({home}versions/{version}/card)" if home else as_markdown(folder_url(project / MODEL_CARD))
    )


def announce_by_hand(context: Context, event: str, version: str, text: str) -> None:
    """Announce what a person did by a command, if a Prefect server is configured."""
    from prefect.events.worker import EventsWorker
    from prefect.settings import PREFECT_API_URL

    if PREFECT_API_URL.value():
        announce(context.params.project.name, event, text, key=f"{version}/{context.now().isoformat()}")
        EventsWorker.drain_all()


def provide(params: Params, deployed: Sequence[str], environment: Mapping[str, str]) -> None:
    """Create the automations of `notify`, update those that differ, and delete those that it names no more.

    Args:
        deployed: the names of the project's deployments on the server, whose failed runs are its own.
        environment: Prefect's settings that name the server and let this process in.

    Raises:
        UserError: the server has no such block.
    """
    from prefect import get_client, settings

    updates = {getattr(settings, name): value for name, value in environment.items()}
    with settings.temporary_settings(updates), get_client(sync_client=True) as client:
        blocks = {each.block: _block(client, each.block) for each in params.notify}
        wanted = {
            each.name: each
            for number, receiver in enumerate(params.notify)
            for each in _automations(params.project.name, number, receiver, blocks[receiver.block], deployed)
        }
        ours = _prefix(params.project.name)
        present = {each.name: each for each in every(client.read_automations) if each.name.startswith(ours)}
        for name in present.keys() - wanted.keys():
            client.delete_automation(present[name].id)
        for name, automation in wanted.items():
            if name not in present:
                client.create_automation(automation)
            elif (present[name].trigger, present[name].actions) != (automation.trigger, automation.actions):
                client.update_automation(present[name].id, automation)


def _prefix(model: str) -> str:
    return f"refit: {model} notifies "


def _block(client: Any, block: str) -> uuid.UUID:
    """The id of a block on the server."""
    from prefect.exceptions import ObjectNotFound

    kind, _, name = block.partition("/")
    try:
        document = client.read_block_document_by_name(name, kind, include_secrets=False)
    except ObjectNotFound:
        raise UserError(
            f"notify: the Prefect server has no block {block}; make it on its page Blocks, or correct params.yaml"
        ) from None
    return uuid.UUID(str(document.id))


def _automations(
    model: str, number: int, receiver: NotifyParams, block: uuid.UUID, deployed: Sequence[str]
) -> list[AutomationCore]:
    """The automations of one receiver: of the model's events, and of failed runs."""
    from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture

    made = []
    name = f"{_prefix(model)}{receiver.block} ({number + 1})"
    if events := [_EVENTS[each] for each in receiver.on if each in _EVENTS]:
        trigger = EventTrigger(
            posture=Posture.Reactive,
            match={"prefect.resource.id": f"refit.model.{model}"},
            expect=set(events),
            threshold=1,
        )
        made.append(AutomationCore(name=name, trigger=trigger, actions=[_action(receiver, block, model, _OF_MODEL)]))
    if "failure" in receiver.on:
        trigger = EventTrigger.model_validate(
            {
                "posture": Posture.Reactive,
                "match": {"prefect.resource.id": "prefect.flow-run.*", "prefect.state-type": _FAILED},
                "match_related": {"prefect.resource.role": "deployment", "prefect.resource.name": list(deployed)},
                "expect": ["prefect.flow-run.*"],
                "threshold": 1,
            }
        )
        action = _action(receiver, block, model, _OF_RUN)
        made.append(AutomationCore(name=f"{name} of failures", trigger=trigger, actions=[action]))
    return made


def _action(receiver: NotifyParams, block: uuid.UUID, model: str, text: str) -> Any:
    from prefect.events.actions import CallWebhook, SendNotification

    if receiver.block.partition("/")[0] == WEBHOOK:
        body = f'{{"model": "{model}", "event": {{{{ event.event | tojson }}}}, "text": {{{{ ({text}) | tojson }}}}}}'
        return CallWebhook(block_document_id=block, payload=body)
    return SendNotification(block_document_id=block, subject=f"Refit: {model}", body=f"{{{{ {text} }}}}")
