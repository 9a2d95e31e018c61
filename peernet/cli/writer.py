"""LineWriter: lines to stdout or stderr that never stop the node, even if nobody reads them."""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Callable

import gevent
from gevent.event import Event
from gevent.threadpool import ThreadPool

from peernet.runtime.deadline import Deadline
from peernet.runtime.greenlets import spawn
from peernet.runtime.logs import get_logger
from peernet.runtime.text import printable

logger = get_logger(__name__)

# From here on those who can wait do so, and with them the peers that cause the lines.
SOFT_LIMIT = 1024 * 1024
# From here on lines are dropped: what cannot wait must not fill the memory.
HARD_LIMIT = 4 * SOFT_LIMIT
# What one write of the thread takes, as long as it is whole lines. Only what has not reached it can be dropped.
BATCH = 64 * 1024
# The longest line of text; longer than any of our own. Characters.
MAX_LINE = 4096
# Nobody will ever read there again. Everything else may pass: room is made, a pipe is read.
FINAL = frozenset({errno.EPIPE, errno.EBADF})
# After which pause a write that failed is tried again: soon if somebody only has to read. Seconds.
FULL_PIPE_PAUSE = 0.02
FAILURE_PAUSE = 1.0


class LineWriter:
    """Writes lines in a native thread: a pipe that nobody reads blocks only that thread.

    Args:
        descriptor: where to; it is not closed.
        name: what it is called in the log.
        tell_dropped: the line that says how many are missing in its place.

    Attributes:
        dropped: lines that were given up because too much was waiting already, the oldest first.
        broken: whether the reader has gone; lines are given up silently then.
        failing: whether the last write failed, for example because the disk is full. Nobody waits for that to
            pass, because only lines would come of it, and peers would stand still.
    """

    def __init__(self, descriptor: int, name: str, tell_dropped: Callable[[int], str]) -> None:
        self.dropped = 0
        self.broken = False
        self.failing = False
        self._descriptor = descriptor
        self._name = name
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
        self._greenlet = spawn(f"writer of {name}", self._run)

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
        self._say_whether_there_is_room()
        self._filled.set()

    def wait_for_room(self) -> None:
        """Wait until less than the soft limit is queued, unless writing fails, or until :meth:`hurry` was called."""
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
        while True:  # ends with close(), after all lines: the flag is set once more then
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
        self._write_whole(memoryview(notice + b"".join(batch)))
        self._size -= size
        self._say_whether_there_is_room()

    def _write_whole(self, rest: memoryview) -> None:
        """Write all of it, however often that takes; what has begun is never left torn."""
        while rest and not self.broken:  # ends also with close(), which gives up waiting, and so does its caller
            written, error = self._threads.apply(_write, (self._descriptor, rest))
            rest = rest[written:]
            self._note(error)
            if error and not self.broken:
                gevent.sleep(FULL_PIPE_PAUSE if error == errno.EAGAIN else FAILURE_PAUSE)

    def _note(self, error: int) -> None:
        failed_before, self.failing = self.failing, error not in {0, errno.EAGAIN, *FINAL}
        self.broken = error in FINAL
        self._say_whether_there_is_room()
        if self.failing and not failed_before:
            logger.warning("%s cannot be written (%s); its lines wait for that to pass", self._name, os.strerror(error))

    def _say_whether_there_is_room(self) -> None:
        if self._size > SOFT_LIMIT and self._patient and not self.failing:
            self._room.clear()
        else:
            self._room.set()


def _encoded(line: str) -> bytes:
    return line.encode("utf-8", "backslashreplace") + b"\n"


def _write(descriptor: int, data: memoryview) -> tuple[int, int]:
    """In the native thread. Returns how much was written, and the number of the error that ended it, or 0.

    An error that was raised would be printed by gevent.
    """
    written = 0
    try:
        while written < len(data):
            written += os.write(descriptor, data[written:])
    except OSError as error:
        return written, error.errno or errno.EIO
    return written, 0
