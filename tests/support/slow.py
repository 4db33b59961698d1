"""A slow way to a server: what a client sends passes at so many bytes a second, answers at once."""

from __future__ import annotations

import contextlib
import socket
import threading
import time


class SlowWay:
    """Listens on `port` and passes on to a port of this machine; `connections` counts who came."""

    def __init__(self, to: int, rate: int) -> None:
        self._to, self._rate = to, rate
        self.connections = 0
        self._sock = socket.socket()
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # the rest waits at the client
        self._sock.bind(("127.0.0.1", 0))
        self._sock.listen(8)
        self.port: int = self._sock.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._sock.accept()
                self.connections += 1
                threading.Thread(target=self._carry, args=(client,), daemon=True).start()

    def _carry(self, client: socket.socket) -> None:
        server = socket.create_connection(("127.0.0.1", self._to))
        with client, server:
            up = threading.Thread(target=_pass, args=(client, server, self._rate), daemon=True)
            up.start()
            _pass(server, client, 0)
            up.join()

    def close(self) -> None:
        """Take nobody any more; connections end with those who made them."""
        self._sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()


def _pass(source: socket.socket, target: socket.socket, rate: int) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(512 if rate else 65536):
            target.sendall(data)
            time.sleep(len(data) / rate if rate else 0)
    for end in (source, target):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
