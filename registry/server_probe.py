"""Whether an MLflow server answers at all, asked before its client, which would try for minutes in silence."""

from __future__ import annotations

import os
import socket
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from registry.refusals import reason
from registry.store import URI_VARIABLE, RegistryError, Store

PROBE_SECONDS = 5.0
_ANSWERED = "_REFIT_MLFLOW_ANSWERED"  # in the environment: a stage of a run goes on as the run began


def require_answer(store: Store) -> None:
    """Connect to a store's MLflow server, once in a process and its children; nothing is asked of a database.

    A server that is lost later keeps the patience of MLflow's client, as one that restarts comes back. Behind a proxy
    nothing is tried: only the proxy knows the server.

    Raises:
        RegistryError: nothing accepts a connection there within `PROBE_SECONDS`.
    """
    server = store.server if store.uri.startswith("http") else None
    if server is None or os.environ.get(_ANSWERED) == server or _has_proxy(server):
        return
    url = urlsplit(server)
    try:
        socket.create_connection(
            (url.hostname, url.port or (443 if url.scheme == "https" else 80)), PROBE_SECONDS
        ).close()
    except OSError as error:
        named = URI_VARIABLE if os.environ.get(URI_VARIABLE) else "registry.tracking_uri"
        raise RegistryError(
            f"no MLflow server answers at {store.shown} ({reason(error)}); start it, or correct {named}"
        ) from None
    os.environ[_ANSWERED] = server


def _has_proxy(server: str) -> bool:
    proxies, url = getproxies(), urlsplit(server)
    return (url.scheme in proxies or "all" in proxies) and not proxy_bypass(str(url.hostname))
