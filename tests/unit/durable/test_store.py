"""The file of the durable outbox: what it keeps, in which order, and what it does when it is damaged."""

from __future__ import annotations

import logging
import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from peernet.durable.database import VERSION
from peernet.durable.packet import NewPacket, Setback, StoredPacket
from peernet.durable.store import PARAMETERS, DurableStore
from peernet.errors import StorageError

ALICE, BOB = "a" * 52, "b" * 52


def packet(peer: str = ALICE, body: bytes = b"body", number: int = 0, address: str = "") -> NewPacket:
    return NewPacket(peer, address, number.to_bytes(16, "big"), "pure_message", body, 1000.0 + number)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "outbox.db"


@pytest.fixture
def store(path: Path) -> Iterator[DurableStore]:
    store = DurableStore(path)
    yield store
    store.close()


def add(store: DurableStore, *packets: NewPacket) -> list[int]:
    with store.transaction():
        return [store.add(one) for one in packets]


def test_what_is_stored_is_loaded_as_it_was_when_the_file_is_opened_again(path: Path) -> None:
    first = DurableStore(path)
    (number,) = add(first, packet(body=b"\x00\xff", number=7))
    first.close()
    second = DurableStore(path)
    assert second.load(ALICE, 0, 10, 1000) == [StoredPacket(number, (7).to_bytes(16, "big"), "pure_message", b"\0\xff")]
    second.close()


def test_packets_come_in_the_order_in_which_they_were_stored_and_each_peer_has_its_own(store: DurableStore) -> None:
    numbers = add(store, packet(ALICE), packet(BOB), packet(ALICE), packet(BOB))
    assert [one.number for one in store.load(BOB, 0, 10, 1000)] == [numbers[1], numbers[3]]
    assert [one.number for one in store.load(ALICE, numbers[0], 10, 1000)] == [numbers[2]]


def test_no_more_is_loaded_than_was_asked_for_but_always_one(store: DurableStore) -> None:
    add(store, *[packet(body=bytes(100)) for _ in range(5)])
    assert len(store.load(ALICE, 0, 3, 1000)) == 3
    assert len(store.load(ALICE, 0, 10, 250)) == 2
    assert len(store.load(ALICE, 0, 10, 1)) == 1


def test_a_number_is_never_used_again(store: DurableStore) -> None:
    (first,) = add(store, packet())
    store.remove([first])
    assert add(store, packet()) > [first]


@pytest.mark.parametrize("count", [1, PARAMETERS, PARAMETERS + 1, 2 * PARAMETERS])
def test_removing_tells_what_was_there(store: DurableStore, count: int) -> None:
    numbers = add(store, *[packet(body=b"1234") for _ in range(count)])
    assert store.remove([*numbers, 10**6]) == (count, 4 * count)
    assert store.remove(numbers) == (0, 0)
    assert store.numbers(ALICE) == []


def test_the_backlogs_tell_how_much_is_stored_for_whom_since_when_and_where_they_are(store: DurableStore) -> None:
    add(store, packet(BOB, number=1, address="bob:1"), packet(ALICE, number=2), packet(BOB, b"12", 3, "bob:2"))
    backlogs = store.backlogs()
    assert list(backlogs) == [BOB, ALICE]
    assert vars(backlogs[BOB]) == {
        "packets": 2,
        "bytes": 6,
        "oldest": 1001.0,
        "addresses": {"bob:1", "bob:2"},
        "aside": 0,
    }
    assert backlogs[ALICE].addresses == set()


def test_each_packet_can_be_described_without_its_body(store: DurableStore) -> None:
    (number,) = add(store, packet(number=255))
    assert store.describe([ALICE, BOB]) == [
        {
            "number": number,
            "peer": ALICE,
            "packet_id": "00" * 15 + "ff",
            "kind": "pure_message",
            "bytes": 4,
            "stored_at": 1255.0,
            "attempts": 0,
            "aside": False,
            "retry_at": None,
            "reason": None,
        }
    ]


# Packets whose callback fails.


def test_a_packet_that_fails_is_out_of_the_row_until_it_is_asked_for_by_its_number(store: DurableStore) -> None:
    first, second = add(store, packet(number=1), packet(number=2))
    with store.transaction():
        assert store.set_back([Setback(first, 3, 5.0), Setback(10**6, 1, None)], 100.0) == {first: bytes(15) + b"\1"}
    assert [one.number for one in store.load(ALICE, 0, 10, 1000)] == [second]
    assert store.failing() == [(ALICE, first, 3, 105.0)]
    assert [one.packet_id[-1] for one in store.load_some([first, second, 10**6], 1000)] == [1, 2]
    assert [one.number for one in store.load_some([second, first], 1)] == [first]
    row = store.describe([ALICE])[0]
    assert (row["attempts"], row["aside"], row["reason"], row["retry_at"]) == (3, False, "handler_failed", 105.0)


def test_what_is_set_aside_stays_so_when_the_file_is_opened_again_until_it_is_sent_again(path: Path) -> None:
    first = DurableStore(path)
    (number,) = add(first, packet())
    with first.transaction():
        first.set_back([Setback(number, 10, None)], 100.0)
    first.close()
    store = DurableStore(path)
    (row,) = store.describe([ALICE])
    assert (row["attempts"], row["aside"], row["reason"], row["retry_at"]) == (10, True, "handler_failed", None)
    assert (store.backlogs()[ALICE].aside, store.count_aside(ALICE)) == (1, 1)
    assert (store.load(ALICE, 0, 10, 1000), store.failing()) == ([], [])
    with store.transaction():
        assert store.retry(BOB, 200.0) == {}
        assert store.retry(ALICE, 200.0) == {ALICE: [number]}
        assert store.retry(None, 300.0) == {}
    assert store.failing() == [(ALICE, number, 0, 200.0)]
    assert (store.backlogs()[ALICE].aside, store.count_aside(ALICE)) == (0, 0)
    (row,) = store.describe([ALICE])
    assert (row["attempts"], row["aside"], row["reason"]) == (0, False, None)
    store.close()


def test_everything_that_is_set_aside_can_be_sent_again(store: DurableStore) -> None:
    one, two, three = add(store, packet(ALICE), packet(BOB), packet(ALICE))
    with store.transaction():
        store.set_back([Setback(number, 1, None) for number in (one, two, three)], 0.0)
        assert store.retry(None, 1.0) == {ALICE: [one, three], BOB: [two]}


def make_first_version(path: Path) -> None:
    """A file as the first version has written it, with one packet."""
    with sqlite3.connect(path) as database:
        database.executescript(
            "CREATE TABLE packets (number INTEGER PRIMARY KEY AUTOINCREMENT, peer TEXT NOT NULL, "
            "address TEXT NOT NULL, packet_id BLOB NOT NULL, kind TEXT NOT NULL, body BLOB NOT NULL, "
            "size INTEGER NOT NULL, stored_at REAL NOT NULL);"
            "CREATE INDEX packets_of_peer ON packets (peer, number);"
            "PRAGMA application_id = 0x70656572; PRAGMA user_version = 1;"
        )
        database.execute(f"INSERT INTO packets VALUES (5, '{ALICE}', '', x'07', 'pure_message', x'00ff', 2, 1000.0)")
    database.close()


def test_a_file_of_the_first_version_is_brought_up_to_date_with_what_is_in_it(path: Path) -> None:
    make_first_version(path)
    for _ in range(2):
        store = DurableStore(path)
        assert store.load(ALICE, 0, 10, 1000) == [StoredPacket(5, b"\7", "pure_message", b"\0\xff")]
        store.close()
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_damaged_file_of_the_first_version_is_set_aside(path: Path) -> None:
    make_first_version(path)
    damage_tables(path)
    store = DurableStore(path)
    assert store.backlogs() == {}
    store.close()
    assert len(list(path.parent.glob("outbox.db.damaged-*"))) == 1


def test_a_transaction_that_fails_leaves_nothing(store: DurableStore) -> None:
    with pytest.raises(ZeroDivisionError), store.transaction():
        store.remove([store.add(packet()) // 0])
    assert store.numbers(ALICE) == []
    assert add(store, packet())  # and the next one works


def test_what_is_committed_is_synced_to_the_disk(databases: list[sqlite3.Connection], store: DurableStore) -> None:
    def setting(name: str) -> object:
        return databases[0].execute(f"PRAGMA {name}").fetchone()[0]

    assert (setting("journal_mode"), setting("synchronous")) == ("wal", 2)  # 2 is FULL


def test_only_the_owner_can_read_the_file_and_its_log_whatever_the_umask_is(path: Path) -> None:
    before = os.umask(0)
    try:
        store = DurableStore(path)
        add(store, packet())
    finally:
        os.umask(before)
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert modes == {"outbox.db": 0o600, "outbox.db-wal": 0o600}
    store.close()


def test_what_is_committed_survives_a_process_that_is_killed(path: Path) -> None:
    script = (
        "import os, signal, sys; from tests.unit.durable.test_store import *\n"
        "store = DurableStore(sys.argv[1]); add(store, packet(number=1), packet(number=2))\n"
        "with store.transaction(): store.add(packet(number=3)); os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", script, str(path)], check=False).returncode == -9
    store = DurableStore(path)
    assert [one.packet_id[-1] for one in store.load(ALICE, 0, 10, 1000)] == [1, 2]
    store.close()


def test_a_second_process_is_told_that_the_file_is_in_use(
    store: DurableStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("peernet.durable.database.PATIENCE", 0.01)
    with pytest.raises(StorageError, match="is used by another process"):
        DurableStore(path)


# Damage.


def damage_header(path: Path) -> None:
    path.write_bytes(b"this is no database" * 100)


def damage_pages(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    path.write_bytes(content)


def damage_tables(path: Path) -> None:
    with sqlite3.connect(path) as database:
        database.execute("ALTER TABLE packets DROP COLUMN kind")
    database.close()


@pytest.mark.parametrize("damage", [damage_header, damage_pages, damage_tables])
def test_a_damaged_file_is_set_aside_with_a_warning(
    path: Path, damage: object, caplog: pytest.LogCaptureFixture
) -> None:
    store = DurableStore(path)
    add(store, *[packet() for _ in range(100)])
    store.close()
    damage(path)  # type: ignore[operator]
    damaged = path.read_bytes()
    with caplog.at_level(logging.WARNING):
        store = DurableStore(path)
    assert store.backlogs() == {}
    assert add(store, packet())
    store.close()
    (kept,) = path.parent.glob("outbox.db.damaged-*")
    assert kept.read_bytes() == damaged
    (record,) = caplog.records
    assert "is damaged" in record.getMessage()
    assert kept.name in record.getMessage()


def test_a_log_that_is_no_log_does_no_harm(path: Path) -> None:
    damage_header(path)
    Path(f"{path}-wal").write_bytes(b"no log either")
    store = DurableStore(path)
    assert add(store, packet())
    store.close()
    assert not Path(f"{path}-wal").exists()


def test_the_file_of_a_newer_version_is_left_alone(path: Path) -> None:
    DurableStore(path).close()
    with sqlite3.connect(path) as database:
        database.execute(f"PRAGMA user_version = {VERSION + 1}")
    database.close()
    with pytest.raises(StorageError, match="newer peernet; update this one"):
        DurableStore(path)
    assert os.listdir(path.parent) == [path.name]


def test_the_database_of_another_program_is_left_alone(path: Path) -> None:
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE theirs (value)")
    database.close()
    with pytest.raises(StorageError, match="another program"):
        DurableStore(path)


def test_a_path_where_no_file_can_be_is_an_error_that_says_so(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="No such file or directory"):
        DurableStore(tmp_path / "missing" / "outbox.db")


def test_a_link_is_not_followed(path: Path) -> None:
    path.symlink_to(path.parent / "elsewhere")
    with pytest.raises(StorageError, match="cannot be opened"):
        DurableStore(path)
    assert not (path.parent / "elsewhere").exists()


def test_a_full_disk_is_an_error_and_the_store_can_be_used_afterwards(
    databases: list[sqlite3.Connection], store: DurableStore
) -> None:
    (database,) = databases
    pages = database.execute("PRAGMA page_count").fetchone()[0]
    database.execute(f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(StorageError, match="full"):
        add(store, packet(body=bytes(1_000_000)))
    database.execute("PRAGMA max_page_count = 1000000")
    assert len(add(store, packet())) == 1
    assert len(store.numbers(ALICE)) == 1


FORKING = """
import gc, os, sys
from peernet.durable.store import DurableStore, NewPacket
from peernet.errors import ForkedError

def add(number):
    with store.transaction():
        store.add(NewPacket("peer", "", bytes([number]), "pure_message", b"body", 0.0))

store = DurableStore(sys.argv[1])
add(1)
child = os.fork()
if not child:
    try:
        add(2)
    except ForkedError:
        if sys.argv[2] == "close":
            store.close()
        elif sys.argv[2] == "drop":
            del store
            gc.collect()
        sys.exit(0)  # when Python ends, it frees what there is
    os._exit(1)
assert os.waitpid(child, 0)[1] == 0
assert os.path.getsize(sys.argv[1] + "-wal")
add(3)
os._exit(0)  # as if the parent were killed: what it has stored is in its log
"""


@pytest.mark.parametrize("end", ["close", "drop", "exit"])
def test_a_forked_child_neither_uses_the_file_nor_closes_it(tmp_path: Path, end: str) -> None:
    path = tmp_path / "outbox"
    ran = subprocess.run([sys.executable, "-c", FORKING, str(path), end], capture_output=True, text=True, timeout=60)
    assert (ran.returncode, ran.stderr) == (0, "")
    store = DurableStore(path)
    assert [one.packet_id for one in store.load("peer", 0, 10, 1000)] == [b"\x01", b"\x03"]
    store.close()
