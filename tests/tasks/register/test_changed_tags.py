"""What somebody changed in MLflow by hand is named in one line, and is no fault of Refit."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

from refit.errors import RefitError
from refit.files.artifacts import digest
from refit.models import incumbent, model_cache
from refit.schemas.gate_decision import Decision
from registry import versions
from registry.client import client
from registry.ledger import Ledger
from registry.store import RegistryError
from registry.versions import Version
from tasks import register
from tasks.register import lineage, promoting

pytestmark = pytest.mark.usefixtures("same_process")
DEEP = "[" * 100_000

USES: dict[str, tuple[str, Callable[[Any], object]]] = {
    "show": ("refit.metrics", lambda project: register.champion_summary(project.context)),
    "explain": ("refit.decision", lambda project: lineage.explain(project.context, "1")),
    "promote": ("refit.decision", lambda project: register.promote(project.context, "1")),
    "run": ("refit.comparand", lambda project: incumbent.expected(project.context)),
}


@pytest.mark.parametrize("use", USES)
def test_a_tag_that_holds_something_else_is_named(project: Any, use: str) -> None:
    project.registered()
    tag, act = USES[use]
    if use == "promote":
        client(project.store).delete_registered_model_alias("toy", "champion")
    wrong = ["{", "[]", "5", DEEP, *(['{"promote": 1}'] if tag != "refit.metrics" else [])]
    for value in wrong:
        with closing(sqlite3.connect(project.folder / ".refit/mlflow.db")) as connection, connection:
            connection.execute("update model_version_tags set value = ? where key = ?", (value, tag))
        with pytest.raises(RefitError, match=f"the tag {tag} of version 1 of toy is not as Refit wrote it: ") as said:
            act(project)
        assert "\n" not in str(said.value)


@pytest.mark.parametrize("text", ["yesterday", "2013-12-17T00:00:00", ""])
def test_a_champion_whose_time_is_none_is_no_opponent(project: Any, text: str) -> None:
    project.registered(0)
    project.trained(1)
    client(project.store).set_model_version_tag("toy", "1", "refit.seen_until", text)
    with pytest.raises(RefitError, match=r"refit.seen_until of version 1 of toy is not as Refit wrote it: .* no time"):
        incumbent.expected(project.context)


def test_a_decision_may_say_no_more_and_no_less_than_the_gate_writes(decision: dict[str, Any]) -> None:
    def stored(content: object) -> Version:
        return Version("toy", "1", None, "", {"refit.decision": json.dumps(content)})

    assert promoting.decision_on(stored(decision)).promote is True
    for key in decision.keys() - {"slices", "error_reduction"}:  # which the first decisions did not have
        with pytest.raises(RegistryError, match="is not as Refit wrote it"):
            promoting.decision_on(stored({name: value for name, value in decision.items() if name != key}))
    for wrong in ({"promote": 1}, {"promote": "true"}, {"mode": "any"}, {"reasons": "none"}, {"overruled": True}):
        with pytest.raises(RegistryError, match="is not as Refit wrote it"):
            promoting.decision_on(stored({**decision, **wrong}))


def test_a_decision_has_the_digest_of_its_own_text_even_if_it_is_older_than_a_field(
    decision: dict[str, Any],
) -> None:
    older = {key: value for key, value in decision.items() if key not in ("slices", "error_reduction")}
    for content in (decision, older):
        assert Decision.from_json(content, "decision.json").digest == digest(content)


@pytest.mark.parametrize("digest", ["../../../out", "", "x" * 64])
def test_a_digest_that_is_none_names_no_folder(project: Any, digest: str) -> None:
    with pytest.raises(RefitError, match=r"refit\.model_digest of version 1 is not as Refit wrote it"):
        model_cache.copy_path(project.context, "1", digest)


def test_a_stored_file_that_holds_something_else_is_named() -> None:
    with pytest.raises(RegistryError, match=r"snapshot.json of version 1 of toy is not as Refit wrote it: "):
        versions.json_object(Version("toy", "1", None, "", {}), "snapshot.json", DEEP)


@pytest.mark.parametrize("content", ['{"batches": 5}', '{"batches": [5]}', '{"batches": [{"name": "a"}]}', DEEP])
def test_a_list_of_batches_that_is_none_is_named(project: Any, content: str) -> None:
    project.registered()
    (stored,) = (project.folder / ".refit/mlartifacts").rglob("provenance/snapshot.json")
    stored.write_text(content)
    for act in (lambda: lineage.lineage(project.context, "1"), lambda: lineage.made_from(project.context, "abcdef")):
        with pytest.raises(RefitError, match=r"snapshot.json of version 1 of toy is not as Refit wrote it: "):
            act()


def test_a_ledger_nested_without_end_can_be_read_and_moves_nothing(project: Any) -> None:
    project.registered()
    with closing(sqlite3.connect(project.folder / ".refit/ledger.db")) as connection, connection:
        connection.execute("drop trigger ledger_no_update")
        connection.execute("update ledger set reasons = ?, digests = ?", (DEEP, DEEP))
        connection.execute("insert into pending values ('toy', ?)", (DEEP,))
    (line,) = project.ledger
    assert line.reasons == (DEEP,)
    with closing(sqlite3.connect(project.folder / ".refit/ledger.db")) as connection, connection:
        connection.execute("update ledger set digests = '[1]'")
    assert incumbent.check_champion(project.context) == "1", "what is no digest speaks against nobody; doctor names it"
    with pytest.raises(RegistryError, match="the note of the move that was cut off is torn"):
        Ledger.of(project.store).pending("toy")
