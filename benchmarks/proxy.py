"""A distant server: a proxy that delays what it passes on, and counts round trips."""

from __future__ import annotations

import contextlib
import queue
import socket
import threading
import time
from types import TracebackType

from sqlalchemy import URL


class Proxy:
    """Stands between clients and a server, on a TCP port of its own.

    A round trip is counted by the message with which a client asks for the answers to
    all that it has sent, Query or Sync; it sends nothing more until it has them.

    :param url: the server.
    :param delay: the seconds that a round trip takes longer; what the client sends is
        held back.
    """

    def __init__(self, url: URL, delay: float) -> None:
        self.round_trips = 0
        self._server = url
        self._delay = delay
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        # The proxy reads the messages, so they are not encrypted.
        self.url = url.set(
            host="127.0.0.1",
            port=self._listener.getsockname()[1],
            query={"sslmode": "disable", "gssencmode": "disable"},
        )

    def __enter__(self) -> Proxy:
        self._start(self._accept)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for each in [self._listener, *self._sockets]:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits for it
            each.close()

    @staticmethod
    def _start(function: object, *args: object) -> None:
        threading.Thread(target=function, args=args, daemon=True).start()  # type: ignore[arg-type]

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = self._connect()
                for each in (client, server):
                    if each.family != socket.AF_UNIX:
                        each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._sockets += [client, server]
                late: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()
                self._start(self._hold, client, late)
                self._start(self._release, late, server)
                self._start(self._pass_on, server, client)

    def _connect(self) -> socket.socket:
        host = self._server.host or self._server.query.get("host") or "localhost"
        port = self._server.port or self._server.query.get("port") or 5432
        assert isinstance(host, str)
        if not host.startswith("/"):
            return socket.create_connection((host, int(str(port))))
        server = socket.socket(socket.AF_UNIX)
        server.connect(f"{host}/.s.PGSQL.{port}")
        return server

    def _hold(self, client: socket.socket, late: queue.SimpleQueue) -> None:  # type: ignore[type-arg]
        buffer, started, last = bytearray(), False, b""
        with contextlib.suppress(OSError):
            while data := client.recv(65536):
                late.put((time.perf_counter() + self._delay, data))
                buffer += data
                while True:
                    start = 1 if started else 0  # the first message has no type
                    if len(buffer) < start + 4:
                        break
                    end = start + int.from_bytes(buffer[start : start + 4], "big")
                    if len(buffer) < end:
                        break
                    if started:
                        # A Flush after a Sync asks for nothing more.
                        asks = b"QS" if last == b"S" else b"QSH"
                        last = bytes(buffer[:1])
                        self.round_trips += last in asks
                    started = True
                    del buffer[:end]
        late.put((0.0, b""))

    def _release(self, late: queue.SimpleQueue, server: socket.socket) -> None:  # type: ignore[type-arg]
        with contextlib.suppress(OSError):
            while True:
                due, data = late.get()
                if not data:
                    server.shutdown(socket.SHUT_WR)
                    return
                time.sleep(max(0.0, due - time.perf_counter()))
                server.sendall(data)

    @staticmethod
    def _pass_on(server: socket.socket, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(65536):
                client.sendall(data)
            client.shutdown(socket.SHUT_WR)
