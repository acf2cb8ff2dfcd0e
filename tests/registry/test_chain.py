"""No change of the ledger is silent: each is seen, the first broken line is named, and nothing moves on its word."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from registry import chain, champion, versions
from registry.client import client
from registry.ledger import Entry, Ledger
from registry.sqlite_files import Row
from registry.store import RegistryError, Store

LINE = Entry(
    key="1",
    at="2014-01-01T00:00:00Z",
    who="ann@here",
    trigger="schedule",
    action="refuse",
    model="toy",
    from_version=None,
    to_version="1",
    reasons=("only 12 rows",),
    digests={"decision": "abc"},
)
OLD = """
create table ledger (id integer primary key, key text not null unique, at text not null, who text not null,
  trigger text not null, action text not null, model text not null, to_version text not null, from_version text,
  anchor text, reasons text not null, digests text not null);
create table pending (model text primary key, entry text not null);
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, empty_registry: Path) -> Store:
    """A registry that knows a model with two versions, and a ledger of five lines; made once, as it takes seconds."""
    home = tmp_path_factory.mktemp("chain")
    shutil.copy(empty_registry, home / "mlflow.db")
    store = Store(f"sqlite:///{home / 'mlflow.db'}", home)
    for model in ("toy", "other"):
        client(store).create_registered_model(model)
    for _ in range(2):
        client(store).create_model_version("toy", source=f"file://{home}")
    for number in range(1, 6):
        champion.record(store, replace(LINE, key=str(number), to_version=str(number)))
    shutil.copy(home / "ledger.db", home / "spare.db")
    return store


@pytest.fixture
def store(made: Store) -> Store:
    """That registry, without a champion and a ledger."""
    (made.home / "ledger.db").unlink(missing_ok=True)
    if "champion" in versions.registered(made, "toy").aliases:
        client(made).delete_registered_model_alias("toy", "champion")
    client(made).set_registered_model_tag("toy", champion.HEAD, "")
    return made


@pytest.fixture
def ledger(store: Store) -> Ledger:
    """Its ledger of five lines, and the head that the registry notes."""
    shutil.copy(store.home / "spare.db", store.home / "ledger.db")
    found = Ledger.of(store)
    client(store).set_registered_model_tag("toy", champion.HEAD, str(found.examine().head))
    return found


def edit(store: Store, *statements: str) -> None:
    """Change the file as someone who may write it can: its triggers are no lock."""
    with closing(sqlite3.connect(store.home / "ledger.db")) as connection, connection:
        connection.executescript("drop trigger if exists ledger_no_update; drop trigger if exists ledger_no_delete")
        for statement in statements:
            connection.execute(statement)


def seal(store: Store, number: int) -> None:
    """Give a line the digest that fits its content and the digest before it."""
    rows = Ledger.of(store)._select("select * from ledger order by id")
    place = next(place for place, row in enumerate(rows) if row["id"] == number)
    edit(store, f"update ledger set digest = '{chain.next_digest(rows[:place], rows[place])}' where id = {number}")


def add(store: Store, action: str, model: str = "toy") -> None:
    """Add a line as someone does who knows how its digest is made."""
    rows = Ledger.of(store)._select("select * from ledger order by id")
    number = rows[-1]["id"] + 1
    edit(
        store,
        f"insert into ledger select {number}, 'x', at, 'eve', trigger, '{action}', '{model}', to_version, from_version,"
        f" anchor, null, reasons, digests from ledger where id = {number - 1}",
    )
    seal(store, number)


EDITS: dict[str, tuple[Callable[[Store], None], str]] = {
    "a field": (lambda store: edit(store, "update ledger set at = '2015' where id = 3"), "line 3 "),
    "a reason": (lambda store: edit(store, "update ledger set reasons = '[\"x\"]' where id = 1"), "line 1 "),
    "a text that is no JSON": (lambda store: edit(store, "update ledger set reasons = '[x' where id = 2"), "line 2 "),
    "no UTF-8": (lambda store: edit(store, "update ledger set who = cast(x'ff41' as text) where id = 4"), "line 4 "),
    "a digest": (lambda store: edit(store, "update ledger set digest = 'f' || digest where id = 2"), "line 2 "),
    "its digest taken away": (
        lambda store: edit(store, "update ledger set digest = null where id = 4"),
        "line 4 has no",
    ),
    "a line and its digest": (
        lambda store: (edit(store, "update ledger set action = 'promote' where id = 3"), seal(store, 3))[0],
        "line 4 ",
    ),
    "the last line and its digest": (
        lambda store: (edit(store, "update ledger set action = 'promote' where id = 5"), seal(store, 5))[0],
        "line 5 is another one than the registry noted",
    ),
    "the first line removed": (
        lambda store: edit(store, "delete from ledger where id = 1"),
        "before line 2 are missing",
    ),
    "a line removed": (lambda store: edit(store, "delete from ledger where id = 3"), "between line 2 and line 4 lines"),
    "the last line removed": (lambda store: edit(store, "delete from ledger where id = 5"), "knows of line 5, but"),
    "all lines removed": (lambda store: edit(store, "delete from ledger"), "knows of line 5, but the ledger has none"),
    "another order": (
        lambda store: edit(
            store,
            "update ledger set id = 9 where id = 2",
            "update ledger set id = 2 where id = 3",
            "update ledger set id = 3 where id = 9",
        ),
        "line 2 ",
    ),
    "no digests at all": (lambda store: edit(store, "update ledger set digest = null"), "line 5 is another one"),
    "a line added": (
        lambda store: edit(
            store,
            "insert into ledger (id, key, at, who, trigger, action, model, to_version, reasons, digests) "
            "values (6, 'x', '2014', 'eve', 'm', 'promote', 'toy', '9', '[]', '{}')",
        ),
        "line 6 has no digest",
    ),
    "a line added with a digest that fits": (lambda store: add(store, "promote"), "line 6: it was added by hand"),
    "a line changed, and accepted with a digest that fits": (
        lambda store: (edit(store, "update ledger set at = '2015' where id = 3"), add(store, "accept"))[0],
        "line 3 ",
    ),
    "the file removed": (lambda store: (store.home / "ledger.db").unlink(), "the ledger has none"),
}


@pytest.mark.parametrize("name", EDITS)
def test_a_changed_ledger_is_still_read_but_moves_nothing(store: Store, ledger: Ledger, name: str) -> None:
    change, expected = EDITS[name]
    assert champion.examine_ledger(store, "toy").problem is None
    change(store)
    assert expected in str(champion.examine_ledger(store, "toy").problem)
    Ledger.of(store).entries("toy")
    promotion = replace(LINE, key="p", action="promote", to_version="2")
    for move in (
        lambda: champion.set_champion(store, promotion),
        lambda: champion.record(store, promotion),
        lambda: champion.finish_pending(store, "toy", at="2014-01-02T00:00:00Z"),
        lambda: champion.current_champion(store, "toy"),  # None now, and a broken ledger cannot say if there was one
    ):
        with pytest.raises(RegistryError, match=r"is broken: .*restore the file from a copy, or `refit repair") as said:
            move()
        assert "\n" not in str(said.value)
    assert versions.registered(store, "toy").aliases == {}

    champion.record(store, replace(LINE, key="a", action="accept", reasons=("the disk failed",)))
    assert champion.examine_ledger(store, "toy").problem is None
    champion.set_champion(store, promotion)
    assert versions.registered(store, "toy").aliases == {"champion": "2"}
    assert [entry.action for entry in Ledger.of(store).entries("toy")][-2:] == ["accept", "promote"]


def test_a_line_that_another_model_accepts_by_hand_covers_nothing(store: Store, ledger: Ledger) -> None:
    edit(store, "update ledger set at = '2015' where id = 3")
    add(store, "accept", model="unheard of")
    assert "line 3 " in str(champion.examine_ledger(store, "toy").problem)


def test_a_line_whose_writer_was_killed_before_or_after_it_counted_breaks_nothing(store: Store, ledger: Ledger) -> None:
    def killed(note: str) -> None:
        client(store).set_registered_model_tag("toy", champion.HEAD, note)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ledger.append(replace(LINE, key="6"), killed)
    assert champion.examine_ledger(store, "toy").problem is None
    assert len(ledger.entries("toy")) == 5
    ledger.append(
        replace(LINE, key="6"), lambda note: client(store).set_registered_model_tag("toy", champion.HEAD, note)
    )
    assert champion.examine_ledger(store, "toy").problem is None
    assert len(ledger.entries("toy")) == 6
    edit(store, "delete from ledger where id in (5, 6)")
    assert "knows of line 5, but" in str(champion.examine_ledger(store, "toy").problem)


def test_a_ledger_whose_table_is_damaged_is_called_so_in_one_line(store: Store, ledger: Ledger) -> None:
    file = store.home / "ledger.db"
    whole = file.read_bytes()
    for name, damage in (
        (b"digests", b"dig\xe5sts"),
        (b"who", b"wh\xff"),
        (b"who", b"whp"),
        (b"CREATE TABLE", b"CREATE\xf4TABLE"),
    ):
        file.write_bytes(whole.replace(name, damage))
        for read in (ledger.examine, lambda: ledger.entries("toy")):
            with pytest.raises(RegistryError, match=r"it is damaged \(.*\); restore the file from a copy"):
                read()


def test_what_was_accepted_cannot_be_changed_again_without_being_seen(store: Store, ledger: Ledger) -> None:
    edit(store, "update ledger set at = '2015' where id = 3")
    champion.record(store, replace(LINE, key="a", action="accept"))
    edit(store, "update ledger set at = '2016' where id = 3")
    assert "line 3 " in str(champion.examine_ledger(store, "toy").problem)


def test_a_ledger_of_an_older_refit_is_read_and_its_next_line_covers_all_before_it(store: Store) -> None:
    with closing(sqlite3.connect(store.home / "ledger.db")) as connection, connection:
        connection.executescript(OLD)
        for number in (1, 2):
            values = (number, str(number), "2014", "ann", "m", "refuse", "toy", str(number), None, None, "[]", "{}")
            connection.execute(f"insert into ledger values ({','.join('?' * 12)})", values)
        begun = vars(replace(LINE, key="p", action="promote"))
        connection.execute("insert into pending values ('toy', ?)", [json.dumps(begun, default=dict)])
    old = champion.examine_ledger(store, "toy")
    assert (old.lines, old.unchained, old.head, old.problem) == (2, 2, None, None)
    assert champion.finish_pending(store, "toy", at="2014-01-02T00:00:00Z") is not None
    assert versions.registered(store, "toy").aliases == {"champion": "1"}
    new = champion.examine_ledger(store, "toy")
    assert (new.lines, new.unchained, new.problem) == (3, 0, None)
    edit(store, "update ledger set who = 'eve' where id = 1")
    assert "line 3 " in str(champion.examine_ledger(store, "toy").problem)


@pytest.mark.parametrize("note", ["{}", "[", '"x"', "edited", "without its digest"])
def test_a_note_of_a_move_under_way_that_was_changed_is_not_carried_out(
    store: Store, ledger: Ledger, note: str
) -> None:
    ledger.begin(replace(LINE, key="p", action="promote", to_version="1"))
    with closing(sqlite3.connect(store.home / "ledger.db")) as connection, connection:
        written = connection.execute("select entry from pending").fetchone()[0]
        if note == "edited":
            note = written.replace('"to_version": "1"', '"to_version": "2"')
        elif note == "without its digest":
            note = json.dumps({key: value for key, value in json.loads(written).items() if key != "digest"})
        connection.execute("update pending set entry = ?", [note])
    with pytest.raises(RegistryError, match="the note of the move that was cut off"):
        champion.finish_pending(store, "toy", at="2014-01-02T00:00:00Z")
    champion.record(store, replace(LINE, key="a", action="accept"))
    assert champion.finish_pending(store, "toy", at="2014-01-02T00:00:00Z") is None, "who accepts forgets the move"
    assert versions.registered(store, "toy").aliases == {}


def test_models_that_share_a_ledger_each_miss_the_lines_that_are_gone(store: Store, ledger: Ledger) -> None:
    champion.record(store, replace(LINE, key="6", model="other"))
    assert champion.examine_ledger(store, "toy").problem is None
    edit(store, "delete from ledger where id = 6")
    assert champion.examine_ledger(store, "toy").problem is None
    assert "knows of line 6" in str(champion.examine_ledger(store, "other").problem)


def test_a_head_that_a_killed_process_did_not_note_is_noted_by_the_next_run(store: Store, ledger: Ledger) -> None:
    champion.set_champion(store, replace(LINE, key="p", action="promote", to_version="1"))
    ledger.append(
        replace(LINE, key="7"), lambda note: client(store).set_registered_model_tag("toy", champion.HEAD, note)
    )
    assert champion.finish_pending(store, "toy", at="2014-01-02T00:00:00Z") is None
    assert versions.registered(store, "toy").tags[champion.HEAD] == ledger.examine().head
    edit(store, "delete from ledger where key = '7'")
    assert "knows of line 7, but" in str(champion.examine_ledger(store, "toy").problem)


@pytest.mark.parametrize("action", ["refuse", "accept", "promote", "a move that was cut off"])
def test_the_registry_notes_every_line_before_it_counts_and_after(
    store: Store, ledger: Ledger, action: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, noted, note = ledger.examine().head, [], versions.set_model_tag
    monkeypatch.setattr(
        versions, "set_model_tag", lambda *said: (noted.append((said[1], said[2], said[3])), note(*said))[1]
    )
    promotion = replace(LINE, key="6", action="promote")
    if action == "promote":
        champion.set_champion(store, promotion)
    elif action == "a move that was cut off":
        ledger.begin(promotion)
        champion.finish_pending(store, "toy", at="2014-01-02T00:00:00Z")
    else:
        champion.record(store, replace(promotion, action=action))  # type: ignore[arg-type]
    after = ledger.examine().head
    assert noted == [("toy", champion.HEAD, f"{before} {after}"), ("toy", champion.HEAD, after)]


class Counted(list[Row]):
    """Rows that count how many of them were copied."""

    copied = 0

    def __getitem__(self, key: Any) -> Any:
        found = super().__getitem__(key)
        self.copied += len(found) if isinstance(key, slice) else 0
        return found


def test_the_work_of_a_check_grows_with_the_lines_and_not_with_their_square() -> None:
    rows = Counted()
    for number in range(1, 101):
        line = {"id": number, "model": "toy", "action": "refuse"}
        rows.append(line | {"digest": chain.next_digest(rows, line)})
    rows.copied = 0
    assert chain.examine(rows, dict.fromkeys(("toy", "other"), chain.head_of(rows))).problem is None
    assert rows.copied <= 5 * len(rows)
