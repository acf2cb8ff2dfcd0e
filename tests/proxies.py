"""A TCP proxy that loses the network at a chosen message, before the server gets it or before its answer comes back."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Event, Lock, Thread


class Proxy:
    """Passes connections on to a port of this machine until it is cut."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._lock = Lock()
        self._sockets: list[socket.socket] = []
        self._text: bytes | None = None
        self._count, self._answered = 0, False
        self.is_cut = Event()
        Thread(target=self._accept, daemon=True).start()

    def cut_at(self, text: bytes, *, count: int, answered: bool) -> None:
        """Lose the network at the `count`-th message with this text: the server gets it if `answered`."""
        self._text, self._count, self._answered = text, count, answered

    def cut(self) -> None:
        """End every connection, and let no new one through."""
        self.is_cut.set()
        with self._lock:
            sockets, self._sockets = self._sockets, []
        for each in sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def heal(self) -> None:
        """Let connections through again."""
        self._text = None
        self.is_cut.clear()

    def close(self) -> None:
        self.cut()
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                if self.is_cut.is_set():
                    client.close()
                    continue
                server = socket.create_connection(("127.0.0.1", self._target))
                lost = Event()  # the next answer of this connection does not arrive
                with self._lock:
                    self._sockets += [client, server]
                Thread(target=self._pass_on, args=(client, server, lost, True), daemon=True).start()
                Thread(target=self._pass_on, args=(server, client, lost, False), daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket, lost: Event, is_request: bool) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if is_request and self._is_due(data):
                    if not self._answered:
                        return self.cut()
                    lost.set()
                elif not is_request and lost.is_set():
                    return self.cut()
                target.sendall(data)
        for each in (source, target):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        return None

    def _is_due(self, data: bytes) -> bool:
        if self._text is None or self._text not in data:
            return False
        self._count -= 1
        return self._count == 0


@contextmanager
def proxy(target: int) -> Iterator[Proxy]:
    made = Proxy(target)
    try:
        yield made
    finally:
        made.close()
