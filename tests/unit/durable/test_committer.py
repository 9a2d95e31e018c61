"""Who uses the store: one at a time, many jobs in one transaction, nobody cut short."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import gevent
import pytest

from peernet.durable.committer import Committer
from peernet.durable.packet import NewPacket
from peernet.durable.store import DurableStore
from peernet.errors import StorageError
from tests.support import FAILURES, scaled, wait_until

PACKET = NewPacket("peer", "", b"id", "pure_message", b"body", 0.0)


@pytest.fixture
def committer(tmp_path: Path) -> Iterator[Committer]:
    committer = Committer(tmp_path / "outbox.db")
    yield committer
    committer.close()
    committer.join()


class Gate:
    """A job that runs until it is let go, so that others come meanwhile."""

    def __init__(self, committer: Committer) -> None:
        self._began, self._go = threading.Event(), threading.Event()
        self.result = committer.submit(self._wait)
        wait_until(self._began.is_set)

    def _wait(self, store: DurableStore) -> None:
        self._began.set()
        assert self._go.wait(10)

    def open(self) -> None:
        self._go.set()


def count_transactions(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    begun: list[None] = []
    original = DurableStore.transaction

    def counted(store: DurableStore) -> object:
        begun.append(None)
        return original(store)

    monkeypatch.setattr(DurableStore, "transaction", counted)
    return begun


def test_jobs_that_wait_share_one_transaction_in_their_order(
    committer: Committer, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = count_transactions(monkeypatch)
    gate = Gate(committer)
    results = [committer.submit(lambda store: store.add(PACKET)) for _ in range(100)]
    gate.open()
    numbers = [result.get(timeout=10) for result in results]
    assert numbers == list(range(1, 101))
    assert len(begun) == 2


def test_other_greenlets_run_while_the_disk_is_slow(committer: Committer) -> None:
    gate = Gate(committer)
    ran = gevent.spawn(lambda: True)
    assert ran.get(timeout=5)
    gate.open()
    gate.result.get(timeout=10)


def test_a_job_is_done_even_if_whoever_waits_for_it_is_killed(committer: Committer) -> None:
    gate = Gate(committer)
    killed = gevent.spawn(committer.run, lambda store: store.add(PACKET))
    gevent.sleep(0.01)
    killed.kill()
    gate.open()
    assert committer.run(lambda store: store.numbers("peer")) == [1]


def test_when_the_disk_fails_everybody_in_the_transaction_is_told_and_nothing_is_kept(
    databases: list[sqlite3.Connection], committer: Committer
) -> None:
    gate = Gate(committer)
    first = committer.submit(lambda store: store.add(PACKET))
    second = committer.submit(lambda store: databases[0].execute("SELECT * FROM nowhere"))
    gate.open()
    for result in (first, second):
        with pytest.raises(StorageError, match="nowhere"):
            result.get(timeout=10)
    assert committer.run(lambda store: store.numbers("peer")) == []


def test_closing_does_first_what_was_asked_for_and_takes_no_more(tmp_path: Path) -> None:
    committer = Committer(tmp_path / "outbox.db")
    asked = committer.submit(lambda store: store.add(PACKET))
    committer.close()
    committer.close()
    committer.join()
    assert asked.get(timeout=1) == 1
    with pytest.raises(StorageError, match="is closed"):
        committer.run(lambda store: store.add(PACKET))


def test_a_file_that_cannot_be_opened_is_told_to_whoever_wants_it(tmp_path: Path) -> None:
    committer = Committer(tmp_path / "missing" / "outbox.db")
    for _ in range(2):
        with pytest.raises(StorageError, match="cannot be opened"):
            committer.run(lambda store: store.numbers("peer"))
    committer.close()
    committer.join()


@pytest.mark.parametrize("failure", FAILURES)
def test_whatever_a_job_raises_is_an_answer_and_the_next_one_is_done(
    committer: Committer, failure: Callable[[], BaseException]
) -> None:
    def fail(store: DurableStore) -> None:
        store.add(PACKET)
        raise failure()

    result = committer.submit(fail)
    wait_until(result.ready)
    assert type(result.exception) is type(failure())
    counting = gevent.spawn(committer.run, lambda store: len(store.backlogs()))
    assert counting.get(timeout=scaled(5)) == 0
