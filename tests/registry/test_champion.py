"""Which version is champion moves once for each line of the ledger, wherever the process that moved it died."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from quick import quick
from servers import postgresql, postgresql_server  # noqa: F401

from registry import champion, versions
from registry.client import client
from registry.ledger import Entry, Ledger
from registry.store import RegistryError, Store

NOW = "2024-01-02T00:00:00Z"
FIRST = Entry("a", "2024-01-01T00:00:00Z", "ann", "run", "promote", "toy", None, "1", ("it is the first",), anchor="1")
SECOND = replace(FIRST, key="b", from_version="1", to_version="2", anchor=None)


@pytest.fixture(params=["file", "postgresql"])
def store(tmp_path: Path, empty_registry: Path, request: pytest.FixtureRequest) -> Store:
    """A registry with four versions of a model, none of them champion; its ledger is a file or in PostgreSQL."""
    (tmp_path / "mlflow.db").write_bytes(empty_registry.read_bytes())
    ledger = None if request.param == "file" else request.getfixturevalue("postgresql")
    made = Store(f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path, ledger, "toy")
    client(made).create_registered_model("toy")
    for _ in range(4):
        client(made).create_model_version("toy", tmp_path.as_uri())
    return made


def standing(store: Store) -> tuple[str | None, str | None, str | None]:
    """The versions that are champion, previous and anchor."""
    found = versions.registered(store, "toy")
    return found.aliases.get("champion"), found.aliases.get("previous"), found.tags.get(versions.ANCHOR)


def moves(store: Store) -> list[tuple[str, str | None, str]]:
    return [(each.action, each.from_version, each.to_version) for each in Ledger.of(store).entries("toy")]


@pytest.mark.ci
def test_a_move_sets_the_aliases_and_the_anchor_and_writes_one_line(store: Store) -> None:
    champion.set_champion(store, FIRST)
    assert standing(store) == ("1", None, "1")
    champion.set_champion(store, SECOND)
    assert standing(store) == ("2", "1", "1"), "without a new anchor the old one stays"
    assert moves(store) == [("promote", None, "1"), ("promote", "1", "2")]
    champion.set_champion(store, replace(SECOND, key="c", from_version="2", to_version="2"))
    assert standing(store) == ("2", "1", "1"), "a version does not come before itself"
    assert champion.current_champion(store, "toy") == versions.version(store, "toy", "2")
    assert champion.finish_pending(store, "toy", at=NOW) is None


@pytest.mark.ci
def test_the_previous_version_is_the_ledgers_last_champion_and_not_the_one_whose_alias_was_set_outside(
    store: Store,
) -> None:
    champion.set_champion(store, FIRST)
    champion.set_champion(store, SECOND)
    versions.set_alias(store, "toy", champion.CHAMPION, "4")
    champion.set_champion(store, replace(SECOND, key="c", action="overrule", from_version="4", to_version="2"))
    assert standing(store)[:2] == ("2", "1")
    versions.set_alias(store, "toy", champion.CHAMPION, "4")
    champion.set_champion(store, replace(SECOND, key="d", action="overrule", from_version="4", to_version="3"))
    assert standing(store)[:2] == ("3", "2")
    assert [number for number in "1234" if Ledger.of(store).was_champion("toy", number)] == ["1", "2", "3"]
    client(store).delete_model_version("toy", "3")
    versions.set_alias(store, "toy", champion.CHAMPION, "1")
    champion.set_champion(store, replace(SECOND, key="e", action="overrule", from_version="1", to_version="4"))
    assert standing(store)[:2] == ("4", "2"), "the ledger's last champion is deleted, so previous stays"


def test_a_champion_that_the_ledger_began_with_was_champion(store: Store) -> None:
    versions.set_alias(store, "toy", champion.CHAMPION, "1")
    champion.record(store, replace(FIRST, action="accept", from_version="1"))
    champion.set_champion(store, SECOND)
    assert standing(store)[:2] == ("2", "1")
    assert Ledger.of(store).was_champion("toy", "1")


def test_a_move_away_from_a_version_that_is_no_longer_champion_is_refused(store: Store) -> None:
    champion.set_champion(store, FIRST)
    champion.set_champion(store, SECOND)
    with pytest.raises(RegistryError, match="version 2 of toy became champion since this was decided; nothing moved"):
        champion.set_champion(store, replace(SECOND, key="late", to_version="3"))
    with pytest.raises(RegistryError, match="version 2 of toy became champion since"):
        champion.set_champion(store, replace(FIRST, key="first", to_version="4"))
    assert standing(store) == ("2", "1", "1")
    assert moves(store) == [("promote", None, "1"), ("promote", "1", "2")]
    assert Ledger.of(store).pending("toy") is None


def test_a_move_that_died_before_its_first_alias_is_completed(store: Store) -> None:
    champion.set_champion(store, FIRST)
    Ledger.of(store).begin(SECOND)
    assert champion.finish_pending(store, "toy", at=NOW) == SECOND
    assert standing(store) == ("2", "1", "1")
    assert moves(store) == [("promote", None, "1"), ("promote", "1", "2")]
    assert champion.finish_pending(store, "toy", at=NOW) is None


def test_a_move_that_died_after_its_aliases_is_completed(store: Store) -> None:
    champion.set_champion(store, FIRST)
    Ledger.of(store).begin(SECOND)
    versions.set_alias(store, "toy", champion.CHAMPION, "2")
    assert champion.finish_pending(store, "toy", at=NOW) == SECOND
    assert standing(store) == ("2", "1", "1")


@pytest.mark.slow
def test_a_restoration_that_died_before_its_alias_is_completed_and_names_no_deleted_version(store: Store) -> None:
    champion.set_champion(store, FIRST)
    champion.set_champion(store, SECOND)
    client(store).delete_model_version("toy", "2")  # and its alias with it
    restored = replace(SECOND, key="r", action="restore", from_version="2", to_version="3")
    Ledger.of(store).begin(restored)
    assert champion.finish_pending(store, "toy", at=NOW) == restored
    assert standing(store) == ("3", "1", "1")
    assert moves(store)[-1] == ("restore", "2", "3")


@pytest.mark.parametrize("action", quick(["promote", "rollback", "overrule"], 1))
def test_any_other_move_is_given_up_where_the_alias_is_gone(store: Store, action: str) -> None:
    champion.set_champion(store, FIRST)
    Ledger.of(store).begin(replace(SECOND, action=action))  # type: ignore[arg-type]
    client(store).delete_registered_model_alias("toy", champion.CHAMPION)
    refusal = champion.finish_pending(store, "toy", at=NOW)
    assert refusal is not None
    assert (refusal.action, refusal.at) == ("refuse", NOW)
    assert refusal.reasons[0] == "given up: the alias champion was deleted before the move was finished"
    assert standing(store)[0] is None


def test_a_move_is_given_up_where_another_version_took_charge(store: Store) -> None:
    champion.set_champion(store, FIRST)
    Ledger.of(store).begin(SECOND)
    versions.set_alias(store, "toy", champion.CHAMPION, "4")
    refusal = champion.finish_pending(store, "toy", at=NOW)
    assert refusal is not None
    reasons = ("given up: version 4 was promoted before the move was finished", "it is the first")
    assert (refusal.action, refusal.at, refusal.reasons) == ("refuse", NOW, reasons)
    assert standing(store) == ("4", None, "1")
    assert Ledger.of(store).find("b") == refusal


def test_a_move_is_given_up_where_its_version_was_deleted(store: Store) -> None:
    champion.set_champion(store, FIRST)
    Ledger.of(store).begin(SECOND)
    client(store).delete_model_version("toy", "2")
    refusal = champion.finish_pending(store, "toy", at=NOW)
    assert refusal is not None
    assert refusal.reasons[0] == "given up: its version was deleted before the move was finished"
    assert standing(store) == ("1", None, "1")


def test_a_champion_is_lost_only_where_the_ledger_knows_of_one_and_no_alias_does(store: Store) -> None:
    assert champion.current_champion(store, "toy") is None
    assert champion.move_without_alias(store, "toy") is None
    champion.set_champion(store, FIRST)
    assert champion.move_without_alias(store, "toy") is None
    versions.set_alias(store, "toy", champion.CHAMPION, "4")
    assert champion.move_without_alias(store, "toy") is None, "someone moved it on purpose"
    client(store).delete_registered_model_alias("toy", champion.CHAMPION)
    assert champion.move_without_alias(store, "toy") == FIRST
    with pytest.raises(RegistryError, match=r"no champion: its alias was deleted; `refit repair` puts it back"):
        champion.current_champion(store, "toy")
    client(store).delete_model_version("toy", "1")
    with pytest.raises(RegistryError, match=r"its version was deleted; `refit repair` registers it again"):
        champion.current_champion(store, "toy")


def test_a_champion_is_put_back_unless_another_one_was_promoted_meanwhile(store: Store) -> None:
    champion.set_champion(store, FIRST)
    client(store).delete_registered_model_alias("toy", champion.CHAMPION)
    champion.put_back(store, FIRST)
    assert standing(store)[0] == "1"
    champion.set_champion(store, SECOND)
    for is_there in (True, False):
        if not is_there:
            client(store).delete_registered_model_alias("toy", champion.CHAMPION)
        with pytest.raises(RegistryError, match="was set or moved since this was decided"):
            champion.put_back(store, FIRST)
        assert standing(store)[0] == ("2" if is_there else None)


def test_a_deleted_champion_is_not_restored_over_one_that_was_promoted_meanwhile(store: Store) -> None:
    champion.set_champion(store, FIRST)
    client(store).delete_model_version("toy", "1")
    versions.set_alias(store, "toy", champion.CHAMPION, "4")
    with pytest.raises(RegistryError, match="version 4 of toy became champion since this was decided"):
        champion.set_champion(store, replace(FIRST, key="r", action="restore", from_version="1", to_version="3"))
    assert standing(store)[0] == "4"


def test_an_alias_that_leads_nowhere_is_an_error(store: Store) -> None:
    champion.set_champion(store, FIRST)
    file = store.database
    assert file is not None
    import sqlite3

    with sqlite3.connect(file) as database:
        database.execute("delete from model_versions where name = 'toy' and version = 1")
    with pytest.raises(RegistryError, match="the alias champion of toy leads to version 1, which does not exist"):
        champion.current_champion(store, "toy")


def test_a_refusal_is_a_line_that_moves_no_alias(store: Store) -> None:
    champion.set_champion(store, FIRST)
    champion.record(store, replace(SECOND, action="refuse"))
    assert standing(store) == ("1", None, "1")
    assert moves(store) == [("promote", None, "1"), ("refuse", "1", "2")]
    assert champion.finish_pending(store, "toy", at=NOW) is None
    assert champion.move_without_alias(store, "toy") is None
