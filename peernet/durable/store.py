"""DurableStore: the packets of the durable outbox, in an SQLite file."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from peernet.durable.database import open_database, unusable
from peernet.durable.packet import Backlog, NewPacket, Setback, StoredPacket
from peernet.errors import ForkedError
from peernet.reasons import Reason
from peernet.runtime import clock

# SQLite takes at most 999 parameters (SQLITE_MAX_VARIABLE_NUMBER before 3.32).
PARAMETERS = 500


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
        self._database = open_database(self.path)

    def close(self) -> None:
        """Close the file. Idempotent."""
        with suppress(sqlite3.Error):
            self._database.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """What happens in this context is on the disk when it ends; if it ends with an error, nothing is.

        Raises:
            StorageError: the file cannot be written or read.
            ForkedError: this is a child of the process that has opened it.
        """
        database = self._database
        if database.forked:
            raise ForkedError(f"the durable outbox {self.path} belongs to the parent of this process")
        try:
            database.execute("BEGIN IMMEDIATE")
            yield
            database.execute("COMMIT")
        except sqlite3.Error as error:
            raise unusable(self.path, error) from error
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
        """The oldest packets for a peer whose number is higher than ``after`` and whose callback has not failed.

        Args:
            peer: its identifier.
            after: a number.
            max_packets: how many at most.
            max_bytes: as many bytes at most, unless the first packet has more.
        """
        rows = self._database.execute(
            "SELECT number, packet_id, kind, body FROM packets "
            "WHERE peer = ? AND aside = 0 AND retry_at IS NULL AND number > ? ORDER BY number LIMIT ?",
            (peer, after, max_packets),
        )
        return _take(rows, max_bytes)

    def load_some(self, numbers: Sequence[int], max_bytes: int) -> list[StoredPacket]:
        """The packets with some numbers, at most :data:`PARAMETERS`, in order. Numbers that are not there are no error.

        Args:
            numbers: of packets.
            max_bytes: as in :meth:`load`.
        """
        some = numbers[:PARAMETERS]
        rows = self._database.execute(
            f"SELECT number, packet_id, kind, body FROM packets WHERE {_among(some)} ORDER BY number", some
        )
        return _take(rows, max_bytes)

    def set_back(self, setbacks: Iterable[Setback], now: float) -> dict[int, bytes]:
        """Note that callbacks have failed. Numbers that are not there are no error.

        Args:
            setbacks: what becomes of each packet.
            now: Unix seconds.

        Returns:
            The ids of the packets that are there, by their numbers.
        """
        found: dict[int, bytes] = {}
        for setback in setbacks:
            aside, retry_at = setback.pause is None, now + (setback.pause or 0.0)
            self._database.execute(
                "UPDATE packets SET attempts = ?, aside = ?, retry_at = ? WHERE number = ?",
                (setback.attempts, aside, retry_at, setback.number),
            )
            found.update(
                self._database.execute("SELECT number, packet_id FROM packets WHERE number = ?", (setback.number,))
            )
        return found

    def failing(self) -> list[tuple[str, int, int, float]]:
        """The packets that are out of the row and not set aside.

        Returns:
            Of each the peer, the number, the attempts, and when it is sent again, in Unix seconds.
        """
        rows = self._database.execute(
            "SELECT peer, number, attempts, retry_at FROM packets WHERE aside = 0 AND retry_at IS NOT NULL"
        )
        return rows.fetchall()

    def retry(self, peer: str | None, now: float) -> dict[str, list[int]]:
        """Have the packets that are set aside for a peer, or for all, sent again; their attempts begin anew.

        Args:
            peer: its identifier.
            now: Unix seconds.

        Returns:
            Their numbers, by their peers.
        """
        found: dict[str, list[int]] = {}
        aside = "FROM packets WHERE aside = 1 AND (? IS NULL OR peer = ?)"
        for whose, number in self._database.execute(f"SELECT peer, number {aside} ORDER BY number", (peer, peer)):
            found.setdefault(whose, []).append(number)
        self._database.execute(
            "UPDATE packets SET aside = 0, attempts = 0, retry_at = ? WHERE aside = 1 AND (? IS NULL OR peer = ?)",
            (now, peer, peer),
        )
        return found

    def remove(self, numbers: Sequence[int]) -> tuple[int, int]:
        """Remove packets; numbers that are not there are no error. Returns how many were there, and their bytes."""
        packets = size = 0
        for start in range(0, len(numbers), PARAMETERS):
            some = numbers[start : start + PARAMETERS]
            where = f"WHERE {_among(some)}"
            found = self._database.execute(f"SELECT count(*), total(size) FROM packets {where}", some).fetchone()
            packets, size = packets + found[0], size + int(found[1])
            self._database.execute(f"DELETE FROM packets {where}", some)
        return packets, size

    def numbers(self, peer: str) -> list[int]:
        """The numbers of all packets for a peer, in order."""
        rows = self._database.execute("SELECT number FROM packets WHERE peer = ? ORDER BY number", (peer,))
        return [row[0] for row in rows]

    def count_aside(self, peer: str) -> int:
        """How many packets for a peer are set aside."""
        rows = self._database.execute("SELECT count(*) FROM packets WHERE peer = ? AND aside = 1", (peer,))
        return int(rows.fetchone()[0])

    def backlogs(self) -> dict[str, Backlog]:
        """What is stored, by the peer's identifier, the one that waits for longest first."""
        found = {
            peer: Backlog(packets, size, oldest, set(), aside)
            for peer, packets, size, oldest, aside in self._database.execute(
                "SELECT peer, count(*), sum(size), min(stored_at), sum(aside) FROM packets "
                "GROUP BY peer ORDER BY min(number)"
            )
        }
        for peer, address in self._database.execute("SELECT DISTINCT peer, address FROM packets WHERE address != ''"):
            found[peer].addresses.add(address)
        return found

    def describe(self, peers: Iterable[str]) -> list[dict[str, Any]]:
        """Each packet for some peers as plain values, in order, without the bodies."""
        names = ("number", "peer", "packet_id", "kind", "bytes", "stored_at", "attempts", "aside", "retry_at")
        rows: list[dict[str, Any]] = []
        for peer in peers:
            found = self._database.execute(
                "SELECT number, peer, lower(hex(packet_id)), kind, size, stored_at, attempts, aside, retry_at "
                "FROM packets WHERE peer = ? ORDER BY number",
                (peer,),
            )
            rows += [_described(dict(zip(names, row, strict=True))) for row in found]
        return rows


def describe(store: DurableStore, *, each: bool = False) -> list[dict[str, Any]]:
    """What is in a store as plain values: a row for each peer, or for ``each`` packet."""
    now = clock.wall()
    backlogs = store.backlogs()
    if each:
        return [{**row, "age": _age(row["stored_at"], now)} for row in store.describe(backlogs)]
    return [
        {
            "peer": peer,
            "packets": backlog.packets,
            "aside": backlog.aside,
            "bytes": backlog.bytes,
            "oldest": backlog.oldest,
            "age": _age(backlog.oldest, now),
        }
        for peer, backlog in backlogs.items()
    ]


def _age(stored_at: float, now: float) -> float:
    """Seconds since then; none if the clock was set back."""
    return round(max(0.0, now - stored_at), 1)


def _described(row: dict[str, Any]) -> dict[str, Any]:
    """A packet as plain values. No other reason than this one keeps a packet that the peer has refused."""
    aside, failed = bool(row["aside"]), row["attempts"] > 0
    return {
        **row,
        "aside": aside,
        "reason": str(Reason.HANDLER_FAILED) if failed else None,
        "retry_at": None if aside else row["retry_at"],
    }


def _among(numbers: Sequence[int]) -> str:
    """The condition that a packet has one of some numbers, which are its parameters."""
    return f"number IN ({','.join('?' * len(numbers))})"


def _take(rows: sqlite3.Cursor, max_bytes: int) -> list[StoredPacket]:
    """The first packets of a result: as many bytes at most, unless the first packet has more."""
    found: list[StoredPacket] = []
    size = 0
    with closing(rows):
        for row in rows:
            size += len(row[3])
            if found and size > max_bytes:
                break
            found.append(StoredPacket(*row))
    return found
