"""A TCP proxy between two peers that cuts their connections, politely or not."""

from __future__ import annotations

import struct
from typing import Any

import gevent
from gevent import socket
from gevent.pool import Group

from peernet.address import PeerAddress
from peernet.transport.tcp import listen

RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close with RST, and throw away what is under way


class CuttingProxy:
    """Forwards every connection to ``target``, a ``host:port``.

    Attributes:
        accepted: how many connections were made.
        refuses: whether new connections are reset at once.
    """

    def __init__(self, target: str) -> None:
        host, port = target.rsplit(":", 1)
        self._target = (host, int(port))
        self._listener = listen(PeerAddress("127.0.0.1", 0))
        self._pairs: list[tuple[Any, Any]] = []
        self._frozen: set[Any] = set()
        self._left: float = float("inf")
        self._greenlets = Group()
        self.accepted = 0
        self.refuses = False
        self._greenlets.spawn(self._accept)

    @property
    def endpoint(self) -> str:
        return "127.0.0.1:" + str(self._listener.getsockname()[1])

    def reset(self) -> None:
        """End all connections with a reset; bytes under way are lost."""
        pairs, self._pairs = self._pairs, []
        for pair in pairs:
            for sock in pair:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                sock.close()

    def cut_after(self, count: int) -> None:
        """Reset when so many bytes more have passed: in the middle of a frame, most likely."""
        self._left = count

    def freeze(self) -> None:
        """Let nothing pass any more on the connections there are, and tell nobody: they are half-open."""
        for pair in self._pairs:
            self._frozen.update(pair)

    def stop(self) -> None:
        self._greenlets.kill()
        self._listener.close()
        self.reset()

    def _accept(self) -> None:
        while True:
            near, _ = self._listener.accept()
            self.accepted += 1
            if self.refuses:
                near.close()
                continue
            far = socket.create_connection(self._target)  # gevent's own, which waits cooperatively
            self._pairs.append((near, far))
            for source, sink in ((near, far), (far, near)):
                self._greenlets.spawn(self._forward, source, sink)

    def _forward(self, source: Any, sink: Any) -> None:
        try:
            while data := source.recv(16 * 1024):
                while source in self._frozen:
                    gevent.sleep(0.05)
                self._left -= len(data)
                if self._left < 0:
                    sink.sendall(data[: self._left])  # the beginning of it
                    self._left = float("inf")
                    self.reset()
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            return  # one end is gone; the other is told by reset(), or by its own end
