"""LineWriter: lines to stdout or stderr that never stop the node, even if nobody reads them."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable

from gevent.event import Event
from gevent.threadpool import ThreadPool

from peernet.runtime.deadline import Deadline
from peernet.runtime.greenlets import spawn
from peernet.runtime.text import printable

# From here on those who can wait do so, and with them the peers that cause the lines.
SOFT_LIMIT = 1024 * 1024
# From here on lines are dropped: what cannot wait must not fill the memory.
HARD_LIMIT = 4 * SOFT_LIMIT
# What one write of the thread takes, as long as it is whole lines. Only what has not reached it can be dropped.
BATCH = 64 * 1024
# The longest line of text; longer than any of our own. Characters.
MAX_LINE = 4096


class LineWriter:
    """Writes lines in a native thread: a pipe that nobody reads blocks only that thread.

    Args:
        descriptor: where to; it is not closed.
        tell_dropped: the line that says how many are missing in its place.

    Attributes:
        dropped: lines that were given up because too much was waiting already, the oldest first.
        broken: whether the reader has gone; lines are given up silently then.
    """

    def __init__(self, descriptor: int, tell_dropped: Callable[[int], str]) -> None:
        self.dropped = 0
        self.broken = False
        self._descriptor = descriptor
        self._tell_dropped = tell_dropped
        self._dropped_told = 0
        self._unfinished = ""  # of a line of text
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
        """Queue a line. Never waits; beyond the hard limit the oldest that wait are dropped and counted."""
        data = _encoded(line)
        if self.broken or self._closed:
            return
        while self._lines and self._size + len(data) > HARD_LIMIT:
            self._size -= len(self._lines.popleft())
            self.dropped += 1
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

    def write(self, text: str) -> int:
        """For logs, and as ``sys.stderr``: as :meth:`put`, with nothing left in it that acts on a terminal."""
        *lines, self._unfinished = (self._unfinished + text).split("\n")
        for line in lines:
            if line:
                self.put(printable(line, MAX_LINE))
        self._unfinished = self._unfinished[: MAX_LINE + 1]
        return len(text)

    def flush(self) -> None:
        """For logs, and as ``sys.stderr``: nothing to do."""

    def close(self, timeout: float) -> bool:
        """Take no more lines, and write those that wait. Returns whether all were written in time."""
        if self._unfinished:
            self.write("\n")
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
        missing, self._dropped_told = self.dropped - self._dropped_told, self.dropped
        batch = [self._lines.popleft()]
        size = len(batch[0])
        while self._lines and size + len(self._lines[0]) <= BATCH:
            size += len(self._lines[0])
            batch.append(self._lines.popleft())
        notice = _encoded(self._tell_dropped(missing)) if missing else b""
        if not self._threads.apply(_write_whole, (self._descriptor, notice + b"".join(batch))):
            self.broken = True
        self._size -= size
        if self._size <= SOFT_LIMIT:
            self._room.set()


def _encoded(line: str) -> bytes:
    return line.encode("utf-8", "backslashreplace") + b"\n"


def _write_whole(descriptor: int, data: bytes) -> bool:
    """In the native thread. Returns whether somebody still reads; an error would be printed by gevent."""
    rest = memoryview(data)
    try:
        while rest:
            rest = rest[os.write(descriptor, rest) :]
    except OSError:
        return False
    return True
