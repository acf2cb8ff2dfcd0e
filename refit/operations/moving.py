"""Moves a champion of one environment into the registry of another, where it is judged on that one's test window."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from refit.errors import UserError
from refit.files.artifacts import (
    CANDIDATE,
    COMPARAND,
    DECISION,
    EVALUATION,
    FEATURE_SET,
    JUDGED_ROWS,
    METRICS,
    MODEL_CARD,
    REPORTS,
    STATE,
    TRAINING,
)
from refit.files.deletion import remove
from refit.models import incumbent, run_logging
from refit.models.verification import MODEL
from refit.runtime import registry_store
from refit.runtime.context import Context
from refit.schemas.feature_table import FeatureTable
from registry import approval, versions
from registry import champion as champions
from registry.champion import CHALLENGER, CHAMPION
from registry.locking import PATIENT_SECONDS, registry_lock
from registry.store import Store
from registry.versions import Version
from tasks import evaluate
from tasks.register.lineage import gone
from tasks.register.packaging import PROVENANCE, Candidate
from tasks.register.promoting import RESTORED, carry_out, promote_by_hand

ORIGIN = "refit.origin"  # tag: the environment, version and registry that a version came from
_SAVED = STATE / "moving"
MOVED = "moved-"  # begins the name of a folder with the files of a version that is being moved
_JUDGEMENT = (EVALUATION, DECISION, METRICS, MODEL_CARD, JUDGED_ROWS, REPORTS / "figures", REPORTS / "plots")
_REPLACED = (CANDIDATE, TRAINING, COMPARAND, *_JUDGEMENT)  # of the checkout's own candidate, put back afterwards


@dataclass(frozen=True)
class MovedVersion:
    """A champion of another environment: its checked files, its tags, and where it came from."""

    folder: Path
    tags: Mapping[str, str]
    origin: str
    registry: tuple[str, str] = field(repr=False)  # its address, and the model's name in it


@contextmanager
def fetched(context: Context, number: str, environment: str | None) -> Iterator[MovedVersion]:
    """A champion, or former champion, of the context's environment, with its checked files.

    Args:
        environment: its name, for the ledger of the other one.

    Raises:
        UserError: there is no such version, it was never champion there, or too little of it is stored to judge it.
        RefitError: its files are not those that were registered.
    """
    with tempfile.TemporaryDirectory(prefix=MOVED, dir=context.path(STATE)) as scratch:
        yield _fetched(context, number, environment, Path(scratch) / "model")


def _fetched(context: Context, number: str, environment: str | None, target: Path) -> MovedVersion:
    """Copy the checked files to `target`, which outlives the download."""
    model = context.params.project.name
    with registry_store.opened(context) as store:
        if (version := versions.version(store, model, number)) is None:
            raise UserError(f"{gone(store, model, number)}; `refit history` names those that were judged")
        ledger = champions.verified_ledger(store, model)
        if not ledger.was_champion(model, number):
            raise UserError(
                f"version {number} of {model} was never champion here, so nothing shows that it should go further; "
                f"`refit promote {number}` first"
            )
        if line := ledger.demotion(model, number, version.tags.get("refit.model_digest")):
            raise UserError(
                f"{line.who} replaced version {number} of {model} by version {line.to_version} on {line.at[:10]} "
                f"({line.reasons[0]}), so it goes no further; `refit promote {number}` first if that no longer holds"
            )
        if incumbent.is_stand_in(version):
            raise UserError(f"version {number} of {model} was made from a GENERATED stand-in; train it from real data")
        with incumbent.downloaded(context, store, version) as folder:
            incumbent.check_trusted(context, store, version, folder)
            if not (folder / PROVENANCE / TRAINING.name).is_file():
                raise UserError(
                    f"version {number} of {model} was registered before its training's record was kept with it, so it "
                    "cannot be judged elsewhere; train it again"
                )
            shutil.copytree(folder, target)
    where = f"{environment or 'params.yaml'} ({store.shown})"
    return MovedVersion(target, version.tags, f"version {number} of {model} in {where}", (store.uri, model))


def move(context: Context, moved: MovedVersion, why: str | None) -> str:
    """Judge a version on the test window of the context's environment, and register it there. Returns a message.

    The caller holds the project's lock and has run `featurize` there. The gate of this environment decides on the
    promotion, as after a training; the checkout's own candidate is as it was afterwards.

    Raises:
        UserError: both environments have one registry, the version's features are not those of this checkout, or the
            gate refuses it and there is no reason `why`.
        RefitError: its stored model does not pass its check.
    """
    model = context.params.project.name
    context = replace(context, trigger=f"{context.trigger}; from {moved.origin}")
    with (
        _in_place(context.project, moved),
        registry_store.opened(context) as store,
        registry_lock(store, wait_seconds=PATIENT_SECONDS),
    ):
        if (store.uri, model) == moved.registry:
            raise UserError(
                f"both environments have the registry at {store.shown} and the model {model}: nothing moves"
            )
        _require_same_features(context)
        incumbent.finish(context, store)
        incumbent.refresh(context)
        evaluate.run(context)
        candidate = Candidate.read(context)
        run_id = run_logging.log_evaluation(context, required=True)
        assert run_id is not None
        version = _registered(store, model, moved, candidate, run_id)
        versions.set_alias(store, model, CHALLENGER, version.version)
        outcome = carry_out(context, store, version, candidate.decision)
        title = f"{moved.origin} is version {version.version} of {model} in {store.shown}"
        if versions.registered(store, model).aliases.get(CHAMPION) == version.version:
            return f"{title}, and champion"
        if outcome.action == approval.AWAIT:
            return f"{title}; {'; '.join(outcome.reasons)}"
        if why:
            return f"{title}; {promote_by_hand(context, store, version, why)}"
        raise UserError(f'{title}, and not champion: {"; ".join(outcome.reasons)}; --why "REASON" overrules')


def _registered(store: Store, model: str, moved: MovedVersion, candidate: Candidate, run_id: str) -> Version:
    """The moved version in this registry, with the judgement on it; it is registered once."""
    version = versions.find(store, model, candidate.identity)
    if version is None:
        newest = champions.verified_ledger(store, model).newest_number(model)
        own_tags = {key: value for key, value in moved.tags.items() if key != RESTORED}
        tags = {**own_tags, **candidate.judgement, ORIGIN: moved.origin}
        return versions.create(store, model, run_id=run_id, folder=moved.folder, tags=tags, above=newest)
    if versions.registered(store, model).aliases.get(CHAMPION) == version.version:
        return version
    versions.set_tags(store, version, candidate.judgement)
    return versions.version(store, model, version.version) or version


def _require_same_features(context: Context) -> None:
    """Refuse a model that would be judged by features with other definitions than those it was trained on."""
    here = FeatureTable.read(context.path(FEATURE_SET)).definitions_digest
    if FeatureTable.read(context.path(CANDIDATE) / FEATURE_SET.name).definitions_digest != here:
        raise UserError(
            "the version's features are defined otherwise than those of this checkout: check out the commit that it "
            "was made from (`refit lineage VERSION`)"
        )


@contextmanager
def _in_place(project: Path, moved: MovedVersion) -> Iterator[None]:
    """Put a version in the place of the checkout's own candidate for a block.

    If the block is killed, DVC sees that these files are not its own, and the next run makes or restores them.
    """
    saved = project / _SAVED
    shutil.rmtree(saved, ignore_errors=True)
    own = [path for path in _REPLACED if (project / path).exists()]
    for path in own:
        (saved / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.move(project / path, saved / path)
    try:
        shutil.copytree(moved.folder / MODEL, project / CANDIDATE)
        shutil.copyfile(moved.folder / PROVENANCE / TRAINING.name, project / TRAINING)
        (project / REPORTS).mkdir(exist_ok=True)
        yield
    finally:
        for path in _REPLACED:
            remove(project / path)
        for path in own:
            (project / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.move(saved / path, project / path)
        shutil.rmtree(saved, ignore_errors=True)
