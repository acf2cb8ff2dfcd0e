"""Access control of a server on loopback: it answers its own pages and clients with the secret, under its own name."""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from flows.services.credentials import USER, matches

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

IDENTITY = "/refit/identity"
NAMES = ("127.0.0.1", "localhost")
CONTENT_POLICY = b"content-security-policy"
_POLICY = (
    "default-src 'self' blob: data:; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob: data:; "
    "style-src 'self' 'unsafe-inline' blob: data:; connect-src 'self' blob: data: {own}; "
    "form-action 'self'; object-src 'none'; base-uri 'self'; frame-ancestors 'self'"
)


class Guard:
    """Wraps an ASGI application, and checks HTTP requests and websockets by the same rules.

    - `Host` must be this server's own; otherwise a page of another name could reach it by DNS rebinding.
    - `Origin`, which browsers send along, must be this server's own.
    - `Sec-Fetch-Site`: from other sites, other ports included, only navigation by a link is allowed.
    - Pages may load from, connect to, and send forms to, this server only: Prefect's `/docs` would load code from a
      CDN, and a text that a page shows as Markdown may contain an image of another server.
    - `credentials`, if given, must be in `Authorization`, for every path.
    - `IDENTITY` proves to the process that started the server, and so knows its mark, that this server answers.
    """

    def __init__(self, app: ASGIApp, *, port: int, mark: str, credentials: str | None) -> None:
        self._app = app
        self._hosts = {f"{name}:{port}".encode() for name in NAMES}
        own = " ".join(f"{scheme}://{name}:{port}" for scheme in ("http", "ws") for name in NAMES)
        self._policy = _POLICY.format(own=own).encode()
        self._mark = mark
        self._credentials = credentials

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
        elif (reason := self._refusal(scope)) is not None:
            await _refuse(scope, receive, send, 403, reason)
        elif scope["type"] == "http" and scope["path"] == IDENTITY:
            challenge = parse_qs(scope["query_string"].decode("latin-1")).get("challenge", [""])[0]
            await _answer(send, 200, proof(self._mark, challenge))
        elif self._credentials and not matches(_only(scope, b"authorization"), self._credentials):
            await _refuse(scope, receive, send, 401, "the name and the password of this project's servers are needed")
        else:
            await self._app(scope, receive, self._with_content_policy(send))

    def _with_content_policy(self, send: Send) -> Send:
        """Add a policy that keeps browsers from loading anything from, or sending data to, other servers."""

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), (CONTENT_POLICY, self._policy)]}
            await send(message)

        return answer

    def _refusal(self, scope: Scope) -> str | None:
        """Return why a request is refused, whatever its path; None if it is allowed."""
        if _only(scope, b"host") not in self._hosts:
            return "this server answers under its own address only"
        own = b"http://" + (_only(scope, b"host") or b"")  # of the two names, the one that this request used
        if any(origin != own for origin in _all(scope, b"origin")):
            return "this server answers no page of another site"
        sites = _all(scope, b"sec-fetch-site")
        if any(site not in (b"same-origin", b"none") for site in sites) and not _follows_a_link(scope):
            return "this server answers no page of another site"
        return None


def proof(mark: str, challenge: str) -> str:
    """Return the answer to `challenge` that only a process started with `mark` can give."""
    return hmac.new(mark.encode(), challenge.encode(), hashlib.sha256).hexdigest()


def _follows_a_link(scope: Scope) -> bool:
    """Return whether a browser navigates to the page in a window of its own, for a person to see."""
    return (
        scope["type"] == "http"
        and scope["method"] == "GET"
        and _only(scope, b"sec-fetch-mode") == b"navigate"
        and _only(scope, b"sec-fetch-dest") == b"document"
    )


def _all(scope: Scope, name: bytes) -> list[bytes]:
    return [value for header, value in scope["headers"] if header.lower() == name]


def _only(scope: Scope, name: bytes) -> bytes | None:
    """Return the header's value; None if there is none, or more than one: a client must not choose which counts."""
    values = _all(scope, name)
    return values[0] if len(values) == 1 else None


async def _refuse(scope: Scope, receive: Receive, send: Send, status: int, reason: str) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1008, "reason": reason})  # before it is accepted: HTTP 403
    else:
        await _answer(send, status, reason)


async def _answer(send: Send, status: int, text: str) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"x-content-type-options", b"nosniff")]
    if status == 401:
        headers.append((b"www-authenticate", f'Basic realm="{USER}", charset="UTF-8"'.encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text.encode()})
