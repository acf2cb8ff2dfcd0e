"""The champion of a model: the only code that moves its alias, safe against a kill between any two steps."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from registry import versions
from registry.chain import Chain
from registry.ledger import Entry, Ledger, Note
from registry.locking import registry_lock, require_lock
from registry.records import Records
from registry.secrets import redacted
from registry.store import RegistryError, Store, missing
from registry.urls import sqlite_url
from registry.versions import Version

CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous"
LEDGER = "refit.ledger_at"  # tag of a model on a server: the name of its ledger, and where that is
HEAD = "refit.ledger"  # tag of the model: the head of the ledger after the last line about the model


def current_champion(store: Store, model: str) -> Version | None:
    """The champion version; None if there never was one.

    Raises:
        RegistryError: the ledger names a champion that the registry has lost; the ledger was changed, so it cannot be
            trusted; or the alias points to a version that does not exist.
    """
    number = versions.registered(store, model).aliases.get(CHAMPION)
    if number is None:
        require_own_ledger(store, model)
        if (last := verified_ledger(store, model).last_move(model)) is None:
            return None
        gone = versions.version(store, model, last.to_version) is None
        raise RegistryError(
            f"version {last.to_version} of {model} is the champion by the ledger (since {last.at}), but the registry "
            f"at {store.shown} has no champion: its {'version' if gone else 'alias'} was deleted; `refit repair` "
            f"{'registers it again' if gone else 'puts it back'}, "
            f'`refit promote VERSION --why "..."` promotes another'
        )
    if (version := versions.version(store, model, number)) is None:
        raise RegistryError(
            f"the alias champion of {model} leads to version {number}, which does not exist; promote another one "
            f'with `refit promote VERSION --why "..."`'
        )
    return version


def move_without_alias(store: Store, model: str) -> Entry | None:
    """The ledger's last move, if the registry has lost the alias of its champion; None if the alias is there.

    An alias that points to another version than the ledger's is not a loss: someone moved it on purpose.
    """
    last = Ledger.of(store).last_move(model)
    return last if last and CHAMPION not in versions.registered(store, model).aliases else None


def examine_ledger(store: Store, model: str) -> Chain:
    """Check the ledger against its own digests and against the head noted in the registry.

    Where each checkout has a ledger of its own, there is no note.
    """
    ledger = Ledger.of(store)
    if not store.one_ledger:
        return ledger.examine()
    notes = _notes(store, ledger, model)
    while True:
        result = ledger.examine(notes)
        before, notes = notes, _notes(store, ledger, model)
        if notes == before:  # otherwise a line was written in the meantime
            return result


def _notes(store: Store, ledger: Ledger, model: str) -> dict[str, str]:
    tags = {each: versions.registered(store, each).tags for each in {model, *ledger.models()}}
    return {each: tag[HEAD] for each, tag in tags.items() if tag.get(HEAD)}


def verified_ledger(store: Store, model: str) -> Ledger:
    """The ledger, after checking that none of its lines was changed.

    Raises:
        RegistryError: a line was changed; the message names the first one.
    """
    ledger = Ledger.of(store)
    if problem := examine_ledger(store, model).problem:
        raise ledger.broken(problem)
    return ledger


def move_ledger(
    store: Store, file: Path, model: str, first: Callable[[Records, Records], None] = lambda source, target: None
) -> int:
    """Copy a model's lines from the ledger in a checkout's file to the database of `store`. Returns their number.

    Args:
        first: copies the records of the same ledger, before the lines; it is called again if this was cut off.

    Raises:
        RegistryError: there is no such file or database, the file's lines were changed, a move in it was cut off, the
            database has lines of the model already, or the model's ledger is neither of the two; nothing was copied.
            A call that was cut off is repeated: it goes on after the lines that were copied.
    """
    if store.ledger_uri is None:
        raise RegistryError("no database is named that the ledger could move to: set registry.ledger_uri")
    if not file.is_file():
        raise RegistryError(f"there is no ledger in {file}; nothing to move")
    source, target = Ledger(sqlite_url(file)), Ledger(store.ledger_uri)
    with registry_lock(store):
        if problem := source.examine().problem:
            raise source.broken(problem)
        if source.pending(model):
            raise RegistryError(f"a move in {file} was cut off; unset registry.ledger_uri, let `refit run` finish it")
        lines, copied = source.entries(model), target.entries(model)
        moved = copied == lines and (store.database or other_ledger(store, model, target) is None)
        if copied and (moved or copied != lines[: len(copied)]):
            raise RegistryError(f"the ledger at {target.location} has lines of {model} already; nothing was copied")
        if other := other_ledger(store, model, source):
            raise RegistryError(f"{other}; nothing was copied")
        first(Records(replace(store, ledger_uri=None, home=file.parent), model), Records(store, model))
        for entry in lines:
            _write(store, target.append, entry)
        claim(store, model, replacing=True)
    return len(lines)


def record(store: Store, entry: Entry) -> None:
    """Write a line that moves no alias: a refusal, or `accept`, which adopts all earlier lines as they are."""
    with registry_lock(store):
        ledger = Ledger.of(store) if entry.action == "accept" else verified_ledger(store, entry.model)
        claim(store, entry.model, replacing=entry.action == "accept")
        _write(store, ledger.finish if entry.action == "accept" else ledger.append, entry)


def set_champion(store: Store, entry: Entry) -> None:
    """Make `entry.to_version` the champion and write its line to the ledger, once even if interrupted and repeated.

    The move is first noted as pending, then the aliases are set, then the line replaces the note in one transaction.
    `finish_pending` completes an interrupted move, so the ledger has a line if and only if the move was made.

    Raises:
        RegistryError: the champion is no longer `entry.from_version`, the model's ledger is another one, or the ledger
            was changed; nothing was moved.
    """
    with registry_lock(store):
        ledger = verified_ledger(store, entry.model)
        claim(store, entry.model)
        now = versions.registered(store, entry.model).aliases.get(CHAMPION)
        if now != entry.from_version and not (entry.action == "restore" and now is None):  # its version was deleted
            raise RegistryError(
                f"version {now} of {entry.model} became champion since this was decided; nothing moved: run again"
            )
        ledger.begin(entry)
        require_own_ledger(store, entry.model)  # another clone may have claimed it at the same time
        _move(store, entry)
        _write(store, ledger.finish, entry)


def put_back(store: Store, line: Entry) -> None:
    """Set the alias of the champion that the ledger's last move names again; it needs no line of its own.

    Args:
        line: that move, as `move_without_alias` returned it.

    Raises:
        RegistryError: by now there is a champion, or another move was the last; or the lock was lost. Nothing was set.
    """
    with registry_lock(store):
        verified_ledger(store, line.model)
        if move_without_alias(store, line.model) != line:
            raise RegistryError(f"the champion of {line.model} was set or moved since this was decided; run again")
        require_lock(store)
        versions.set_alias(store, line.model, CHAMPION, line.to_version)
        require_lock(store, f"version {line.to_version} of {line.model} may be champion again (`refit show`)")


def finish_pending(store: Store, model: str, *, at: str) -> Entry | None:
    """Complete the move that a killed process left half-done. Returns its line, or None if nothing was pending.

    The move is abandoned, with a line in the ledger, if another version was promoted since, or if its own version, or
    the alias, was deleted.

    Raises:
        RegistryError: the ledger was changed; nothing was moved.
    """
    ledger = verified_ledger(store, model)
    if ledger.pending(model) is None:
        _catch_up(store, model, ledger)
        return None
    with registry_lock(store):
        if (entry := ledger.pending(model)) is None:
            return None
        now = versions.registered(store, model).aliases.get(CHAMPION)
        if versions.version(store, model, entry.to_version) is None:
            entry = _abandoned(entry, "its version was deleted before the move was finished", at)
        elif now not in (entry.from_version, entry.to_version, *((None,) if entry.action == "restore" else ())):
            happened = f"version {now} was promoted" if now else f"the alias {CHAMPION} was deleted"
            entry = _abandoned(entry, f"{happened} before the move was finished", at)
        else:
            claim(store, model)
            _move(store, entry)
        _write(store, ledger.finish, entry)
        return entry


def claim(store: Store, model: str, *, replacing: bool = False) -> None:
    """Note in a server's registry which ledger is the model's, if none is noted: only that one's moves are made.

    Two checkouts with a ledger each would otherwise promote without knowing of each other.

    Args:
        replacing: note this one in place of another one.

    Raises:
        RegistryError: another ledger is noted.
    """
    if not replacing:
        require_own_ledger(store, model)
    if store.ledger_uri and (registry := versions.identity(store)):
        records = Records(store, model)
        if records.read("registry") != {"created": registry}:
            records.put("registry", "created", registry)
    if store.database:
        return
    ledger = Ledger.of(store)
    location = ledger.location if store.ledger_uri else f"{socket.gethostname()}:{ledger.location}"
    try:
        versions.set_model_tag(store, model, LEDGER, f"{ledger.identity()} {location}")
    except Exception as error:
        if not missing(error):  # a model without versions has no tags either
            raise


def other_ledger(store: Store, model: str, ledger: Ledger | None = None) -> str | None:
    """Why the model's ledger, by the registry of a server, is not this one: `ledger`, else the store's. None if it is.

    A ledger that has no move of a model is not the one in which its champion was promoted. Nor is it if its lines are
    about versions of another registry, whose model has the same name.
    """
    if ledger is None and store.ledger_uri:
        created = Records(store, model).read("registry").get("created")
        if created and (now := versions.identity(store)) and now != created:
            return (
                f"the ledger of {model} is that of another registry, created at {created}, and not of {store.shown}, "
                f"created at {now}: two projects that share a database need two names (project.name)"
            )
    if store.database:
        return None
    ledger, registered = ledger or Ledger.of(store), versions.registered(store, model)
    name, _, location = registered.tags.get(LEDGER, "").partition(" ")
    if name:
        return None if name == ledger.name() else f"the ledger of {model} is another one, {location}"
    champion = registered.aliases.get(CHAMPION)
    if champion is None or ledger.last_move(model) or ledger.pending(model) or _accepted(ledger, model):
        return None
    return f"the ledger of {model} is another one: {ledger.location} has no line of its champion, version {champion}"


def require_own_ledger(store: Store, model: str) -> None:
    """Refuse what only the model's ledger can decide.

    Raises:
        RegistryError: its ledger is another one.
    """
    if problem := other_ledger(store, model):
        instead = (
            f"`refit repair --move-ledger` in the checkout that has it copies it into {redacted(store.ledger_uri)}"
            if store.ledger_uri
            else "name one database for all machines (registry.ledger_uri: postgresql://USER@HOST/DATABASE)"
        )
        raise RegistryError(
            f"{problem}; nothing moved: {instead}, or go on with this one, {Ledger.of(store).location}, and lose the "
            'rollbacks of the other one, by `refit repair --accept-ledger --why "..."`'
        )


def warnings(store: Store, model: str) -> list[str]:
    """What is to be known about a ledger that is whole: that it is not the model's, or not the alias's."""
    if problem := other_ledger(store, model):
        return [f"{problem}; what is said here of earlier moves is not the whole of it"]
    return [problem] if (problem := alias_mismatch(store, model)) else []


def alias_mismatch(store: Store, model: str) -> str | None:
    """Why the champion is not the one of the ledger's last move: its alias was set by something else.

    None if it is, and where the model's ledger is another one, whose last move is not known here.
    """
    ledger, now = Ledger.of(store), versions.registered(store, model).aliases.get(CHAMPION)
    last = ledger.last_move(model)
    if now is None or (last and now == last.to_version) or other_ledger(store, model):
        return None
    if last is None:
        lines = ledger.entries(model)
        if not lines or lines[0].from_version == now or _accepted(ledger, model):  # the ledger began with this champion
            return None
        instead, undo = "none was promoted", "removing it in MLflow"
    else:
        instead, undo = f"version {last.to_version} is champion (since {last.at})", f"`refit promote {last.to_version}`"
    return (
        f"version {now} of {model} has the alias champion, but by the ledger {instead}: the alias was set outside of "
        f'Refit, or by a run that lost its lock; {undo} undoes that, `refit promote {now} --why "..."` accepts it'
    )


def _accepted(ledger: Ledger, model: str) -> bool:
    return any(line.action == "accept" for line in ledger.entries(model))


def _catch_up(store: Store, model: str, ledger: Ledger) -> None:
    """Note the head if a process was killed before it did; otherwise removing that last line would go unnoticed."""
    registered = versions.registered(store, model)
    if registered.aliases and registered.tags.get(HEAD) != ledger.examine().head:
        with registry_lock(store):
            _note(store, model, verified_ledger(store, model).examine().head)


def _write(store: Store, write: Callable[[Entry, Note], str | None], entry: Entry) -> None:
    """Write a line, and note in the registry what the ledger's head may be before, and what it is after."""
    note = partial(_note, store, entry.model)
    note(write(entry, note))


def _note(store: Store, model: str, head: str | None) -> None:
    """Note the ledger's head in the registry, so that lines removed from or added to its end are detected."""
    if head is None or not store.one_ledger:
        return
    require_lock(
        store, "the ledger's line may be written already (`refit history`)"
    )  # a late note would be a wrong one
    try:
        versions.set_model_tag(store, model, HEAD, head)
    except Exception as error:
        if not missing(error):  # a model without versions has no tags either
            raise


def _move(store: Store, entry: Entry) -> None:
    last = Ledger.of(store).last_move(entry.model)  # an alias that was set outside of Refit makes no former champion
    before = last.to_version if last else entry.from_version
    require_lock(store)
    if before not in (None, entry.to_version) and versions.version(store, entry.model, str(before)):
        versions.set_alias(store, entry.model, PREVIOUS, str(before))
    require_lock(store)
    versions.set_alias(store, entry.model, CHAMPION, entry.to_version)
    require_lock(store, f"version {entry.to_version} of {entry.model} may be champion now (`refit show`)")
    if entry.anchor is not None:
        versions.set_model_tag(store, entry.model, versions.ANCHOR, entry.anchor)


def _abandoned(entry: Entry, why: str, at: str) -> Entry:
    return replace(entry, action="refuse", at=at, reasons=(f"given up: {why}", *entry.reasons))
