"""Saving files of state while the node runs: one save at a time, none cut short, each with what is true by then."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

import gevent
from gevent.lock import BoundedSemaphore
from gevent.pool import Group

from peernet.cli.home import Home
from peernet.cli.state import save_peers
from peernet.errors import HomeError
from peernet.greenlets import spawn
from peernet.known_peers import KnownPeer, KnownPeers
from peernet.logs import get_logger
from peernet.network import PeerNetwork

logger = get_logger(__name__)

# How often the address book is written if it has changed. Seconds.
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
        self._saves = Group()

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

    def _save(self) -> Exception | None:
        with self._lock:
            return gevent.get_hub().threadpool.apply(self._attempt, (self._read(),))

    def _attempt(self, content: Content) -> Exception | None:
        """In the native thread. What it raised would be printed there by gevent, so it is returned."""
        try:
            self._write(self._path, content)
        except Exception as error:
            return error
        return None


class AddressBookFile:
    """Writes the known peers to the home folder, now and then and at the end."""

    def __init__(self, home: Home, known_peers: KnownPeers) -> None:
        self._file = KeptFile(home.peers_file, self._write, self._read)
        self._known_peers = known_peers
        self._revision = self._revision_read = self._revision_saved = 0

    def start(self, network: PeerNetwork) -> None:
        """Take note of changes, and save them while the network runs."""
        network.peer_added.add(self._note)
        network.peer_removed.add(self._note)
        network.routines.add("save known peers", SAVE_INTERVAL, self.save)

    def save(self) -> None:
        """Save what has changed since the last time; if that fails, the log says so."""
        self._file.settle()
        if self._revision_saved == self._revision:
            return
        try:
            self._file.save()
        except HomeError as error:
            logger.error("the known peers are not saved: %s", error)

    def _note(self, *_: object) -> None:
        self._revision += 1

    def _read(self) -> list[KnownPeer]:
        self._revision_read = self._revision
        return list(self._known_peers)

    def _write(self, path: Path, peers: list[KnownPeer]) -> None:
        save_peers(path, peers)
        self._revision_saved = self._revision_read
