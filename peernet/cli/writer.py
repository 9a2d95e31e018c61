"""LineWriter: lines to stdout or stderr that never stop the node, even if nobody reads them."""

from __future__ import annotations

import os
from collections import deque

import gevent
from gevent.event import Event
from gevent.threadpool import ThreadPool

from peernet.deadline import Deadline
from peernet.greenlets import spawn

# From here on those who can wait do so, and with them the peers that cause the lines.
SOFT_LIMIT = 1024 * 1024
# From here on lines are dropped: what cannot wait must not fill the memory.
HARD_LIMIT = 4 * SOFT_LIMIT


class LineWriter:
    """Writes lines in a native thread: a pipe that nobody reads blocks only that thread.

    Args:
        descriptor: where to; it is not closed.

    Attributes:
        dropped: lines that were given up because too much was waiting already.
        broken: whether the reader has gone; lines are given up silently then.
    """

    def __init__(self, descriptor: int) -> None:
        self.dropped = 0
        self.broken = False
        self._descriptor = descriptor
        self._lines: deque[bytes] = deque()
        self._size = 0
        self._closed = False
        self._patient = True
        self._filled = Event()
        self._room = Event()
        self._room.set()
        self._threads = ThreadPool(1)
        self._greenlet = spawn(f"writer {descriptor}", self._run)

    def put(self, line: str) -> None:
        """Queue a line. Never waits; beyond the hard limit the line is dropped and counted."""
        data = line.encode("utf-8", "backslashreplace") + b"\n"
        if self.broken or self._closed:
            return
        if self._size and self._size + len(data) > HARD_LIMIT:
            self.dropped += 1
            return
        self._lines.append(data)
        self._size += len(data)
        if self._size > SOFT_LIMIT and self._patient:
            self._room.clear()
        self._filled.set()

    def wait_for_room(self) -> None:
        """Wait until less than the soft limit is queued, or until :meth:`hurry` was called."""
        self._room.wait()

    def hurry(self) -> None:
        """Let nobody wait for room any more: the end is near."""
        self._patient = False
        self._room.set()

    def write(self, text: str) -> None:
        """For :class:`logging.StreamHandler`: as :meth:`put`."""
        if text.strip():
            self.put(text.rstrip("\n"))

    def flush(self) -> None:
        """For :class:`logging.StreamHandler`: nothing to do."""

    def close(self, timeout: float) -> bool:
        """Take no more lines, and write those that wait. Returns whether all were written in time."""
        self._closed = True
        self.hurry()
        self._filled.set()
        deadline = Deadline(timeout)
        self._greenlet.join(deadline.remaining)
        done = bool(self._greenlet.dead)
        if done:
            self._threads.kill()
        return done

    def _run(self) -> None:
        while True:
            self._filled.wait()
            self._filled.clear()
            while self._lines:
                self._write_some()
            if self._closed:
                return

    def _write_some(self) -> None:
        batch = b"".join(self._lines)
        self._lines.clear()
        if not self._threads.apply(_write_whole, (self._descriptor, batch)):
            self.broken = True
        self._size -= len(batch)
        if self._size <= SOFT_LIMIT:
            self._room.set()
        gevent.sleep(0)


def _write_whole(descriptor: int, data: bytes) -> bool:
    """In the native thread. Returns whether somebody still reads; an error would be printed by gevent."""
    rest = memoryview(data)
    try:
        while rest:
            rest = rest[os.write(descriptor, rest) :]
    except OSError:
        return False
    return True
