"""What must become of packets, as plain as it can be written, and receipts to compare it with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from peernet.channel import receipts
from peernet.channel.receipts import Receipt, ReceiptBook
from peernet.reasons import Reason

PENDING, ACKNOWLEDGED = "pending", "acknowledged"
State = str | Reason
"""What became of a packet: one of these, or why it has failed."""

SMALL_PAGE = 4


@contextmanager
def small_pages() -> Iterator[None]:
    """Let few receipts share a page, so that a few packets fill several."""
    kept = receipts.PAGE, receipts.WITHIN_PAGE
    try:
        receipts.PAGE, receipts.WITHIN_PAGE = SMALL_PAGE, SMALL_PAGE - 1
        yield
    finally:
        receipts.PAGE, receipts.WITHIN_PAGE = kept


def make_book() -> ReceiptBook:
    """A book for whose receipts everybody may wait."""
    return ReceiptBook(lambda method: None)


def write(book: ReceiptBook, number: int) -> Receipt:
    """The receipt for the next packet, as a sender makes it."""
    receipt = Receipt()
    receipt.page = book.page if number & receipts.WITHIN_PAGE else book.turn(number)
    receipt.sequence = number
    return receipt


def state_of(receipt: Receipt) -> State:
    """What a receipt says, in whichever way it is asked."""
    state = receipt.reason or (ACKNOWLEDGED if receipt.acknowledged else PENDING)
    assert receipt.acknowledged is (state == ACKNOWLEDGED)
    assert receipt.failed is (receipt.reason is not None)
    assert receipt.done is (state != PENDING)
    return state


def check_pages(book: ReceiptBook, sent: int) -> None:
    """A book keeps the pages of what is not settled, and no others."""
    if book.closed is None:
        assert len(book.pages or ()) <= sent // receipts.PAGE - book.settled // receipts.PAGE + 1, "pages are kept"


class Fates:
    """What must be true of each packet, kept as one state for each number."""

    def __init__(self) -> None:
        self.states: list[State] = [ACKNOWLEDGED]  # of number 0, which is none
        self.settled = 0
        self.closed: Reason | None = None

    def accept(self) -> int:
        """The number of one packet more."""
        self.states.append(self.closed or PENDING)
        return len(self.states) - 1

    def refuse(self, number: int, reason: Reason) -> None:
        self._decide(number, reason)

    def settle(self, acknowledged: int) -> None:
        if self.closed is None:
            for number in range(self.settled + 1, acknowledged + 1):
                self._decide(number, ACKNOWLEDGED)
            self.settled = max(self.settled, acknowledged)

    def close(self, reason: Reason) -> None:
        self.closed = self.closed or reason
        for number in range(len(self.states)):
            self._decide(number, reason)

    def _decide(self, number: int, state: State) -> None:
        if self.states[number] == PENDING:
            self.states[number] = state
