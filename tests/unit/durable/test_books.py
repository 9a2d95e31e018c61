"""What the durable outbox knows of its file."""

from __future__ import annotations

import pytest

from peernet.config import NetworkConfig
from peernet.durable.books import Books
from peernet.durable.packet import NewPacket, Setback
from peernet.durable.receipt import DurableReceipt
from peernet.reasons import Reason

PACKET = NewPacket("peer", "192.0.2.7:7400", b"i" * 16, "pure_message", b"body", 0.0)


@pytest.fixture
def receipt() -> DurableReceipt:
    receipt = DurableReceipt("peer", PACKET.packet_id, lambda peer: None)
    receipt.number = 1
    return receipt


@pytest.fixture
def books(receipt: DurableReceipt) -> Books:
    """With one packet in the file, for which somebody waits."""
    books = Books(NetworkConfig(), {})
    books.quota.take(PACKET.peer, len(PACKET.body))
    books.stored(PACKET, receipt)
    return books


def test_what_is_stored_counts_and_says_where_its_peer_is(books: Books, receipt: DurableReceipt) -> None:
    assert (books.quota.packets, list(books.addresses("peer")), books.awaited) == (1, ["192.0.2.7:7400"], True)
    assert not receipt.done


def test_what_is_acknowledged_is_forgotten(books: Books, receipt: DurableReceipt) -> None:
    books.settled("peer", [(1, None)], [], ((1, len(PACKET.body)), {}))
    assert (books.quota.packets, list(books.addresses("peer")), books.awaited) == (0, [], False)
    assert (receipt.done, receipt.reason) == (True, None)


def test_what_is_set_back_with_a_pause_stays_and_is_still_awaited(books: Books, receipt: DurableReceipt) -> None:
    books.settled("peer", [], [Setback(1, 1, 0.0)], ((0, 0), {1: PACKET.packet_id}))
    assert (books.retries.due("peer", ()), books.quota.packets, receipt.done) == ([1], 1, False)


def test_what_is_set_aside_stays_and_its_receipt_has_failed_until_it_is_put_back(
    books: Books, receipt: DurableReceipt
) -> None:
    books.settled("peer", [], [Setback(1, 10, None)], ((0, 0), {1: PACKET.packet_id}))
    assert (books.quota.packets, books.quota.aside, receipt.reason) == (1, 1, Reason.HANDLER_FAILED)
    books.put_back("peer", [1])
    assert (books.quota.aside, books.retries.due("peer", ())) == (0, [1])


def test_a_setback_of_a_packet_that_was_dropped_meanwhile_changes_nothing(
    books: Books, receipt: DurableReceipt
) -> None:
    books.dropped("peer", ([1], len(PACKET.body), 0))
    assert (receipt.reason, books.quota.packets) == (Reason.DROPPED, 0)
    books.settled("peer", [], [Setback(1, 1, 0.0)], ((0, 0), {}))
    assert books.retries.due("peer", ()) == []


def test_whoever_still_waits_at_the_end_is_told(books: Books, receipt: DurableReceipt) -> None:
    books.close()
    assert (receipt.done, receipt.reason, receipt.stored) == (True, Reason.SHUTDOWN, True)
