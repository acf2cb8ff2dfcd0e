"""A ledger behind PgBouncer: one that pools sessions changes nothing, one that pools transactions is refused."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from servers import free_port, postgresql, postgresql_server  # noqa: F401
from sqlalchemy.engine import make_url

from registry.ledger import Entry, Ledger
from registry.locking import registry_lock, require_lock
from registry.postgresql import engine
from registry.store import RegistryError, Store

LINE = Entry("toy:1", "2014-01-01T00:00:00Z", "ann", "manual", "promote", "toy", None, "1", ("better",), "1")


@pytest.fixture
def pooled(
    postgresql: str,  # noqa: F811
    tmp_path: Path,
) -> Iterator[Callable[[str], Store]]:
    """The store whose ledger is behind a pooler of a mode."""
    program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        pytest.skip("PgBouncer is not installed")
    url, port, started = make_url(postgresql), free_port(), list[subprocess.Popen[bytes]]()
    user = {"user": "nobody", "group": "nogroup"} if os.geteuid() == 0 else {}  # it refuses to run as root

    def start(mode: str) -> Store:
        settings = f"""
            [databases]
            * = host=127.0.0.1 port={url.port} user=refit
            [pgbouncer]
            listen_addr = 127.0.0.1
            listen_port = {port}
            unix_socket_dir =
            auth_type = any
            pool_mode = {mode}
        """
        folder = Path(tempfile.mkdtemp(prefix="refit-pooler-"))
        folder.chmod(0o755)
        (folder / "ini").write_text("\n".join(line.strip() for line in settings.splitlines()))
        started.append(subprocess.Popen([program, "-q", folder / "ini"], stderr=subprocess.DEVNULL, cwd="/", **user))
        for _ in range(100):
            with suppress(OSError):
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            time.sleep(0.05)
        shutil.rmtree(folder)
        return Store("http://nowhere", tmp_path, f"postgresql://refit@127.0.0.1:{port}/{url.database}", "toy")

    yield start
    for server in started:
        server.kill()
        server.wait()


def test_a_pooler_of_sessions_changes_nothing(pooled: Callable[[str], Store]) -> None:
    store = pooled("session")
    assert store.ledger_uri
    with registry_lock(store, wait_seconds=0):
        Ledger.of(store).append(LINE)
        require_lock(store)
    assert Ledger.of(store).entries("toy") == [LINE]
    with engine(store.ledger_uri).connect() as connection:
        shown = [connection.exec_driver_sql(f"show {name}").scalar() for name in ("lock_timeout", "search_path")]
    assert shown == ["1min", "refit"], "no writer waits for ever"


def test_a_pooler_of_transactions_is_named_where_it_breaks_the_ledger(pooled: Callable[[str], Store]) -> None:
    store = pooled("transaction")

    def use() -> None:
        for number in range(20):
            with registry_lock(store, wait_seconds=0):
                Ledger.of(store).append(replace(LINE, key=f"toy:{number}"))
                require_lock(store)

    with pytest.raises(RegistryError, match=r"a pooler in transaction mode .* let it pool sessions"):
        use()
