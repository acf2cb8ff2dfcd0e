"""Whether a run that was started by the clock may train: `drift.retrain_on` says so."""

from __future__ import annotations

from flows import shared_data
from flows.early_end import EndsEarly
from flows.run_labels import label, moment
from flows.run_options import RunOptions
from refit.config import Params
from refit.files.artifacts import SNAPSHOT
from refit.models.incumbent import RECIPE
from refit.runtime import registry_store, run_file
from refit.runtime.context import Context
from refit.schemas.snapshot import Snapshot
from registry import versions
from registry.champion import current_champion

BY_CLOCK = "schedule"  # the reason of `continuous-training/scheduled`, and the cause that `retrain_on` may list


def never_retrains(params: Params) -> str:
    """Return a line if neither the clock nor drift starts a training; empty if one of them does."""
    if params.drift.retrain_on:
        return ""
    return (
        "no model retrains by itself: drift.retrain_on is empty, so neither the clock nor drift starts a training; "
        "list performance, input or schedule there, or retrain by `refit run`"
    )


class NotDue(EndsEarly):
    """Data is up to date, and the policy leaves it to drift decisions when the next model is trained."""

    def __init__(self, model: str, champion: str) -> None:
        super().__init__(
            f"data is up to date, and nothing is trained: drift.retrain_on does not list {BY_CLOCK}, so drift-watch "
            f"decides when version {champion} of {model} is followed by another; `refit run` trains at once",
            state="NotDue",
            result={"champion": champion},
        )


def require_due(context: Context, options: RunOptions) -> None:
    """Let a run go on unless it was started by the clock and the policy leaves retraining to drift decisions.

    A model that the policy is not about is trained all the same: the first one, and one by other code or params than
    the newest version's, since no drift will ever ask for it.

    Raises:
        NotDue: nothing is to be trained.
    """
    trigger, policy = options.trigger, context.params.drift.retrain_on
    if trigger.reason != BY_CLOCK or trigger.window is not None or options.force or BY_CLOCK in policy:
        return
    from refit.operations.moving import ORIGIN  # takes long to import

    model = context.params.project.name
    with registry_store.opened(context) as store:
        champion = current_champion(store, model)
        every = versions.tagged_by_client(store, model, {}) if champion else []
    newest = next((each for each in reversed(every) if ORIGIN not in each.tags), None)
    recipe = run_file.recipe_digest(context.project, context.params)
    if champion is None or newest is None or newest.tags.get(RECIPE) != recipe:
        return
    shared_data.share(context)  # what `validate` found, so that the next run does not look for it again
    as_of = moment(Snapshot.read(context.path(SNAPSHOT)).as_of, context.params.project.zone)
    label(f"retrain {as_of} {trigger.reason}", model, trigger.reason, "not due")
    raise NotDue(model, champion.version)
