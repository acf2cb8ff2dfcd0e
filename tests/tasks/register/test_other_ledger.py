"""A ledger in which a model's champion was not promoted has no word in what becomes of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from servers import mlflow_server, postgresql, postgresql_server  # noqa: F401

from refit.errors import RefitError
from refit.operations import retention
from registry import champion, versions
from registry.client import client
from registry.ledger import Entry, Ledger
from registry.store import RegistryError, Store
from tasks import register

FIRST = Entry("a", "2024-01-01T00:00:00Z", "ann", "run", "promote", "toy", None, "1", ("it is the first",), anchor="1")
SECOND = replace(FIRST, key="b", from_version="1", to_version="2")


@pytest.fixture
def one(tmp_path: Path, empty_registry: Path) -> Iterator[Store]:
    """The checkout that promoted version 1 of a server's model, of which there are two versions."""
    (tmp_path / "mlflow.db").write_bytes(empty_registry.read_bytes())
    with mlflow_server(f"sqlite:///{tmp_path / 'mlflow.db'}", str(tmp_path / "artifacts")) as url:
        made = Store(url, tmp_path / "one")
        client(made).create_registered_model("toy")
        for _ in range(2):
            client(made).create_model_version("toy", "s3://nowhere/model")
        champion.set_champion(made, FIRST)
        yield made


@pytest.mark.slow
def test_only_the_ledger_with_the_champions_line_decides_until_it_is_moved(
    one: Store,
    postgresql: str,  # noqa: F811
    project: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    two = replace(one, home=one.home.with_name("two"))
    shared = replace(two, ledger_uri=postgresql, scope="toy")
    with pytest.raises(RegistryError, match=r"is another one, .*one/ledger.db; nothing moved: name one database for"):
        champion.set_champion(two, SECOND)
    client(one).delete_registered_model_tag("toy", champion.LEDGER)  # as an older Refit left it
    with pytest.raises(RegistryError, match=r"two/ledger.db has no line of its champion, version 1; .*name one databa"):
        champion.set_champion(two, SECOND)
    with pytest.raises(
        RegistryError, match=r"has no line of its champion, version 1; .*`refit repair --move-ledger` in"
    ):
        champion.set_champion(shared, SECOND)
    assert not (two.home / "ledger.db").exists()
    assert "what is said here of earlier moves is not the whole of it" in champion.warnings(two, "toy")[0]
    assert champion.warnings(one, "toy") == []

    monkeypatch.setenv("MLFLOW_TRACKING_URI", one.uri)
    for use in (lambda: register.repair(project.context), lambda: retention.collect(project.context, delete=True)):
        with pytest.raises((RefitError, RegistryError), match="the ledger of toy is another one"):
            use()
    assert "is another one" in register.ledger_warnings(project.context)[0]

    assert champion.move_ledger(shared, one.home / "ledger.db", "toy") == 1
    champion.set_champion(shared, SECOND)
    assert [line.to_version for line in Ledger.of(shared).entries("toy")] == ["1", "2"]
    with pytest.raises(RegistryError, match="is another one"):
        champion.set_champion(one, replace(SECOND, key="c", from_version="2", to_version="1"))
    assert champion.warnings(shared, "toy") == []
    versions.set_alias(shared, "toy", champion.CHAMPION, "1")
    assert "version 1 of toy has the alias champion, but by the ledger version 2" in champion.warnings(shared, "toy")[0]
