"""A pair of connected transports in one process: real waiting and back-pressure, no socket."""

from __future__ import annotations

from collections.abc import Callable

import gevent
from gevent.event import Event

from peernet.errors import TransportError
from peernet.transport.base import READ_SIZE

CAPACITY = 256 * 1024  # about what a loopback socket holds


class _Pipe:
    """Bytes on their way in one direction."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.ended = False
        self.readable = Event()
        self.when_writable: list[Callable[[], None]] = []

    def write(self, data: bytes | memoryview) -> int:
        if self.ended:
            raise TransportError("the connection is closed")
        taken = bytes(data[: CAPACITY - len(self.data)])
        self.data += taken
        self.readable.set()
        return len(taken)

    def read(self, size: int) -> bytes:
        self.readable.wait()
        taken = bytes(self.data[:size])
        del self.data[:size]
        if not self.data and not self.ended:
            self.readable.clear()
        self.wake_writers()
        return taken

    def end(self) -> None:
        self.ended = True
        self.readable.set()
        self.wake_writers()

    def wake_writers(self) -> None:
        callbacks, self.when_writable = self.when_writable, []
        for callback in callbacks:
            gevent.get_hub().loop.run_callback(callback)


class MemoryTransport:
    """One end of a connection in memory; see :func:`memory_pair`."""

    def __init__(self, incoming: _Pipe, outgoing: _Pipe, remote: tuple[str, int], identifier: str | None) -> None:
        self.remote = remote
        self.identifier = identifier
        self._incoming = incoming
        self._outgoing = outgoing

    @property
    def drained(self) -> bool:
        return not self._incoming.data

    def recv(self) -> bytes:
        return self._incoming.read(READ_SIZE)

    def recv_into(self, buffer: memoryview) -> int:
        data = self._incoming.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def send(self, data: bytes | memoryview) -> int:
        return self._outgoing.write(data)

    def unread(self) -> int:
        return len(self._incoming.data)

    def crowded(self) -> bool:
        return len(self._incoming.data) >= CAPACITY

    def ended(self) -> bool:
        return self._incoming.ended and not self._incoming.data

    def when_writable(self, callback: Callable[[], None]) -> None:
        self._outgoing.when_writable.append(callback)

    def finish_writing(self) -> None:
        self._outgoing.end()

    def abort(self) -> None:
        self._incoming.data.clear()
        self._incoming.end()
        self._outgoing.end()

    def close(self) -> None:
        self.abort()


def memory_pair(dialler: str | None = None, listener: str | None = None) -> tuple[MemoryTransport, MemoryTransport]:
    """Two connected transports: the dialling end and the listening end.

    Args:
        dialler: identifier that the listening end shall take as proven.
        listener: identifier that the dialling end shall take as proven.
    """
    there, back = _Pipe(), _Pipe()
    return (
        MemoryTransport(back, there, ("memory", 1), listener),
        MemoryTransport(there, back, ("memory", 2), dialler),
    )
