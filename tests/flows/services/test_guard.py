"""Only its own pages and those who know the secret are let in; HTTP and websockets are held to the same rules."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from typing import Any

import pytest

from flows.services.guard import IDENTITY, Guard, proof

SECRET = "refit:a-secret"
BASIC = f"Basic {b64encode(SECRET.encode()).decode()}"
HOST = {"host": "127.0.0.1:4200"}
LINK = {"sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}


async def behind(scope: Any, receive: Any, send: Any) -> None:
    """What is guarded: lets everybody in."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
    else:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"let in"})


def ask(
    *headers: tuple[str, str], kind: str = "http", path: str = "/", query: str = "", secret: str | None = None
) -> tuple[Any, str]:
    """The status of an answer, or how a socket was answered, and its text."""
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": f"{kind}.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": kind,
        "method": "GET",
        "path": path,
        "query_string": query.encode(),
        "headers": [(name.encode(), value.encode()) for name, value in headers],
    }
    asyncio.run(Guard(behind, port=4200, mark="mark", credentials=secret)(scope, receive, send))
    first = sent[0]
    return first.get("status", first["type"]), sent[-1].get("body", b"").decode()


@pytest.mark.parametrize("kind", ["http", "websocket"])
@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("host", "evil.example:4200")],
        [("host", "127.0.0.1")],
        [("host", "127.0.0.1:4201")],
        [("host", "127.0.0.1:4200.evil.example")],
        [("host", "127.0.0.1:4200"), ("host", "evil.example:4200")],
        [("host", "[::1]:4200")],
        [*HOST.items(), ("origin", "http://evil.example")],
        [*HOST.items(), ("origin", "http://evil.example:4200")],
        [*HOST.items(), ("origin", "https://127.0.0.1:4200")],
        [*HOST.items(), ("origin", "http://127.0.0.1:9999")],
        [*HOST.items(), ("origin", "http://localhost:4200")],  # on [::1] another user may serve that name
        [*HOST.items(), ("origin", "null")],
        [*HOST.items(), ("origin", "")],
        [*HOST.items(), ("origin", "http://127.0.0.1:4200"), ("origin", "http://evil.example")],
        [*HOST.items(), ("sec-fetch-site", "cross-site")],
        [*HOST.items(), ("sec-fetch-site", "same-site")],
        [*HOST.items(), ("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "iframe")],
    ],
)
def test_a_request_of_another_site_or_under_another_name_is_refused(kind: str, headers: list[tuple[str, str]]) -> None:
    answer, _ = ask(*headers, kind=kind)
    assert answer == {"http": 403, "websocket": "websocket.close"}[kind]


@pytest.mark.parametrize("kind", ["http", "websocket"])
@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
@pytest.mark.parametrize("origin", [None, "http://{name}:4200"])
def test_programs_and_the_servers_own_pages_are_let_in(kind: str, name: str, origin: str | None) -> None:
    headers = [
        ("host", f"{name}:4200"),
        *([("origin", origin.format(name=name)), ("sec-fetch-site", "same-origin")] if origin else []),
    ]
    assert ask(*headers, kind=kind)[0] == {"http": 200, "websocket": "websocket.accept"}[kind]


def test_a_link_that_a_person_follows_opens_the_page() -> None:
    assert ask(*HOST.items(), ("sec-fetch-site", "cross-site"), *LINK.items()) == (200, "let in")


@pytest.mark.parametrize("path", ["/", "/health", "/api/2.0/mlflow/experiments/search", IDENTITY + "/"])
def test_where_credentials_are_asked_for_no_path_goes_without(path: str) -> None:
    assert ask(*HOST.items(), path=path, secret=SECRET)[0] == 401
    assert ask(*HOST.items(), ("authorization", BASIC[:-4]), path=path, secret=SECRET)[0] == 401
    two = (("authorization", BASIC), ("authorization", BASIC))
    assert ask(*HOST.items(), *two, path=path, secret=SECRET)[0] == 401
    assert ask(*HOST.items(), ("authorization", BASIC), path=path, secret=SECRET) == (200, "let in")


def test_a_server_proves_who_started_it_and_says_nothing_else() -> None:
    assert ask(*HOST.items(), path=IDENTITY, query="challenge=why", secret=SECRET) == (200, proof("mark", "why"))
    assert proof("mark", "why") != proof("another mark", "why")
    assert ask(("host", "evil.example:4200"), path=IDENTITY, query="challenge=why")[0] == 403


def test_pages_load_nothing_from_elsewhere_and_send_nothing_there() -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "GET",
        "path": "/docs",
        "query_string": b"",
        "headers": [(b"host", b"localhost:1")],
    }
    asyncio.run(Guard(behind, port=1, mark="mark", credentials=None)(scope, None, send))  # type: ignore[arg-type]
    policy = dict(sent[0]["headers"])[b"content-security-policy"].decode()
    parts = {name: values.split() for name, _, values in (part.strip().partition(" ") for part in policy.split(";"))}
    assert parts["script-src"] == ["'self'", "'unsafe-inline'", "'unsafe-eval'", "blob:", "data:"]
    ours = {f"{scheme}://{name}:1" for scheme in ("http", "ws") for name in ("127.0.0.1", "localhost")}
    assert set(parts["connect-src"]) == {"'self'", "blob:", "data:", *ours}
    assert parts["default-src"] == ["'self'", "blob:", "data:"], "images, styles, fonts, frames, media and workers"
    assert parts["form-action"] == ["'self'"], "default-src does not cover it"
    local = {"'self'", "'none'", "'unsafe-inline'", "'unsafe-eval'", "blob:", "data:", *ours}
    assert {source for sources in parts.values() for source in sources} <= local
