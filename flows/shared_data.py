"""What folders that are deleted after a run share: their data is in DVC's remote, and the ledger's database names it.

Each run starts from the data that the last one recorded, whether or not a version was made of it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from refit.config import Params
from refit.errors import RefitError
from refit.files.artifacts import SNAPSHOT, STATE, atomic, digest
from refit.files.yaml_files import parse_yaml
from refit.runtime import dvc_remote, environments
from refit.runtime.context import Context
from refit.runtime.registry_store import opened
from refit.runtime.terminal import say
from registry.records import Records
from registry.store import RegistryError, Store, faults

PUSH = "`python -P -m flows.checkouts --push`"  # for a checkout that has made models; deployed runs do so themselves
_PASSED_OVER = 10  # versions whose data may be missing from the remote
_THROWAWAY = "REFIT_THROWAWAY"  # an environment variable: the folder of this run, which may be deleted after it
_RECORD = "dvc.lock"  # the name of the record: a `dvc.lock` whose data is in the remote
_STARTED_FROM = STATE / "data_record"  # the digest of the record whose data this folder has
_INGEST_SECONDS = 7200  # what another run may take to ingest, push and record


def throw_away(project: Path) -> None:
    """Note that the folder may be deleted after this process, so that its flow shares what it makes."""
    os.environ[_THROWAWAY] = str(project.resolve())


def is_thrown_away(project: Path) -> bool:
    """Whether the folder may be deleted after this process, and DVC has a remote that keeps what it made."""
    folder = os.environ.get(_THROWAWAY)
    return bool(folder) and Path(str(folder)).resolve() == project.resolve() and dvc_remote.has_remote(project)


def bring(project: Path, store: Store, params: Params) -> None:
    """Bring the data that the last run recorded; where none did, that of the newest version that is in the remote.

    Before the first version it is the commit's. A version that was made elsewhere, and whose data nobody has pushed, is
    passed over; so is one that was moved here from another environment, as its data is of that environment's sources.

    Raises:
        RefitError: the recorded data is not in the remote, or there are versions, and the data of none of the newest
            is; or the registry fails.
    """
    from registry.versions import read_file, tagged_by_client

    if not dvc_remote.has_remote(project):
        say("DVC has no remote: this run starts from the sources, its data is deleted with its folder", stderr=True)
        return
    try:
        with faults(store):
            recorded = _recorded(store, params)
            every = tagged_by_client(store, params.project.name, {}) if recorded is None else []
    except RegistryError as error:
        raise RefitError(str(error)) from error
    if recorded is not None:
        _pull(project, recorded)
        return
    from refit.operations.moving import ORIGIN  # takes long to import, and is needed until a run has recorded its data

    newest = [version for version in every if ORIGIN not in version.tags][: -_PASSED_OVER - 1 : -1]
    for version in newest:
        try:
            if (lock := read_file(store, version, "provenance/dvc.lock")) is None:
                raise RefitError("it was stored without a dvc.lock")
            dvc_remote.pull(project, lock)
            return
        except (RefitError, RegistryError) as error:
            say(f"warning: the data of version {version.version} is passed over: {error}", stderr=True)
    if newest:  # the commit names fewer batches, or none: a model of those would replace one of all
        raise RefitError(
            f"the data of none of the newest {len(newest)} versions is in DVC's remote; {PUSH} in the checkout where "
            "they were made brings it there; or see that this machine reaches the remote"
        )
    if (project / "dvc.lock").is_file():
        _pull_commit(project)


def _pull_commit(project: Path) -> None:
    """Bring the data that the commit names, unless it may be of the sources of another environment."""
    if environments.overlay_digest(project, ("ingest",)):
        say(
            f"warning: the data of the commit is passed over: ingest differs in {environments.own_name()}, and the "
            "commit does not say which environment its data is of",
            stderr=True,
        )
        return
    try:
        dvc_remote.pull(project)
    except RefitError as error:
        say(f"warning: the data of the commit is passed over: {error}", stderr=True)


@contextmanager
def ingesting(context: Context) -> Iterator[None]:
    """Ingest with the block: what it stores is pushed and recorded, if the folder may be deleted.

    Of all folders that share a ledger, one ingests at a time, and goes on from what the others have recorded. A block
    that fails records nothing: the next run reads the same from the sources.

    Raises:
        RefitError: another run holds the data, or its data or this run's cannot be pulled, pushed or recorded.
    """
    if not is_thrown_away(context.project):
        yield
        return
    with ExitStack() as held:
        with opened(context) as store:
            if store.one_ledger:
                lock = Records(store, context.params.project.name).lock("data", wait_seconds=_INGEST_SECONDS)
                held.enter_context(lock)
                recorded = _recorded(store, context.params)
        if store.one_ledger and recorded is not None and digest(recorded) != _started_from(context.project):
            context.progress("another run has recorded data since this folder was made: going on from it")
            _pull(context.project, recorded)
        yield
        if not _push(context):
            raise RefitError(
                "another run has recorded other data since this one began, as its connection to the ledger's "
                "database was lost; run again"
            )


def share(context: Context) -> None:
    """Push what this run made, and record it unless a later run has ingested since; before `register` refers to it.

    Raises:
        RefitError: the remote does not take it.
    """
    if is_thrown_away(context.project):
        _push(context)


def missing_step(project: Path) -> str:
    """Return the step that runs elsewhere may lack, as far as this folder knows: the data of its models.

    Asks no server, since those of a cluster cannot be reached from here. Empty if the folder has pushed and recorded
    data, or has data that was.
    """
    if _started_from(project) is not None:
        return ""
    where = "here" if (project / SNAPSHOT).exists() else "in the checkout that made it"
    return (
        f"if the model has a version already: {PUSH} {where}, before the first run; where DVC's remote lacks the data "
        "that versions were made from, no deployed run starts"
    )


def publish(context: Context) -> str:
    """Push this folder's data and record it in place of other, as a person decides. Returns a message.

    Raises:
        RefitError: DVC has no remote, or it does not take the data; or each folder has a ledger of its own.
    """
    project = context.project
    if not dvc_remote.has_remote(project):
        raise RefitError("DVC has no remote; `dvc remote add -d NAME URL` adds one")
    lock = dvc_remote.push(project)
    with opened(context) as store:
        if not store.one_ledger:
            raise RefitError(
                f"pushed, but not recorded: the ledger is in {store.home}, and others do not see it; set "
                "registry.ledger_uri in params.yaml, or REFIT_LEDGER_URI"
            )
        records = Records(store, context.params.project.name)
        with records.lock("data", wait_seconds=_INGEST_SECONDS):
            records.put("data", _RECORD, lock)
    _note(project, lock)
    return f"pushed the data of {project}, and recorded it in {records.location}: runs of workers and CI go on from it"


def _push(context: Context) -> bool:
    """Push; then record it, unless another run has recorded since. Returns whether the record is this run's."""
    project = context.project
    lock = dvc_remote.push(project)
    context.progress("pushed data and models to DVC's remote")
    with opened(context) as store:
        if not store.one_ledger:  # it would be deleted with the folder
            return True
        expected = _recorded(store, context.params)
        if expected is not None and digest(expected) != _started_from(project):
            return False
        records = Records(store, context.params.project.name)
        if not records.put_in_place_of("data", _RECORD, lock, expected=expected):
            return False
    _note(project, lock)
    return True


def _recorded(store: Store, params: Params) -> str | None:
    return Records(store, params.project.name).read("data").get(_RECORD)


def _pull(project: Path, recorded: str) -> None:
    try:
        parse_yaml(recorded, _RECORD)
        dvc_remote.pull(project, recorded.encode())
    except RefitError as error:
        raise RefitError(
            f"the data that the last run recorded cannot be brought: {error}; see that this machine reaches DVC's "
            f"remote; if it is lost, {PUSH} in a folder with the newest data records that"
        ) from error
    _note(project, recorded)


def _note(project: Path, recorded: str) -> None:
    (project / STATE).mkdir(mode=0o700, exist_ok=True)
    with atomic(project / _STARTED_FROM) as scratch:
        scratch.write_text(digest(recorded), encoding="utf-8")


def _started_from(project: Path) -> str | None:
    path = project / _STARTED_FROM
    return path.read_text(encoding="utf-8") if path.is_file() else None
