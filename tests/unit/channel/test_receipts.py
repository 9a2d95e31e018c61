from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import gevent
import pytest

from peernet.channel.receipts import PAGE, Receipt, ReceiptBook
from peernet.errors import ConfigurationError, DeliveryFailed, SelfWaitError
from peernet.reasons import Reason
from tests.support import FAILURES, scaled, wait_until


def nobody_is_in_the_way(method: str) -> None:
    """Waiting is allowed."""


@pytest.fixture
def book() -> ReceiptBook:
    return ReceiptBook(nobody_is_in_the_way)


def write(book: ReceiptBook, *numbers: int) -> list[Receipt]:
    """Receipts as a sender makes them, for numbers in order."""
    receipts = []
    for number in numbers:
        receipt = Receipt()
        receipt.page = book.turn(number) if number % PAGE == 0 else book.page
        receipt.sequence = number
        receipts.append(receipt)
    return receipts


def state(receipt: Receipt) -> tuple[bool, bool, bool, Reason | None]:
    return receipt.done, receipt.acknowledged, receipt.failed, receipt.reason


PENDING = (False, False, False, None)
ACKNOWLEDGED = (True, True, False, None)


def failed(reason: Reason) -> tuple[bool, bool, bool, Reason]:
    return (True, False, True, reason)


def test_a_receipt_is_pending_until_its_number_is_acknowledged(book: ReceiptBook) -> None:
    first, second = write(book, 1, 2)
    assert (state(first), state(second)) == (PENDING, PENDING)
    book.settle(1)
    assert (state(first), state(second)) == (ACKNOWLEDGED, PENDING)


def test_an_old_acknowledgement_takes_nothing_back(book: ReceiptBook) -> None:
    first, second = write(book, 1, 2)
    book.settle(2)
    book.settle(1)
    assert (state(first), state(second)) == (ACKNOWLEDGED, ACKNOWLEDGED)


@pytest.mark.parametrize("number", [1, PAGE - 1, PAGE, PAGE + 1, 3 * PAGE])
def test_a_refused_packet_has_failed_and_its_neighbours_have_not(book: ReceiptBook, number: int) -> None:
    receipts = write(book, *range(1, 3 * PAGE + 2))
    book.refuse(number, Reason.NOT_PERMITTED)
    book.settle(3 * PAGE + 1)
    for receipt in receipts:
        assert state(receipt) == (failed(Reason.NOT_PERMITTED) if receipt.sequence == number else ACKNOWLEDGED)


def test_a_refusal_counts_before_its_number_is_acknowledged_and_for_ever(book: ReceiptBook) -> None:
    (receipt,) = write(book, 1)
    book.refuse(1, Reason.UNHANDLED)
    assert state(receipt) == failed(Reason.UNHANDLED)
    book.settle(1)
    book.close(Reason.EXPIRED)
    assert state(receipt) == failed(Reason.UNHANDLED)


def test_a_packet_that_is_acknowledged_cannot_be_refused_any_more(book: ReceiptBook) -> None:
    (receipt,) = write(book, 1)
    book.settle(1)
    book.refuse(1, Reason.UNHANDLED)
    assert state(receipt) == ACKNOWLEDGED


def test_the_first_refusal_is_the_reason(book: ReceiptBook) -> None:
    (receipt,) = write(book, 1)
    book.refuse(1, Reason.UNHANDLED)
    book.refuse(1, Reason.NOT_PERMITTED)
    assert state(receipt) == failed(Reason.UNHANDLED)


def test_a_refusal_that_comes_after_the_end_changes_nothing(book: ReceiptBook) -> None:
    (receipt,) = write(book, 1)
    book.close(Reason.EXPIRED)
    book.refuse(1, Reason.UNHANDLED)
    assert state(receipt) == failed(Reason.EXPIRED)


@pytest.mark.parametrize("last", [PAGE - 1, PAGE, PAGE + 1])
def test_a_book_does_not_grow_with_the_packets_that_are_settled(book: ReceiptBook, last: int) -> None:
    for begin in range(1, 50 * PAGE, PAGE):
        write(book, *range(begin, begin + PAGE))
        book.settle(begin - 1)
        book.settle(begin - 1 + last)
        assert len(book.pages or ()) <= 2


def test_what_is_not_settled_at_the_end_has_failed(book: ReceiptBook) -> None:
    first, second = write(book, 1, 2)
    book.settle(1)
    book.close(Reason.EXPIRED)
    assert (state(first), state(second)) == (ACKNOWLEDGED, failed(Reason.EXPIRED))


def test_what_has_failed_stays_failed(book: ReceiptBook) -> None:
    (receipt,) = write(book, 1)
    book.close(Reason.EXPIRED)
    book.settle(1)
    book.refuse(1, Reason.UNHANDLED)
    assert state(receipt) == failed(Reason.EXPIRED)


def test_the_first_end_is_the_reason(book: ReceiptBook) -> None:
    (receipt,) = write(book, 1)
    book.close(Reason.EXPIRED)
    book.close(Reason.CLOSED)
    assert receipt.reason is Reason.EXPIRED


def test_without_a_session_every_receipt_has_failed_from_the_start() -> None:
    receipt = Receipt()
    receipt.page, receipt.sequence = ReceiptBook(nobody_is_in_the_way, Reason.NO_SESSION).page, 0
    assert state(receipt) == failed(Reason.NO_SESSION)


@pytest.mark.parametrize("settle", ["settle", "refuse", "close"])
def test_those_who_want_to_know_are_told_once(book: ReceiptBook, settle: str) -> None:
    (receipt,) = write(book, 1)
    told: list[tuple[Receipt, bool]] = []
    receipt.add_done_callback(lambda one: told.append((one, one.done)))
    arguments = {"settle": (1,), "refuse": (1, Reason.UNHANDLED), "close": (Reason.CLOSED,)}[settle]
    getattr(book, settle)(*arguments)
    book.settle(1)
    book.close(Reason.CLOSED)
    assert told == [(receipt, True)]


def test_who_asks_late_is_told_at_once(book: ReceiptBook) -> None:
    (receipt,) = write(book, 1)
    book.settle(1)
    told: list[Receipt] = []
    receipt.add_done_callback(told.append)
    assert told == [receipt]


@pytest.mark.parametrize("failure", FAILURES)
def test_a_callback_that_fails_is_logged_and_hurts_no_other(
    book: ReceiptBook, caplog: pytest.LogCaptureFixture, failure: Callable[[], BaseException]
) -> None:
    first, second = write(book, 1, 2)
    told: list[Receipt] = []

    def fail(one: Receipt) -> None:
        raise failure() from ValueError("oops")

    for receipt in (first, second):
        receipt.add_done_callback(fail)
        receipt.add_done_callback(told.append)
    with caplog.at_level(logging.ERROR):
        book.settle(1)
        book.close(Reason.CLOSED)
        first.add_done_callback(fail)  # it is called at once
    assert told == [first, second]
    assert caplog.text.count("ValueError: oops") == 3


@pytest.mark.parametrize("failure", [SystemExit, KeyboardInterrupt])
def test_a_callback_that_ends_the_program_does_so_in_the_main_greenlet(
    book: ReceiptBook, failure: type[BaseException]
) -> None:
    (receipt,) = write(book, 1)
    told: list[Receipt] = []

    def end(one: Receipt) -> None:
        raise failure

    receipt.add_done_callback(end)
    receipt.add_done_callback(told.append)
    book.settle(1)
    assert told == [receipt]
    with pytest.raises(failure):
        wait_until(lambda: False)


def test_waiting_ends_with_the_acknowledgement(book: ReceiptBook) -> None:
    (receipt,) = write(book, 1)
    waiting = gevent.spawn(receipt.wait, scaled(5))
    gevent.spawn(book.settle, 1)
    assert waiting.get(timeout=scaled(5)) is True


def test_waiting_ends_with_the_failure_and_says_why(book: ReceiptBook) -> None:
    (receipt,) = write(book, 1)
    gevent.spawn(book.close, Reason.EXPIRED)
    with pytest.raises(DeliveryFailed, match="packet 1 was not delivered") as caught:
        receipt.wait(scaled(5))
    assert caught.value.reason is Reason.EXPIRED


def test_waiting_in_vain_says_so_and_leaves_nothing_behind(book: ReceiptBook) -> None:
    (receipt,) = write(book, 1)
    assert receipt.wait(0.001) is False
    book.settle(1)
    assert receipt.wait(0) is True


def test_who_would_wait_for_himself_is_told(book: ReceiptBook) -> None:
    def refuse(method: str) -> None:
        raise SelfWaitError(method)

    own = ReceiptBook(refuse)
    (receipt,) = write(own, 1)
    with pytest.raises(SelfWaitError, match=r"Receipt\.wait"):
        receipt.wait()
    own.settle(1)
    assert receipt.wait() is True


async def coroutine(receipt: Receipt) -> None: ...


@pytest.mark.parametrize("settled", [True, False])
@pytest.mark.parametrize("callback", [coroutine, None])
def test_a_callback_that_would_run_nothing_is_refused(book: ReceiptBook, callback: Any, settled: bool) -> None:
    (receipt,) = write(book, 1)
    if settled:
        book.settle(1)
    with pytest.raises(ConfigurationError, match="a done callback must be "):
        receipt.add_done_callback(callback)


def test_who_waits_or_has_a_callback_asks_for_the_packet_unless_it_is_done() -> None:
    asked: list[int] = []
    book = ReceiptBook(nobody_is_in_the_way, ask=asked.append)
    first, second, third = write(book, 1, 2, 3)
    assert not first.done
    assert asked == []
    second.wait(0)
    assert asked == [2]
    third.add_done_callback(lambda one: None)
    assert asked == [2, 3]
    book.settle(3)
    first.wait()
    first.add_done_callback(lambda one: None)
    assert asked == [2, 3]
