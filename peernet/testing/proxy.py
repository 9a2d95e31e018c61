"""FaultProxy: a TCP proxy that delays, limits, stalls, harms and cuts what passes through it."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from types import TracebackType

from gevent import socket
from gevent.pool import Group

from peernet.peers.address import PeerAddress
from peernet.runtime.greenlets import spawn
from peernet.testing.faults import Direction, Faults
from peernet.testing.stream import Stream
from peernet.transport.listener import Listener

# SO_LINGER: close with RST, and throw away what is under way.
_RESET = struct.pack("ii", 1, 0)
_HERE = PeerAddress("127.0.0.1", 0)


class ProxiedConnection:
    """One connection through a :class:`FaultProxy`.

    Where a method takes a ``direction``, ``None`` means both.

    Attributes:
        upstream: the :class:`Stream` to the target; its ``faults`` can be set.
        downstream: the :class:`Stream` from the target.
        closed: whether the proxy has let go of both sides.
        counters: those of the proxy.
    """

    def __init__(self, proxy: FaultProxy, near: socket.socket, far: socket.socket, seed: object) -> None:
        self._proxy = proxy
        self._near = near
        self._far = far
        self.counters = proxy.counters
        self.closed = False
        for sock in (near, far):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # a byte at a time stays one
        self.upstream = Stream(self, Direction.UPSTREAM, near, far, proxy.upstream, seed)
        self.downstream = Stream(self, Direction.DOWNSTREAM, far, near, proxy.downstream, seed)
        self._greenlets = [
            spawn(f"proxy {stream.direction.value}", work) for stream in self for work in (stream.read, stream.write)
        ]
        for greenlet in self._greenlets:
            proxy.greenlets.add(greenlet)

    def __iter__(self) -> Iterator[Stream]:
        """Its two streams."""
        return iter((self.upstream, self.downstream))

    def set_faults(self, faults: Faults, direction: Direction | None = None) -> None:
        """What happens to its bytes from now on."""
        for stream in self._streams(direction):
            stream.faults = faults

    def reset(self, direction: Direction | None = None) -> None:
        """End it with a reset; bytes under way are lost.

        Args:
            direction: the reset travels only this way, and the other side is told nothing: it may write on, and
                what it writes is thrown away.
        """
        self.counters["resets"] += 1
        self._reset(direction)

    def end(self, direction: Direction | None = None) -> None:
        """End it in order, as if one side had said that it writes no more (FIN)."""
        self.counters["ends"] += 1
        for stream in self._streams(direction):
            stream.finish()

    def freeze(self, direction: Direction | None = None) -> None:
        """Let nothing pass any more, and tell nobody: it is half-open."""
        self.counters["freezes"] += 1
        for stream in self._streams(direction):
            stream.faults = replace(stream.faults, stalled=True)

    def thaw(self, direction: Direction | None = None) -> None:
        """Let everything pass again, what has waited meanwhile first."""
        self.counters["thaws"] += 1
        for stream in self._streams(direction):
            stream.faults = replace(stream.faults, stalled=False)

    def cut_after(self, count: int, direction: Direction | None = None) -> None:
        """Reset it when ``count`` more bytes have passed in one direction; in the middle of a frame, most likely."""
        for stream in self._streams(direction):
            stream.cut_after(count)

    # What its streams call.

    def on_cut(self) -> None:
        """A stream has come to where it is to be cut."""
        self.counters["cuts"] += 1
        self._reset()

    def on_source_lost(self, stream: Stream) -> None:
        """A side was reset, or closed by ourselves."""
        if stream.over:
            return  # it is this side that has closed it
        stream.over = True
        if not stream.faults.swallow_fin and not stream.discards:
            self._reset()
            return
        self.counters["swallowed"] += 1
        self.on_over()

    def on_sink_lost(self, stream: Stream) -> None:
        """A side takes no more bytes."""
        back = self.downstream if stream is self.upstream else self.upstream
        if not back.faults.swallow_fin:
            self._reset()

    def on_over(self) -> None:
        """A stream has ended."""
        if self.upstream.over and self.downstream.over:
            self._close()

    def _reset(self, direction: Direction | None = None) -> None:
        if direction is None:
            self._close(with_reset=True)
            return
        stream, back = (self.upstream, self.downstream)[:: 1 if direction is Direction.UPSTREAM else -1]
        stream.discards = back.over = True
        _reset_socket(self._far if direction is Direction.UPSTREAM else self._near)
        self.on_over()

    def _close(self, with_reset: bool = False) -> None:
        if self.closed:
            return
        self.closed = True
        for sock in (self._near, self._far):
            _reset_socket(sock) if with_reset else sock.close()
        for greenlet in self._greenlets:
            greenlet.kill(block=False)
        self._proxy.forget(self)

    def _streams(self, direction: Direction | None) -> list[Stream]:
        return [stream for stream in self if direction in (None, stream.direction)]


class FaultProxy:
    """Forwards every connection to a target, with the faults it is told to make. A context manager.

    Its methods act on the connections there are, and what is set with :meth:`set_faults` on those to come as well.
    Where a method takes a ``direction``, ``None`` means both.

    Args:
        target: ``host:port``, or a whole peer address, whose identifier :attr:`address` then names.
        faults: what happens to the bytes of each direction.
        seed: of all that is random in it.

    Attributes:
        endpoint: ``host:port`` on which it listens.
        address: the same as a peer address.
        upstream: the :class:`Faults` of connections to come, from the dialling side to the target.
        downstream: the same for the other direction.
        refuses: whether new connections are reset at once.
        counters: how many of what has happened: ``accepted``, ``refused`` and ``unreachable`` (the target was)
            connections, ``bytes_upstream``, ``bytes_downstream``, ``resets``, ``cuts``, ``ends``, ``freezes``,
            ``thaws``, ``swallowed`` ends, ``flips``.
        greenlets: those that it runs.
    """

    def __init__(self, target: str, faults: Faults | None = None, *, seed: object = 0) -> None:
        where = PeerAddress.parse(target)
        self._target = (where.host, where.port)
        self._seed = seed
        self._connections: list[ProxiedConnection] = []
        self._connecting: set[socket.socket] = set()
        self.greenlets = Group()
        self.upstream = self.downstream = faults or Faults()
        self.counters: Counter[str] = Counter()
        self.refuses = False
        self._listener = Listener(_HERE, self._accepted)
        self.endpoint = self._listener.address.endpoint
        self.address = str(PeerAddress(self._listener.address.host, self._listener.address.port, where.identifier))

    def __enter__(self) -> FaultProxy:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    @property
    def connections(self) -> list[ProxiedConnection]:
        """Those that live, the oldest first; a copy."""
        return list(self._connections)

    def set_faults(self, faults: Faults, direction: Direction | None = None) -> None:
        """What happens to the bytes of all connections from now on, those to come included."""
        if direction is not Direction.DOWNSTREAM:
            self.upstream = faults
        if direction is not Direction.UPSTREAM:
            self.downstream = faults
        for connection in self.connections:
            connection.set_faults(faults, direction)

    def reset(self, direction: Direction | None = None) -> None:
        """:meth:`ProxiedConnection.reset` for every connection."""
        for connection in self.connections:
            connection.reset(direction)

    def end(self, direction: Direction | None = None) -> None:
        """:meth:`ProxiedConnection.end` for every connection."""
        for connection in self.connections:
            connection.end(direction)

    def freeze(self, direction: Direction | None = None) -> None:
        """:meth:`ProxiedConnection.freeze` for every connection there is."""
        for connection in self.connections:
            connection.freeze(direction)

    def thaw(self, direction: Direction | None = None) -> None:
        """:meth:`ProxiedConnection.thaw` for every connection."""
        for connection in self.connections:
            connection.thaw(direction)

    def cut_after(self, count: int, direction: Direction | None = None) -> None:
        """:meth:`ProxiedConnection.cut_after` for every connection there is."""
        for connection in self.connections:
            connection.cut_after(count, direction)

    def stop(self) -> None:
        """Listen no more and reset every connection. Nothing is left of it. Idempotent."""
        self._listener.stop()
        self.reset()
        self.greenlets.kill()
        for sock in self._connecting:
            _reset_socket(sock)
        self._connecting.clear()

    def forget(self, connection: ProxiedConnection) -> None:
        """A connection has ended."""
        self._connections.remove(connection)

    def _accepted(self, near: socket.socket, remote: tuple[str, int]) -> None:
        self.counters["accepted"] += 1
        if self.refuses:
            self.counters["refused"] += 1
            _reset_socket(near)
            return
        self._connecting.add(near)
        seed = f"{self._seed} {self.counters['accepted']}"
        self.greenlets.add(spawn("proxy connecting", self._connect, near, seed))

    def _connect(self, near: socket.socket, seed: str) -> None:
        try:
            far = socket.create_connection(self._target, timeout=None)
        except OSError:
            self.counters["unreachable"] += 1
            self._connecting.discard(near)
            _reset_socket(near)
            return
        self._connecting.discard(near)
        self._connections.append(ProxiedConnection(self, near, far, seed))


def _reset_socket(sock: socket.socket) -> None:
    with suppress(OSError):  # it is closed already
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    sock.close()
