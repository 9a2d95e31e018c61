"""The SQLite file of the durable outbox: how it is opened, checked, brought up to date, and set aside when damaged."""

from __future__ import annotations

import ctypes
import os
import sqlite3
import time
from pathlib import Path

from peernet.errors import StorageError
from peernet.runtime.forks import let_go_in_children
from peernet.runtime.logs import get_logger

logger = get_logger(__name__)

VERSION = 2
# Tells our files from those of other programs (PRAGMA application_id): "peer" in ASCII.
APPLICATION_ID = 0x70656572
# How long to wait for another process that has the file. Seconds.
PATIENCE = 1.0

# EXCLUSIVE: one process at a time, and no shared memory beside the file. WAL with FULL: what is
# committed is in the log and synced to the disk (https://www.sqlite.org/pragma.html#pragma_synchronous),
# so that it survives a power cut; NORMAL would only survive the end of the process.
PREPARE = """
PRAGMA locking_mode = EXCLUSIVE;
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
"""

# The columns of the first version, and those that came with the second one. `retry_at` is empty until the callback
# for the packet has failed; from then on the packet is out of the row.
FIRST_COLUMNS = "number, peer, address, packet_id, kind, body, size, stored_at"
COLUMNS = f"{FIRST_COLUMNS}, attempts, aside, retry_at"

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
    stored_at REAL NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    aside INTEGER NOT NULL DEFAULT 0,
    retry_at REAL
);
CREATE INDEX packets_in_turn ON packets (peer, aside, retry_at, number);
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {VERSION};
COMMIT;
"""

UPGRADE = f"""
BEGIN;
ALTER TABLE packets ADD COLUMN attempts INTEGER NOT NULL DEFAULT 0;
ALTER TABLE packets ADD COLUMN aside INTEGER NOT NULL DEFAULT 0;
ALTER TABLE packets ADD COLUMN retry_at REAL;
DROP INDEX IF EXISTS packets_of_peer;
CREATE INDEX packets_in_turn ON packets (peer, aside, retry_at, number);
PRAGMA user_version = {VERSION};
COMMIT;
"""


class Database(sqlite3.Connection):
    """The open file. In a forked child nobody uses it, not even to close it (SQLite, "How To Corrupt", 2.6).

    Attributes:
        forked: whether this is a child process, and the file its parent's.
    """

    forked = False

    @classmethod
    def open(cls, path: Path) -> Database:
        """A connection in autocommit mode that any thread may use, one at a time."""
        database = sqlite3.connect(path, timeout=PATIENCE, isolation_level=None, check_same_thread=False, factory=cls)
        let_go_in_children(database, cls._note_fork)
        return database

    def close(self) -> None:
        if not self.forked:
            super().close()

    def _note_fork(self) -> None:
        self.forked = True
        # It would be closed with its last reference. So there is one more, which nobody gives up.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self))


def open_database(path: Path) -> Database:
    """Open the file; see :class:`~peernet.durable.store.DurableStore`.

    Raises:
        StorageError: it cannot be used.
    """
    try:
        return _open(path)
    except sqlite3.OperationalError as error:
        raise unusable(path, error) from error
    except sqlite3.DatabaseError as error:
        _set_aside(path, error)
        return _open(path)


def _open(path: Path) -> Database:
    _make_private(path)
    database = Database.open(path)
    try:
        database.executescript(PREPARE)
        _check(path, database)
    except BaseException:
        database.close()
        raise
    return database


def _make_private(path: Path) -> None:
    """Make the file with its mode before SQLite does, whose log file then gets the same mode."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o600)
        try:
            if hasattr(os, "fchmod"):
                os.fchmod(descriptor, 0o600)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise StorageError(
            f"the durable outbox {path} cannot be opened ({error.strerror}); check its folder"
        ) from error


def _check(path: Path, database: sqlite3.Connection) -> None:
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
        raise StorageError(f"{path} is the database of another program; choose another path")
    elif version > VERSION:
        raise StorageError(f"{path} was written by a newer peernet; update this one")
    elif version == VERSION:
        _check_content(database, COLUMNS)
    else:
        _check_content(database, FIRST_COLUMNS)
        database.executescript(UPGRADE)


def _check_content(database: sqlite3.Connection, columns: str) -> None:
    verdict = database.execute("PRAGMA quick_check(1)").fetchone()[0]
    if verdict != "ok":
        raise sqlite3.DatabaseError(verdict)
    try:
        database.execute(f"SELECT {columns} FROM packets LIMIT 1")
    except sqlite3.OperationalError as error:  # the table or a column is not there
        raise sqlite3.DatabaseError(str(error)) from error


def _set_aside(path: Path, error: Exception) -> None:
    """Keep a damaged file where nothing overwrites it, and say so."""
    kept = path.with_name(f"{path.name}.damaged-{int(time.time())}")
    try:
        path.replace(kept)  # its log went into it, or away, when it was closed
    except OSError as failure:
        raise StorageError(f"{path} is damaged and cannot be moved away ({failure.strerror}); remove it") from failure
    logger.warning(
        "%s is damaged (%s) and was set aside as %s; going on with an empty durable outbox",
        path,
        error,
        kept.name,
    )


def unusable(path: Path, error: sqlite3.Error) -> StorageError:
    """What to tell of an error of SQLite that is no damage of the file."""
    if "locked" in str(error):
        return StorageError(f"the durable outbox {path} is used by another process; choose another path")
    return StorageError(f"the durable outbox {path} cannot be used ({error}); make room, or check its folder")
