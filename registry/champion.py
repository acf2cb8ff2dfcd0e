"""Who is in charge: the one way in which the champion's alias moves, whatever is killed between its steps."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from registry import versions
from registry.chain import Chain
from registry.ledger import Entry, Ledger
from registry.locking import registry_lock
from registry.store import RegistryError, Store, missing
from registry.versions import Version

CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous"
HEAD = "refit.ledger"  # tag of the model: the ledger's head after the last line about it


def champion(store: Store, model: str) -> Version | None:
    """The version in charge, or None where there never was one.

    Raises:
        RegistryError: the ledger knows of a champion that the registry has lost, or cannot say whether there was one
            as it is not as it was written; or the alias leads nowhere.
    """
    number = versions.registered(store, model).aliases.get(CHAMPION)
    if number is None:
        if (last := whole_ledger(store, model).last_move(model)) is None:
            return None
        gone = versions.version(store, model, last.to_version) is None
        raise RegistryError(
            f"version {last.to_version} of {model} is in charge by the ledger (since {last.at}), but the registry at "
            f"{store.shown} has no champion: its {'version' if gone else 'alias'} was deleted; `refit repair` "
            f"{'registers it again' if gone else 'puts it back'}, "
            f'`refit promote VERSION --why "..."` puts another in charge'
        )
    if (found := versions.version(store, model, number)) is None:
        raise RegistryError(
            f"the alias champion of {model} leads to version {number}, which does not exist; put another one in charge "
            f'with `refit promote VERSION --why "..."`'
        )
    return found


def lost(store: Store, model: str) -> Entry | None:
    """The ledger's line on a champion whose alias the registry has lost; None where alias and ledger agree on one.

    Where the alias leads to another version than the ledger's, someone moved it on purpose: that is no loss.
    """
    last = Ledger.beside(store).last_move(model)
    return last if last and CHAMPION not in versions.registered(store, model).aliases else None


def examine_ledger(store: Store, model: str) -> Chain:
    """Whether the ledger is as it was written, by its own digests and by the head that the registry notes of it.

    With a server the ledger lies in the checkout, of which there may be several: the server notes the head of none.
    """
    ledger = Ledger.beside(store)
    if not store.database:
        return ledger.examine()
    notes = _notes(store, ledger, model)
    while True:
        found = ledger.examine(notes)
        before, notes = notes, _notes(store, ledger, model)
        if notes == before:  # else a line was written meanwhile
            return found


def _notes(store: Store, ledger: Ledger, model: str) -> dict[str, str]:
    tags = {each: versions.registered(store, each).tags for each in {model, *ledger.models()}}
    return {each: found[HEAD] for each, found in tags.items() if found.get(HEAD)}


def whole_ledger(store: Store, model: str) -> Ledger:
    """The ledger, once every line of it is as it was written.

    Raises:
        RegistryError: naming the first line that is not.
    """
    ledger = Ledger.beside(store)
    if problem := examine_ledger(store, model).problem:
        raise ledger.broken(problem)
    return ledger


def record(store: Store, entry: Entry) -> None:
    """Write a line that moves no alias: a refusal, or `accept`, which takes over all lines before it as they stand."""
    with registry_lock(store):
        ledger = Ledger.beside(store) if entry.action == "accept" else whole_ledger(store, entry.model)
        note = partial(_note, store, entry.model)
        note(ledger.accept(entry, note) if entry.action == "accept" else ledger.append(entry, note))


def take_charge(store: Store, entry: Entry) -> None:
    """Put `entry.to_version` in charge and write the line that says so: once, however often it is cut off and redone.

    The move is first noted as pending, then the aliases are set, then the line replaces the note in one transaction.
    `finish_pending` completes a move that was cut off, so a line stands in the ledger if and only if the move was made.
    """
    with registry_lock(store):
        ledger = whole_ledger(store, entry.model)
        ledger.begin(entry)
        _move(store, entry)
        note = partial(_note, store, entry.model)
        note(ledger.finish(entry, note))


def finish_pending(store: Store, model: str, *, at: str) -> Entry | None:
    """Complete the move that a killed process left half-done; returns its line, None where there was none.

    A move is given up, and the line says so, where someone else's version took charge since, or its own was deleted.

    Raises:
        RegistryError: the ledger is not as it was written; nothing was moved.
    """
    ledger = whole_ledger(store, model)
    if ledger.pending(model) is None:
        _catch_up(store, model, ledger)
        return None
    with registry_lock(store):
        if (entry := ledger.pending(model)) is None:
            return None
        now = versions.registered(store, model).aliases.get(CHAMPION)
        if versions.version(store, model, entry.to_version) is None:
            entry = _given_up(entry, "its version was deleted before the move was finished", at)
        elif now not in (entry.from_version, entry.to_version, *((None,) if entry.action == "restore" else ())):
            entry = _given_up(entry, f"version {now} took charge before the move was finished", at)
        else:
            _move(store, entry)
        note = partial(_note, store, model)
        note(ledger.finish(entry, note))
        return entry


def _catch_up(store: Store, model: str, ledger: Ledger) -> None:
    """Note the head that a process killed after its line did not note: cutting off that line would not be missed."""
    registered = versions.registered(store, model)
    if registered.aliases and registered.tags.get(HEAD) != ledger.examine().head:
        with registry_lock(store):
            _note(store, model, whole_ledger(store, model).examine().head)


def _note(store: Store, model: str, head: str | None) -> None:
    """Note the ledger's head in the registry, so that lines removed from its end, or added there, are seen."""
    if head is None or not store.database:
        return
    try:
        versions.set_model_tag(store, model, HEAD, head)
    except Exception as error:
        if not missing(error):  # a model whose every version is gone has no tags either
            raise


def _move(store: Store, entry: Entry) -> None:
    deleted = entry.action == "restore"  # what was registered again has no version any more that an alias could name
    if entry.from_version is not None and entry.from_version != entry.to_version and not deleted:
        versions.set_alias(store, entry.model, PREVIOUS, entry.from_version)
    versions.set_alias(store, entry.model, CHAMPION, entry.to_version)
    if entry.anchor is not None:
        versions.set_model_tag(store, entry.model, versions.ANCHOR, entry.anchor)


def _given_up(entry: Entry, why: str, at: str) -> Entry:
    return replace(entry, action="refuse", at=at, reasons=(f"given up: {why}", *entry.reasons))
