"""TCP as a simulation has it: two streams of pieces that need time to arrive, and are lost on a cut link.

What is lost is sent again: 0.2 seconds later, and after twice as long each time (RFC 6298, with the
shortest wait of Linux); so a link that was cut for some seconds may stay silent for about as
many more. After 20 seconds without an acknowledgement the sender's end breaks (RFC 5482, see
:data:`~peernet.transport.tcp.USER_TIMEOUT`); the other end is told only when it sends something itself.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

import gevent
from gevent.event import Event

from peernet.errors import TransportError
from peernet.runtime import clock
from peernet.transport.base import READ_SIZE
from peernet.transport.memory import CAPACITY
from peernet.transport.tcp import USER_TIMEOUT

FIRST_RETRANSMISSION = 0.2  # seconds
PATIENCE = USER_TIMEOUT / 1000

END = b""  # the piece behind the last byte


class Link(Protocol):
    """What streams need of the wire that carries them."""

    def is_up(self, one: str, other: str) -> bool: ...

    def draw_latency(self) -> float: ...

    def after(self, seconds: float, function: Callable[..., None], *args: object) -> None: ...

    def note(self, stream: Stream) -> None: ...

    def forget(self, stream: Stream) -> None: ...


class Stream:
    """The pieces on their way in one direction, between two hosts.

    Attributes:
        window: how many bytes may still be sent.
        when_writable: called when there may be more.
    """

    def __init__(self, wire: Link, source: str, target: str) -> None:
        self._wire = wire
        self._hosts = (source, target)
        self._pieces: deque[bytes] = deque()
        self._due = 0.0  # when the youngest piece arrives
        self._stalled_at: float | None = None
        self._taken = 0  # by the receiver, which the sender does not know yet
        self.window = CAPACITY
        self.when_writable: list[Callable[[], None]] = []
        self.sender: SimulatedTcp
        self.receiver: SimulatedTcp

    @property
    def up(self) -> bool:
        """Whether packets get through."""
        return self._wire.is_up(*self._hosts)

    def send(self, piece: bytes) -> None:
        """Put a piece on its way."""
        self.window -= len(piece)
        self._pieces.append(piece)
        if self._stalled_at is None:
            now = clock.monotonic()
            self._due = max(self._due, now + self._wire.draw_latency())
            self._wire.after(self._due - now, self._arrive)

    def take(self, count: int) -> None:
        """The receiver has made room for so many bytes."""
        self._taken += count
        if self.up:
            self._tell_window()
        else:
            self._wire.note(self)

    def drop(self) -> None:
        """Send none of it again."""
        self._pieces.clear()
        self._stalled_at = None
        self._wire.forget(self)
        self.tell_writers()

    def reset(self) -> None:
        """Tell the receiver, if it can be reached now, that the sender knows nothing of this connection any more."""
        self.drop()
        if self.up:
            self._wire.after(self._wire.draw_latency(), self.receiver.fail, "the other side has reset it")

    def resume(self) -> None:
        """The link is up again: the next repetition will get through."""
        self._tell_window()
        if self._stalled_at is None:
            self._wire.forget(self)
            return
        waited, next_at = clock.monotonic() - self._stalled_at, FIRST_RETRANSMISSION
        while next_at < waited:
            next_at = 2 * next_at + FIRST_RETRANSMISSION
        self._wire.after(next_at - waited, self._repeat)

    def tell_writers(self) -> None:
        """There may be more room, or never again."""
        callbacks, self.when_writable = self.when_writable, []
        for callback in callbacks:
            gevent.get_hub().loop.run_callback(callback)

    def _arrive(self) -> None:
        if self._stalled_at is not None or not self._pieces:
            return
        if self.up:
            self.receiver.receive(self._pieces.popleft())
        else:
            self._stalled_at = clock.monotonic()
            self._wire.note(self)
            self._wire.after(PATIENCE, self._give_up, self._stalled_at)

    def _repeat(self) -> None:
        if self._stalled_at is None or not self.up:
            return
        self._stalled_at = None
        self._wire.forget(self)
        while self._pieces:
            self.receiver.receive(self._pieces.popleft())

    def _give_up(self, stalled_at: float) -> None:
        if self._stalled_at == stalled_at:
            self.drop()
            self.sender.fail("nothing was acknowledged for too long")

    def _tell_window(self) -> None:
        self.window, self._taken = self.window + self._taken, 0
        self.tell_writers()


class SimulatedTcp:
    """One end of a connection, as a :class:`~peernet.transport.base.Transport`.

    Attributes:
        identifier: who is at the other end, once that is proven.
    """

    def __init__(self, incoming: Stream, outgoing: Stream, remote: tuple[str, int]) -> None:
        self.remote = remote
        self.identifier: str | None = None
        self._incoming = incoming
        self._outgoing = outgoing
        incoming.receiver = outgoing.sender = self
        self._arrived = bytearray()
        self._readable = Event()
        self._finished = False  # sending
        self._ended = False  # receiving
        self._closed = False
        self._error = ""

    # As a transport.

    @property
    def drained(self) -> bool:
        return not self._arrived

    def recv(self) -> bytes:
        return self.recv_exactly(READ_SIZE, least=1)

    def recv_into(self, buffer: memoryview) -> int:
        data = self.recv_exactly(len(buffer), least=1)
        buffer[: len(data)] = data
        return len(data)

    def recv_exactly(self, most: int, *, least: int) -> bytes:
        """From ``least`` to ``most`` bytes; waits for them. Fewer at the end of the stream.

        Raises:
            TransportError: the connection broke.
        """
        while len(self._arrived) < least and not self._ended and not self._error:
            self._readable.clear()
            self._readable.wait()
        if self._error and len(self._arrived) < least and not self._ended:
            raise self._broken()
        data = bytes(self._arrived[:most])
        del self._arrived[:most]
        self._incoming.take(len(data))
        return data

    def send(self, data: bytes | memoryview) -> int:
        if self._error:
            raise self._broken()
        if self._finished:
            raise TransportError("the connection is closed")
        piece = bytes(data[: self._outgoing.window])
        if piece:
            self._outgoing.send(piece)
        return len(piece)

    def unread(self) -> int:
        return len(self._arrived)

    def crowded(self) -> bool:
        return len(self._arrived) >= CAPACITY // 4

    def ended(self) -> bool:
        return self._ended or bool(self._error)

    def when_writable(self, callback: Callable[[], None]) -> None:
        self._outgoing.when_writable.append(callback)

    def finish_writing(self) -> None:
        if not self._finished:
            self._finished = True
            self._outgoing.tell_writers()
            if not self._error:
                self._outgoing.send(END)

    def abort(self) -> None:
        self.finish_writing()
        self._end()

    def close(self) -> None:
        if self._closed:
            return
        self.abort()
        self._closed = True
        if self._arrived:  # which nobody will read: the other side shall know (RFC 1122 4.2.2.13)
            self._outgoing.reset()

    # What the streams call.

    def receive(self, piece: bytes) -> None:
        """A piece has arrived."""
        if self._closed or self._error:
            self._outgoing.reset()
        elif piece == END:
            self._end()
        elif self._ended:
            self._incoming.take(len(piece))  # the reader has gone
        else:
            self._arrived += piece
            self._readable.set()

    def fail(self, error: str) -> None:
        """The connection is broken, as far as this end knows."""
        self._error = self._error or error
        self._outgoing.drop()
        self._readable.set()

    def vanish(self) -> None:
        """The host of this end has failed."""
        self._closed = self._finished = True
        self.fail("this machine has failed")

    def _end(self) -> None:
        self._ended = True
        self._readable.set()

    def _broken(self) -> TransportError:
        return TransportError(f"the connection broke: {self._error}")
