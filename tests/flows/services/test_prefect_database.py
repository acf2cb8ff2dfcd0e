"""A project has one Prefect history, and its empty database is copied rather than made again."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from flows.services import prefect_database
from flows.services.prefect_database import DATABASE, keep_if_new, provide


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("pragma journal_mode = wal")
        connection.execute("create table if not exists t (x)")
        connection.execute("insert into t values (?)", [text])
        connection.commit()


def rows(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return [row[0] for row in connection.execute("select x from t")]


def test_the_database_that_one_project_made_is_copied_to_the_next_and_never_over_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    template = tmp_path / "home/empty.db"
    monkeypatch.setattr(prefect_database, "_template", lambda: template)
    first, second = tmp_path / "first", tmp_path / "second"
    provide(first)
    assert not (first / DATABASE).exists(), "there is nothing to copy yet: the server makes it"
    write(first / DATABASE, "made by the server")
    keep_if_new(first, existed=True)
    assert not template.exists(), "it may hold runs"
    keep_if_new(first, existed=False)
    provide(second)
    assert rows(second / DATABASE) == ["made by the server"]
    assert (second / DATABASE).stat().st_mode & 0o077 == 0
    write(second / DATABASE, "a run")
    provide(second)
    assert rows(second / DATABASE) == ["made by the server", "a run"]
    assert sorted(path.name for path in template.parent.iterdir()) == [template.name], "no scratch file is left"


def test_projects_do_not_share_a_database(tmp_path: Path) -> None:
    urls = [prefect_database.settings(tmp_path / name) for name in ("a", "b b")]
    assert all(url["PREFECT_API_DATABASE_CONNECTION_URL"].endswith("/.refit/prefect.db") for url in urls)
    assert urls[0] != urls[1]
