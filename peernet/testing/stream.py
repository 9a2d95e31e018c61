"""One direction of a connection through a proxy: from one socket to the other, with faults on the way."""

from __future__ import annotations

import math
import random
import time
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from typing import Protocol

import gevent
from gevent import socket
from gevent.event import Event as Flag
from gevent.queue import Queue

from peernet.testing.faults import Direction, Faults
from peernet.transport.base import READ_SIZE

# So much waits for its time at most, in reads: with a latency of 50 ms that is 20 MB/s.
UNDER_WAY = 16
# A limited bandwidth is kept in steps of this length. Seconds.
STEP = 0.02


class StreamOwner(Protocol):
    """What a stream needs of the connection that it is a direction of."""

    counters: Counter[str]

    def on_cut(self) -> None: ...

    def on_source_lost(self, stream: Stream) -> None: ...

    def on_sink_lost(self, stream: Stream) -> None: ...

    def on_over(self) -> None: ...


class Stream:
    """Takes bytes from one socket and gives them to another.

    Attributes:
        direction: which of the two of its connection it is.
        passed: how many bytes it has given on.
        over: whether nothing more comes from the source.
        discards: whether it throws away what still comes.
    """

    def __init__(
        self,
        owner: StreamOwner,
        direction: Direction,
        source: socket.socket,
        sink: socket.socket,
        faults: Faults,
        seed: object,
    ) -> None:
        self._owner = owner
        self.direction = direction
        self._source = source
        self._sink = sink
        # One for each, so that which bits are flipped does not depend on when bytes come.
        self._jitters = random.Random(f"{seed} {direction.value} jitter")
        self._flips = random.Random(f"{seed} {direction.value} flips")
        self._under_way: Queue[tuple[float, bytes]] = Queue(UNDER_WAY)
        self._due = 0.0
        self._flows = Flag()
        self.passed = 0
        self.over = False
        self.discards = False
        self.faults = faults

    @property
    def faults(self) -> Faults:
        """What happens to the bytes from now on."""
        return self._faults

    @faults.setter
    def faults(self, faults: Faults) -> None:
        self._faults = faults
        self._bit = 1 << self._flips.randrange(8)
        self._next_flip = self.passed + self._distance()
        if faults.stalled:
            self._flows.clear()
        else:
            self._flows.set()

    def cut_after(self, count: int) -> None:
        """Reset the connection when ``count`` more bytes have passed; in the middle of a frame, most likely."""
        self.faults = replace(self.faults, cut_at=self.passed + count)

    def read(self) -> None:
        """Take from the source until it ends."""
        data = b"more"
        while data:
            self._flows.wait()
            try:
                data = self._source.recv(READ_SIZE)
            except OSError:
                self._owner.on_source_lost(self)
                return
            self._due = max(self._due, time.monotonic() + self._delay())
            self._under_way.put((self._due, data))

    def write(self) -> None:
        """Give to the sink what was read, when its time has come."""
        while True:
            due, data = self._under_way.get()
            late = due - time.monotonic()
            if late > 0:
                gevent.sleep(late)
            self._flows.wait()
            if not data:
                self._end()
                return
            if not self._pass_on(memoryview(data)):
                return

    def finish(self) -> None:
        """Tell the sink that nothing more follows; throw away what still comes."""
        self.discards = True
        with suppress(OSError):  # it has gone itself
            self._sink.shutdown(socket.SHUT_WR)

    def _end(self) -> None:
        self.over = True
        if self.faults.swallow_fin:
            self._owner.counters["swallowed"] += 1
        else:
            self.finish()
        self._owner.on_over()

    def _pass_on(self, data: memoryview) -> bool:
        """Returns whether the connection goes on."""
        while data:
            self._flows.wait()
            if self._is_cut():
                return False
            portion = data[: self._portion()]
            data = data[len(portion) :]
            self._give(self._harm(portion))
            self.passed += len(portion)
            self._owner.counters["bytes_" + self.direction.value] += len(portion)
            if self._is_cut():
                return False
            self._pause(len(portion))
        return True

    def _is_cut(self) -> bool:
        """Cut the connection if this is the place. Returns whether it was."""
        if self.faults.cut_at is None or self.passed < self.faults.cut_at:
            return False
        self._owner.on_cut()
        return True

    def _give(self, data: bytes | memoryview) -> None:
        if self.discards:
            return
        try:
            self._sink.sendall(data)
        except OSError:
            if not self.discards:
                self.discards = True
                self._owner.on_sink_lost(self)

    def _portion(self) -> int:
        """How many bytes may go with the next write."""
        faults, most = self.faults, READ_SIZE
        if faults.dribble is not None:
            most = 1
        elif faults.bandwidth is not None:
            most = max(1, min(most, int(faults.bandwidth * STEP)))
        return most if faults.cut_at is None else min(most, faults.cut_at - self.passed)

    def _pause(self, count: int) -> None:
        faults = self.faults
        if faults.dribble is not None:
            gevent.sleep(faults.dribble)
        elif faults.bandwidth is not None:
            gevent.sleep(count / faults.bandwidth)

    def _delay(self) -> float:
        faults = self.faults
        return faults.latency + (self._jitters.uniform(0, faults.jitter) if faults.jitter else 0.0)

    def _harm(self, data: memoryview) -> bytes | memoryview:
        """The same bytes, with the bits flipped that are to be."""
        places = self._flips_before(self.passed + len(data))
        if not places:
            return data
        harmed = bytearray(data)
        for place, bit in places:
            harmed[place - self.passed] ^= bit
        self._owner.counters["flips"] += len(places)
        return bytes(harmed)

    def _flips_before(self, end: int) -> list[tuple[int, int]]:
        """Offset and bit of each flip among the bytes that pass now."""
        places = []
        if self.faults.flip_at is not None and self.passed <= self.faults.flip_at < end:
            places.append((self.faults.flip_at, self._bit))
        while self._next_flip < end:
            places.append((int(self._next_flip), 1 << self._flips.randrange(8)))
            self._next_flip += 1 + self._distance()
        return places

    def _distance(self) -> float:
        """How many bytes stay whole before the next one is harmed: a geometric distribution."""
        probability = self.faults.flip_probability
        if not probability:
            return math.inf
        if probability == 1:
            return 0
        return int(math.log(1 - self._flips.random()) / math.log1p(-probability))
