"""DurableStore: the packets of the durable outbox, in an SQLite file."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peernet.errors import StorageError
from peernet.runtime.logs import get_logger

logger = get_logger(__name__)

VERSION = 1
# Tells our files from those of other programs (PRAGMA application_id): "peer" in ASCII.
APPLICATION_ID = 0x70656572
# How long to wait for another process that has the file. Seconds.
PATIENCE = 1.0
# SQLite takes at most 999 parameters (SQLITE_MAX_VARIABLE_NUMBER before 3.32).
PARAMETERS = 500

# EXCLUSIVE: one process at a time, and no shared memory beside the file. WAL with FULL: what is
# committed is in the log and synced to the disk (https://www.sqlite.org/pragma.html#pragma_synchronous),
# so that it survives a power cut; NORMAL would only survive the end of the process.
PREPARE = """
PRAGMA locking_mode = EXCLUSIVE;
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
"""

# AUTOINCREMENT: a number is never used again, so that an old receipt never means a new packet.
CREATE = f"""
BEGIN;
CREATE TABLE packets (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    peer TEXT NOT NULL,
    address TEXT NOT NULL,
    packet_id BLOB NOT NULL,
    kind TEXT NOT NULL,
    body BLOB NOT NULL,
    size INTEGER NOT NULL,
    stored_at REAL NOT NULL
);
CREATE INDEX packets_of_peer ON packets (peer, number);
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {VERSION};
COMMIT;
"""


@dataclass(frozen=True)
class NewPacket:
    """A packet to be stored.

    Attributes:
        peer: identifier of who gets it.
        address: ``host:port`` to dial for it; empty if none was given.
        packet_id: the same each time it is sent.
        kind: the name of its kind.
        body: its body as :func:`~peernet.wire.packets.encode_body` writes it: tag, length and content.
        stored_at: Unix seconds.
    """

    peer: str
    address: str
    packet_id: bytes
    kind: str
    body: bytes
    stored_at: float


@dataclass(frozen=True)
class StoredPacket:
    """A packet in the store; ``number`` gives the order, the rest is as in :class:`NewPacket`."""

    number: int
    packet_id: bytes
    kind: str
    body: bytes


@dataclass
class Backlog:
    """What is stored for one peer.

    Attributes:
        packets: how many packets.
        bytes: the bytes of their bodies.
        oldest: when the oldest was stored, in Unix seconds.
        addresses: where to dial the peer, as whoever stored them has said.
    """

    packets: int
    bytes: int
    oldest: float
    addresses: set[str]


class DurableStore:
    """Packets in an SQLite file, which only one process has open at a time.

    Everything here blocks. It may be called from any thread, but only by one at a time. All that
    happens in one :meth:`transaction` is kept, or nothing of it.

    Args:
        path: the file; made, readable by its owner only, if it does not exist. One that is damaged is set
            aside with a warning, and a new one is begun.

    Raises:
        StorageError: it cannot be used.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            self._database = self._open()
        except sqlite3.OperationalError as error:
            raise self._unusable(error) from error
        except sqlite3.DatabaseError as error:
            self._set_aside(error)
            self._database = self._open()

    def close(self) -> None:
        """Close the file. Idempotent."""
        with suppress(sqlite3.Error):
            self._database.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """What happens in this context is on the disk when it ends; if it ends with an error, nothing is.

        Raises:
            StorageError: the file cannot be written or read.
        """
        database = self._database
        try:
            database.execute("BEGIN IMMEDIATE")
            yield
            database.execute("COMMIT")
        except sqlite3.Error as error:
            raise self._unusable(error) from error
        finally:
            if database.in_transaction:
                with suppress(sqlite3.Error):
                    database.execute("ROLLBACK")

    def add(self, packet: NewPacket) -> int:
        """Store a packet behind all others. Returns its number."""
        cursor = self._database.execute(
            "INSERT INTO packets (peer, address, packet_id, kind, body, size, stored_at) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                packet.peer,
                packet.address,
                packet.packet_id,
                packet.kind,
                packet.body,
                len(packet.body),
                packet.stored_at,
            ),
        )
        assert cursor.lastrowid is not None  # after every INSERT
        return cursor.lastrowid

    def load(self, peer: str, after: int, max_packets: int, max_bytes: int) -> list[StoredPacket]:
        """The oldest packets for a peer whose number is higher than ``after``.

        Args:
            peer: its identifier.
            after: a number.
            max_packets: how many at most.
            max_bytes: as many bytes at most, unless the first packet has more.
        """
        found: list[StoredPacket] = []
        size = 0
        rows = self._database.execute(
            "SELECT number, packet_id, kind, body FROM packets WHERE peer = ? AND number > ? ORDER BY number LIMIT ?",
            (peer, after, max_packets),
        )
        with closing(rows):
            for row in rows:
                size += len(row[3])
                if found and size > max_bytes:
                    break
                found.append(StoredPacket(*row))
        return found

    def remove(self, numbers: Sequence[int]) -> tuple[int, int]:
        """Remove packets; numbers that are not there are no error. Returns how many were there, and their bytes."""
        packets = size = 0
        for start in range(0, len(numbers), PARAMETERS):
            some = numbers[start : start + PARAMETERS]
            where = f"WHERE number IN ({','.join('?' * len(some))})"
            found = self._database.execute(f"SELECT count(*), total(size) FROM packets {where}", some).fetchone()
            packets, size = packets + found[0], size + int(found[1])
            self._database.execute(f"DELETE FROM packets {where}", some)
        return packets, size

    def numbers(self, peer: str) -> list[int]:
        """The numbers of all packets for a peer."""
        return [row[0] for row in self._database.execute("SELECT number FROM packets WHERE peer = ?", (peer,))]

    def backlogs(self) -> dict[str, Backlog]:
        """What is stored, by the peer's identifier, the one that waits for longest first."""
        found = {
            peer: Backlog(packets, size, oldest, set())
            for peer, packets, size, oldest in self._database.execute(
                "SELECT peer, count(*), sum(size), min(stored_at) FROM packets GROUP BY peer ORDER BY min(number)"
            )
        }
        for peer, address in self._database.execute("SELECT DISTINCT peer, address FROM packets WHERE address != ''"):
            found[peer].addresses.add(address)
        return found

    def describe(self, peers: Iterable[str]) -> list[dict[str, Any]]:
        """Each packet for some peers as plain values, in order, without the bodies."""
        names = ("number", "peer", "packet_id", "kind", "bytes", "stored_at")
        rows: list[dict[str, Any]] = []
        for peer in peers:
            found = self._database.execute(
                "SELECT number, peer, lower(hex(packet_id)), kind, size, stored_at FROM packets WHERE peer = ? "
                "ORDER BY number",
                (peer,),
            )
            rows += [dict(zip(names, row, strict=True)) for row in found]
        return rows

    # Opening.

    def _open(self) -> sqlite3.Connection:
        self._make_private()
        database = sqlite3.connect(self.path, timeout=PATIENCE, isolation_level=None, check_same_thread=False)
        try:
            database.executescript(PREPARE)
            self._check(database)
        except BaseException:
            database.close()
            raise
        return database

    def _make_private(self) -> None:
        """Make the file with its mode before SQLite does, whose log file then gets the same mode."""
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o600)
            try:
                if hasattr(os, "fchmod"):
                    os.fchmod(descriptor, 0o600)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise StorageError(
                f"the durable outbox {self.path} cannot be opened ({error.strerror}); check its folder"
            ) from error

    def _check(self, database: sqlite3.Connection) -> None:
        """
        Raises:
            StorageError: the file is not for us to touch.
            sqlite3.DatabaseError: it is damaged.
        """
        application, version, tables = (
            database.execute(question).fetchone()[0]
            for question in ("PRAGMA application_id", "PRAGMA user_version", "SELECT count(*) FROM sqlite_master")
        )
        if not application and not version and not tables:
            database.executescript(CREATE)
        elif application != APPLICATION_ID:
            raise StorageError(f"{self.path} is the database of another program; choose another path")
        elif version > VERSION:
            raise StorageError(f"{self.path} was written by a newer peernet; update this one")
        else:
            self._check_content(database)

    def _check_content(self, database: sqlite3.Connection) -> None:
        verdict = database.execute("PRAGMA quick_check(1)").fetchone()[0]
        if verdict != "ok":
            raise sqlite3.DatabaseError(verdict)
        try:
            database.execute(
                "SELECT number, peer, address, packet_id, kind, body, size, stored_at FROM packets LIMIT 1"
            )
        except sqlite3.OperationalError as error:  # the table or a column is not there
            raise sqlite3.DatabaseError(str(error)) from error

    def _set_aside(self, error: Exception) -> None:
        """Keep a damaged file where nothing overwrites it, and say so."""
        kept = self.path.with_name(f"{self.path.name}.damaged-{int(time.time())}")
        try:
            self.path.replace(kept)  # its log went into it, or away, when it was closed
        except OSError as failure:
            raise StorageError(
                f"{self.path} is damaged and cannot be moved away ({failure.strerror}); remove it"
            ) from failure
        logger.warning(
            "%s is damaged (%s) and was set aside as %s; going on with an empty durable outbox",
            self.path,
            error,
            kept.name,
        )

    def _unusable(self, error: sqlite3.Error) -> StorageError:
        if "locked" in str(error):
            return StorageError(f"the durable outbox {self.path} is used by another process; choose another path")
        return StorageError(f"the durable outbox {self.path} cannot be used ({error}); make room, or check its folder")


def describe(store: DurableStore, *, each: bool = False) -> list[dict[str, Any]]:
    """What is in a store as plain values: a row for each peer, or for ``each`` packet."""
    now = time.time()
    backlogs = store.backlogs()
    if each:
        return [{**row, "age": _age(row["stored_at"], now)} for row in store.describe(backlogs)]
    return [
        {
            "peer": peer,
            "packets": backlog.packets,
            "bytes": backlog.bytes,
            "oldest": backlog.oldest,
            "age": _age(backlog.oldest, now),
        }
        for peer, backlog in backlogs.items()
    ]


def _age(stored_at: float, now: float) -> float:
    """Seconds since then; none if the clock was set back."""
    return round(max(0.0, now - stored_at), 1)
