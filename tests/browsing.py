"""A headless Chromium for tests of pages: opens a file at a width, in a theme or as print, and says what it saw.

It speaks the browser's own protocol (CDP) over one web socket. REFIT_SCREENSHOTS=FOLDER keeps what was looked at.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect

NAMES = ("chromium", "chromium-browser", "google-chrome")
SECONDS = 60  # for one answer, on a busy machine
VIEWS: dict[str, Any] = {
    "narrow": {"width": 400},
    "wide": {"width": 1100},
    "dark": {"width": 1100, "dark": True},
    "narrow and dark": {"width": 400, "dark": True},
    "printed": {"width": 700, "paper": True},
}

SCRIPT = Path(__file__).with_suffix(".js").read_text(encoding="utf-8")
CHECKS = ("overflow", "without_hint", "overlaps", "nameless", "faint")  # functions of the script


@dataclass
class Seen:
    """What a page did while it was looked at."""

    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)


class Browser:
    """One tab."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket, self._id, self._session = socket, 0, ""
        self.seen = Seen()
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self._call(f"{domain}.enable")

    def open(self, page: Path, *, width: int, height: int = 900, dark: bool = False, paper: bool = False) -> Seen:
        """Load a page from its file, and wait until it has loaded."""
        self.seen = Seen()
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self._call("Emulation.setDeviceMetricsOverride", **metrics)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._call("Emulation.setEmulatedMedia", media="print" if paper else "", features=[scheme])
        self._loaded = False
        self._call("Page.navigate", url=page.resolve().as_uri())
        while not self._loaded:
            self._note(json.loads(self._socket.recv(SECONDS)))
        return self.seen

    def ask(self, expression: str) -> Any:
        """The value of an expression in JavaScript."""
        found = self._call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def faults(self, check: str) -> list[str]:
        """What one of the checks of browsing.js finds on the page."""
        found: list[str] = self.ask(f"({SCRIPT}).{check}()")
        return found

    def press(self, key: str) -> None:
        for kind in ("rawKeyDown", "keyUp"):
            code = {"Tab": 9, "ArrowRight": 39, "ArrowLeft": 37}[key]
            self._call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code)

    def type(self, text: str) -> None:
        self._call("Input.insertText", text=text)

    def wait_for(self, expression: str) -> Any:
        """The value of an expression as soon as it is true."""
        ends = time.monotonic() + SECONDS
        while not (found := self.ask(expression)):
            assert time.monotonic() < ends, expression
            time.sleep(0.2)
        return found

    def picture(self) -> bytes:
        """The whole page as PNG, in base64."""
        return str(self._call("Page.captureScreenshot", captureBeyondViewport=True)["data"]).encode()

    def _call(self, method: str, **params: Any) -> dict[str, Any]:
        self._id += 1
        session = {"sessionId": self._session} if self._session else {}
        self._socket.send(json.dumps({"id": self._id, "method": method, "params": params, **session}))
        while True:
            message = json.loads(self._socket.recv(SECONDS))
            if message.get("id") == self._id:
                assert "error" not in message, (method, message["error"])
                result: dict[str, Any] = message["result"]
                return result
            self._note(message)

    def _note(self, message: dict[str, Any]) -> None:
        method, params = message.get("method"), message.get("params", {})
        if method == "Network.requestWillBeSent":
            self.seen.requests.append(params["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.seen.complaints.append(str(params["exceptionDetails"].get("exception", params)))
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning"):
            self.seen.complaints.append(str(params["args"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.seen.complaints.append(str(params["entry"]["text"]))
        elif method == "Page.loadEventFired":
            self._loaded = True


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser of its own profile, ended afterwards. Skips the test where there is none."""
    program = next((path for name in NAMES if (path := shutil.which(name))), None)
    if program is None:
        pytest.skip("no Chromium is installed (Debian: apt-get install chromium)")
    with tempfile.TemporaryDirectory(prefix="refit-chromium-", ignore_cleanup_errors=True) as profile:
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
        options += ["--remote-debugging-port=0", "--hide-scrollbars", f"--user-data-dir={profile}", "about:blank"]
        process = subprocess.Popen([program, *options], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        try:
            assert process.stderr
            address = next(
                found[1] for line in process.stderr if (found := re.search(r"listening on (ws://\S+)", line))
            )
            with connect(address, max_size=None) as socket:
                yield Browser(socket)
        finally:
            process.kill()
            process.wait(30)


def looked_at(*pages: Path, checks: Sequence[str] = tuple(CHECKS)) -> list[str]:
    """All that is wrong with pages narrow, wide, dark and printed; each with the page and the view it was seen in."""
    wrong = []
    with chromium() as browser:
        for page, (name, view) in product(pages, VIEWS.items()):
            seen, where = browser.open(page, **view), f"{page.name}, {name}"
            wrong += [f"{where}: {check}: {each}" for check in checks for each in browser.faults(check)]
            wrong += [f"{where}: asked for {each}" for each in seen.requests if not each.startswith(("file:", "data:"))]
            wrong += [f"{where}: {each}" for each in seen.complaints]
            if folder := os.environ.get("REFIT_SCREENSHOTS"):
                (Path(folder) / f"{page.stem}-{name}.png").write_bytes(base64.b64decode(browser.picture()))
    return wrong
