"""Outbox: packets of one channel on their way into its transport."""

from __future__ import annotations

from collections.abc import Callable

import gevent
from gevent.event import Event

from peernet.config import NetworkConfig
from peernet.errors import TransportError
from peernet.runtime import clock
from peernet.transport.base import RECORD_SIZE, Transport

# Up to here packets that wait are joined into one write, and a part that is larger
# is written where it lies; beyond it a copy costs more than another system call.
LARGE = 32 * 1024
# With this much waiting the write is not put off until the sender pauses, so that
# the receiver works while the sender still encodes.
EAGER = 64 * 1024
# No more than about this is joined at once: sessions keep the packets, and the copy comes on top.
JOIN = 256 * 1024


class Outbox:
    """A bounded queue that empties itself whenever the transport takes bytes.

    Nobody ever waits inside a write: :meth:`flush` writes what the transport takes
    now, and asks to be called again. It runs in the hub or in whichever greenlet
    calls it, and never yields, so that two writers cannot meet.

    Args:
        transport: where the bytes go.
        config: the limits.
        failed: called once, with the error, if the transport breaks.
    """

    __slots__ = (
        "_blocked",
        "_copied",
        "_failed",
        "_large",
        "_parts",
        "_reserve_bytes",
        "_reserve_packets",
        "_room",
        "_scheduled",
        "_transport",
        "_writing",
        "allowed_bytes",
        "bytes",
        "last_progress",
        "max_bytes",
        "max_packets",
        "packets",
    )

    def __init__(self, transport: Transport, config: NetworkConfig, failed: Callable[[TransportError], None]) -> None:
        self._transport = transport
        self.max_packets = config.outbox_packets
        self.max_bytes = self.allowed_bytes = config.outbox_bytes
        self._reserve_packets = config.outbox_reserve_packets
        self._reserve_bytes = config.outbox_reserve_bytes
        self._failed: Callable[[TransportError], None] | None = failed
        self._parts: list[bytes | memoryview] = []
        self._large = 0  # how many of the parts are large
        self._writing: bytes | memoryview = b""  # taken from the parts, not yet taken by the transport
        self._copied = 0  # how much of that was joined, so that it lies here beside what a session keeps
        self._scheduled = False
        self._blocked = False  # the transport took less than offered and will call back
        self._room: Event | None = None
        self.packets = 0
        self.bytes = 0
        self.last_progress = clock.monotonic()

    @property
    def full(self) -> bool:
        """Whether the next packet has to wait."""
        return self.packets >= self.max_packets or self.bytes >= self.max_bytes

    @property
    def needs_leave(self) -> bool:
        """Whether a sender whose packets no session keeps has to ask before the next one; see :meth:`allow`."""
        return self.packets >= self.max_packets or self.bytes >= self.allowed_bytes

    def allow(self, size: int) -> None:
        """Let so many bytes wait before a sender has to ask, though never more than ``max_bytes``."""
        self.allowed_bytes = min(size, self.max_bytes)

    @property
    def copied(self) -> int:
        """Bytes under way that were joined for that: a copy of what a session keeps."""
        return self._copied if self._writing else 0

    @property
    def contents(self) -> list[bytes]:
        """The large contents that wait, which other outboxes may hold too: the same objects after a broadcast."""
        return [part.obj for part in self._parts if isinstance(part, memoryview)]  # type: ignore[misc]  # see put()

    @property
    def broken(self) -> bool:
        """Whether nothing that waits will ever be written."""
        return self._failed is None

    def holds_in_reserve(self, size: int) -> bool:
        """Whether a packet of ``size`` bytes fits into the part that is kept for callbacks."""
        return (
            self.packets < self.max_packets + self._reserve_packets
            and self.bytes + size <= self.max_bytes + self._reserve_bytes
        )

    @property
    def stalled_for(self) -> float:
        """Seconds since the transport last took a byte of those that wait; 0 if none wait."""
        return clock.monotonic() - self.last_progress if self._blocked else 0.0

    def put(self, header: bytes, content: bytes) -> None:
        """Queue one packet, without looking at the limits."""
        if len(content) > LARGE:
            # The header travels with as much content as fills a TLS record with it.
            first = RECORD_SIZE - len(header)
            self._large += 1
            self._parts.append(header + content[:first])
            self.bytes += RECORD_SIZE
            self.put_frame(memoryview(content)[first:])
        else:
            self.put_frame(header + content)

    def put_frame(self, frame: bytes | memoryview) -> None:
        """:meth:`put` for a packet that is in one part."""
        self._parts.append(frame)
        self.packets += 1
        self.bytes += len(frame)
        if self.bytes >= EAGER:
            self.flush()
        elif not self._scheduled:
            # The first packet leaves at once; those that follow before the hub has its
            # turn leave together.
            self._scheduled = True
            gevent.get_hub().loop.run_callback(self._flush_scheduled)
            self.flush()

    def flush(self) -> None:
        """Write what the transport takes now."""
        if self._blocked or self._failed is None:
            return
        try:
            # Ends: each turn shortens what is to be written, or leaves. Nobody adds to it meanwhile, because no turn
            # lets another greenlet run.
            while self._writing or self._parts:
                if not self._writing:
                    self._writing = memoryview(self._take())
                count = self._transport.send(self._writing)
                if not count:
                    self._blocked = True
                    self.last_progress = clock.monotonic()
                    self._transport.when_writable(self.on_writable)
                    return
                self._writing = self._writing[count:] or b""  # an empty view would keep the packet
                self.bytes -= count
                self.last_progress = clock.monotonic()
        except TransportError as error:
            failed, self._failed = self._failed, None
            if self._room is not None:
                self._room.set()  # whoever waits for room finds out
            failed(error)
        finally:
            self._tell_of_room()

    def on_writable(self) -> None:
        """The transport takes bytes again."""
        self._blocked = False
        self.flush()

    def wait_for_room(self, timeout: float | None) -> bool:
        """Wait until the outbox is half empty, or for ``timeout`` seconds. Returns whether it is not full."""
        self.flush()
        if self.full and self._failed is not None:
            if self._room is None:
                self._room = Event()
            self._room.clear()
            self._room.wait(timeout)
        return not self.full

    def wait_until_empty(self, timeout: float | None) -> bool:
        """Wait until everything is written. Returns whether it is."""
        with gevent.Timeout(timeout, False):  # type: ignore[arg-type]  # documented: ends in silence
            # Ends: room is told of at each write and at the end of the transport, and the timeout ends it in any case.
            while self.bytes and self._failed is not None:
                if self._room is None:
                    self._room = Event()
                self._room.clear()
                self._room.wait()
        return not self.bytes

    def close(self) -> None:
        """Take no more part in the transport's life; whoever waits for room finds out."""
        self._failed = None
        self._parts.clear()
        self._writing = b""
        self.packets = self.bytes = 0
        if self._room is not None:
            self._room.set()

    def _flush_scheduled(self) -> None:
        self._scheduled = False
        self.flush()

    def _take(self) -> bytes | memoryview:
        """The next bytes to write: one large part, or small ones before the next large one."""
        parts = self._parts
        if not self._large and self.bytes <= JOIN:
            data = b"".join(parts)
            parts.clear()
            self.packets = 0
            self._copied = len(data)
            return data
        if isinstance(parts[0], memoryview):
            self._large -= 1
            self.packets -= 1
            self._copied = 0
            return parts.pop(0)
        count = self._count_small(parts)
        data = b"".join(parts[:count])
        self._copied = len(data)
        del parts[:count]
        if parts and isinstance(parts[0], memoryview):
            count -= 1  # the last one is the beginning of the large content
        self.packets -= count
        return data

    @staticmethod
    def _count_small(parts: list[bytes | memoryview]) -> int:
        """How many parts to join, at least one: up to the next large one, or up to the limit."""
        size = 0
        for index, part in enumerate(parts):
            if size >= JOIN or isinstance(part, memoryview):
                return index
            size += len(part)
        return len(parts)

    def _tell_of_room(self) -> None:
        if self._room is None or self._room.is_set():
            return
        if 2 * self.packets <= self.max_packets and 2 * self.bytes <= self.max_bytes:
            self._room.set()
