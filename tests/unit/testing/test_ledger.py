from __future__ import annotations

import re

import gevent
import pytest

from peernet.errors import PeerNetError
from peernet.testing import Ledger, LedgerError, Resources, Rule
from peernet.v1.packet_pb2 import DataTransmissionPacket, PureMessagePacket

ALICE, BOB, CAROL = "a" * 52, "b" * 52, "c" * 52


def text(message: object) -> PureMessagePacket:
    return PureMessagePacket(message=str(message))


class Books:
    """A ledger of what alice sends to bob."""

    def __init__(self) -> None:
        self.ledger = Ledger()

    def accept(self, *messages: object) -> list[int]:
        return [self.ledger.note_accepted(ALICE, BOB, text(message)) for message in messages]

    def acknowledge(self, *numbers: int) -> None:
        for number in numbers:
            self.ledger.note_acknowledged(ALICE, BOB, number)

    def fail(self, *numbers: int) -> None:
        for number in numbers:
            self.ledger.note_failed(ALICE, BOB, number)

    def deliver(self, *messages: object) -> None:
        for message in messages:
            self.ledger.note_delivered(ALICE, BOB, text(message))

    @property
    def broken(self) -> list[Rule]:
        return [violation.rule for violation in self.ledger.violations()]


@pytest.fixture
def books() -> Books:
    return Books()


class TestWhatAgrees:
    def test_empty_books(self, books: Books) -> None:
        books.ledger.check()

    def test_everything_delivered_and_acknowledged(self, books: Books) -> None:
        books.acknowledge(*books.accept("one", "two", "three"))
        books.deliver("one", "two", "three")
        books.ledger.check()
        assert books.ledger.totals() == {
            "accepted": 3,
            "acknowledged": 3,
            "failed": 0,
            "pending": 0,
            "delivered": 3,
        }

    def test_a_failed_packet_that_was_delivered_or_not(self, books: Books) -> None:
        books.fail(*books.accept("delivered later", "never delivered"))
        books.deliver("delivered later")
        books.ledger.check()

    def test_a_gap_of_failed_packets(self, books: Books) -> None:
        first, lost, last = books.accept(1, 2, 3)
        books.acknowledge(first, last)
        books.fail(lost)
        books.deliver(1, 3)
        books.ledger.check()

    def test_equal_packets_each_delivered(self, books: Books) -> None:
        books.acknowledge(*books.accept("same", "other", "same"))
        books.deliver("same", "other", "same")
        books.ledger.check()

    def test_an_equal_packet_that_failed_before(self, books: Books) -> None:
        lost, other, same = books.accept("same", "other", "same")
        books.fail(lost)
        books.acknowledge(other, same)
        books.deliver("other", "same")
        books.ledger.check()

    def test_two_peers_that_send_the_same(self, books: Books) -> None:
        books.acknowledge(*books.accept("same"))
        books.ledger.note_acknowledged(CAROL, BOB, books.ledger.note_accepted(CAROL, BOB, text("same")))
        books.deliver("same")
        books.ledger.note_delivered(CAROL, BOB, text("same"))
        books.ledger.check()


class TestWhatDoesNot:
    def test_a_delivery_of_what_nobody_sent(self, books: Books) -> None:
        books.deliver("from nowhere")
        assert books.broken == [Rule.ACCEPTED]

    def test_a_delivery_with_other_bytes(self, books: Books) -> None:
        books.acknowledge(*books.accept("whole"))
        books.deliver("hurt")
        assert books.broken == [Rule.ACCEPTED, Rule.KEPT]

    def test_a_delivery_with_the_same_bytes_as_another_kind(self, books: Books) -> None:
        books.fail(books.ledger.note_accepted(ALICE, BOB, DataTransmissionPacket()))
        books.deliver("")
        assert books.broken == [Rule.ACCEPTED]

    def test_a_delivery_at_another_receiver(self, books: Books) -> None:
        books.fail(*books.accept("for bob"))
        books.ledger.note_delivered(ALICE, CAROL, text("for bob"))
        assert books.broken == [Rule.ACCEPTED]

    def test_a_delivery_under_the_name_of_another_sender(self, books: Books) -> None:
        books.fail(*books.accept("from alice"))
        books.ledger.note_delivered(CAROL, BOB, text("from alice"))
        assert books.broken == [Rule.ACCEPTED]

    def test_a_packet_that_comes_twice(self, books: Books) -> None:
        books.acknowledge(*books.accept(1, 2))
        books.deliver(1, 2, 1)
        assert books.broken == [Rule.ONCE]

    def test_equal_packets_of_which_one_comes_twice(self, books: Books) -> None:
        books.acknowledge(*books.accept("same", "same"))
        books.deliver("same", "same", "same")
        assert books.broken == [Rule.ONCE]

    def test_packets_out_of_order(self, books: Books) -> None:
        books.acknowledge(*books.accept(1, 2, 3))
        books.deliver(1, 3, 2)
        assert books.broken == [Rule.ORDERED]

    def test_a_late_delivery_of_a_failed_packet_out_of_order(self, books: Books) -> None:
        lost, arrived = books.accept(1, 2)
        books.fail(lost)
        books.acknowledge(arrived)
        books.deliver(2, 1)
        assert books.broken == [Rule.ORDERED]

    def test_an_acknowledged_packet_that_was_not_delivered(self, books: Books) -> None:
        books.acknowledge(*books.accept(1, 2, 3))
        books.deliver(1, 3)
        assert books.broken == [Rule.KEPT]

    def test_equal_packets_of_which_one_is_lost(self, books: Books) -> None:
        books.acknowledge(*books.accept("same", "same"))
        books.deliver("same")
        assert books.broken == [Rule.KEPT]

    def test_a_packet_that_never_ends(self, books: Books) -> None:
        books.accept("pending")
        assert books.broken == [Rule.RESOLVED]

    @pytest.mark.parametrize("ends", ["af", "fa", "aa", "ff"])
    def test_a_packet_that_ends_twice(self, books: Books, ends: str) -> None:
        (number,) = books.accept("one")
        for end in ends:
            (books.acknowledge if end == "a" else books.fail)(number)
        books.deliver("one")
        assert books.broken == [Rule.RESOLVED_ONCE]

    def test_everything_at_once(self, books: Books) -> None:
        books.acknowledge(*books.accept(1, 2, 3, 4))
        books.accept(5)
        books.deliver(2, 1, 1, 3, "x")
        assert set(books.broken) == {Rule.ORDERED, Rule.ONCE, Rule.ACCEPTED, Rule.KEPT, Rule.RESOLVED}


class TestTheReport:
    def test_it_names_the_rules_and_the_first_violations(self, books: Books) -> None:
        books.acknowledge(*books.accept(*range(100)))
        books.deliver(*range(50), *range(50))
        with pytest.raises(LedgerError, match="100 violations") as caught:
            books.ledger.check()
        report = str(caught.value)
        assert "50 x ONCE: nothing is delivered twice" in report
        assert "50 x KEPT: what is acknowledged was delivered" in report
        assert "aaaaaaaa to bbbbbbbb: delivery 50 is of a packet that was delivered before" in report
        assert len(caught.value.violations) == 100
        assert len(report.splitlines()) < 30

    def test_it_is_an_assertion_and_an_error_of_peernet(self) -> None:
        assert issubclass(LedgerError, AssertionError)
        assert issubclass(LedgerError, PeerNetError)

    def test_checking_waits_for_what_is_on_its_way(self, books: Books) -> None:
        (number,) = books.accept("slow")

        def arrive() -> None:
            books.deliver("slow")
            books.acknowledge(number)

        arriving = gevent.spawn_later(0.05, arrive)
        books.ledger.check(timeout=5)
        arriving.join()


class TestResources:
    def test_what_is_given_back_is_no_violation(self, books: Books) -> None:
        books.ledger.measure_baseline()
        gevent.spawn(gevent.sleep, 0).join()
        books.ledger.check()

    def test_a_descriptor_that_stays_open(self, books: Books) -> None:
        books.ledger.measure_baseline()
        with open("/dev/null"):
            (violation,) = books.ledger.violations()
        assert re.search(r"descriptors, where there were \d+; new: /dev/null", str(violation))

    def test_a_greenlet_that_runs_on(self, books: Books) -> None:
        books.ledger.measure_baseline()
        greenlet = gevent.spawn(gevent.sleep, 100)
        greenlet.name = "the leak"
        gevent.sleep(0.01)
        try:
            (violation,) = books.ledger.violations()
        finally:
            greenlet.kill()
        assert violation.rule is Rule.RELEASED
        assert "the leak" in violation.text

    @pytest.mark.parametrize(("threads", "memory", "found"), [(2, 100, 1), (1, 151, 1), (2, 151, 2), (1, 150, 0)])
    def test_threads_and_memory_beyond_the_tolerance(self, threads: int, memory: int, found: int) -> None:
        baseline = Resources({}, {}, threads=1, memory=100)
        assert len(Resources({}, {}, threads, memory).beyond(baseline, memory_tolerance=50)) == found


@pytest.mark.stress
def test_two_hundred_thousand_packets_are_cheap(books: Books) -> None:
    """In memory, which does not depend on how busy the machine is."""
    before = Resources.measure().memory
    for number in range(200_000):
        (one,) = books.accept(number)
        books.deliver(number)
        books.acknowledge(one)
    assert Resources.measure().memory - before < 32 * 1024 * 1024
    books.ledger.check()
