"""Saving files of state while the node runs: one save at a time, none cut short, each with what is true by then."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

import gevent
from gevent.lock import BoundedSemaphore

from peernet.errors import HomeError
from peernet.runtime.greenlets import OwnedGroup, spawn
from peernet.runtime.logs import get_logger
from peernet.runtime.routines import NetworkRoutines

logger = get_logger(__name__)

# How often such a file is written if its content has changed. Seconds.
SAVE_INTERVAL = 10.0

Content = TypeVar("Content")


class KeptFile(Generic[Content]):
    """A file that follows something that changes.

    Whoever asks for a save has it when :meth:`save` returns: it waits for the one under way, which
    may have read the content before the change, and then reads it anew.

    Args:
        path: where.
        write: ``write(path, content)``; runs in a native thread.
        read: the content as it is now; runs in the hub's thread, and must not wait.
    """

    def __init__(self, path: Path, write: Callable[[Path, Content], None], read: Callable[[], Content]) -> None:
        self._path = path
        self._write = write
        self._read = read
        self._lock = BoundedSemaphore(1)
        self._saves = OwnedGroup()

    def save(self) -> None:
        """Save what is true now.

        Raises:
            HomeError: it cannot be written.
        """
        # In a greenlet of its own, because a thread cannot be interrupted: were the caller killed,
        # it would give up the lock, and a later save could be overtaken by this one.
        greenlet = spawn(f"save {self._path.name}", self._save)
        self._saves.add(greenlet)
        error = greenlet.get()
        if error is not None:
            raise error

    def settle(self) -> None:
        """Wait until no save is under way."""
        self._saves.join()

    def _save(self) -> BaseException | None:
        with self._lock:
            return gevent.get_hub().threadpool.apply(self._attempt, (self._read(),))

    def _attempt(self, content: Content) -> BaseException | None:
        """In the native thread. What it raised would be printed there, or end the thread, so it is returned."""
        try:
            self._write(self._path, content)
        except BaseException as error:
            return error
        return None


class FollowingFile(Generic[Content]):
    """A file that is written now and then, and at the end, if there is something new to write.

    Args:
        what: what is in it, for the log.
        path, write, read: as of :class:`KeptFile`.
        revision: tells which state the content is in; another number after every change.
    """

    def __init__(
        self,
        what: str,
        path: Path,
        write: Callable[[Path, Content], None],
        read: Callable[[], Content],
        revision: Callable[[], int],
    ) -> None:
        self._what = what
        self._write = write
        self._read = read
        self._revision = revision
        self._file = KeptFile(path, self._write_revision, lambda: (self._revision(), self._read()))
        self._saved = revision()

    def start(self, routines: NetworkRoutines) -> None:
        """Save changes now and then, for as long as the routines run."""
        routines.add(f"save {self._what}", SAVE_INTERVAL, self.save)

    def save(self) -> None:
        """Save what has changed since the last time; if that fails, the log says so."""
        self._file.settle()
        if self._saved == self._revision():
            return
        try:
            self._file.save()
        except HomeError as error:
            logger.error("the %s are not saved: %s", self._what, error)

    def save_now(self) -> None:
        """Save what is true now.

        Raises:
            HomeError: it cannot be written.
        """
        self._file.save()

    def _write_revision(self, path: Path, content: tuple[int, Content]) -> None:
        revision, current = content
        self._write(path, current)
        self._saved = revision
        logger.debug("the %s are saved", self._what)
