"""Whatever is acknowledged, refused and closed in whatever order: a receipt ends in one state, once, and stays there.

Input: one byte for each step: what happens (3 bits), and to which packet (5 bits).
"""

from __future__ import annotations

from peernet.channel.receipts import Receipt
from peernet.reasons import Reason
from tests.fuzz.fates import PENDING, Fates, State, check_pages, make_book, small_pages, state_of, write

REASONS = (Reason.UNHANDLED, Reason.NOT_PERMITTED, Reason.REFUSED)
ENDS = (Reason.CLOSED, Reason.EXPIRED)
MAX_STEPS = 200
LOOK_EVERY = 4  # steps


class Writer:
    """A book beside the fates, and everybody who wants to know of a packet."""

    def __init__(self) -> None:
        self.book = make_book()
        self.fates = Fates()
        self.receipts: dict[int, Receipt] = {}
        self.told: list[tuple[int, list[State]]] = []  # what each listener was told
        self.closers: set[int] = set()  # packets whose end ends everything

    @property
    def sent(self) -> int:
        return len(self.fates.states) - 1

    def send(self, count: int) -> None:
        if self.fates.closed is None:
            for _ in range(count):
                number = self.fates.accept()
                self.receipts[number] = write(self.book, number)

    def settle(self, acknowledged: int) -> None:
        self.book.settle(acknowledged)
        self.fates.settle(acknowledged)

    def refuse(self, number: int, reason: Reason) -> None:
        self.book.refuse(number, reason)
        self.fates.refuse(number, reason)

    def watch(self, number: int) -> None:
        told: list[State] = []
        self.told.append((number, told))
        self.receipts[number].add_done_callback(lambda receipt: told.append(state_of(receipt)))

    def change_mind(self, number: int) -> None:
        """Watch, and watch no more, as who waits in vain does."""
        told: list[State] = []
        if self.fates.states[number] == PENDING:
            self.book.watch(self.receipts[number], told.append)  # type: ignore[arg-type]  # must not be called
            self.book.watch_no_more(self.receipts[number], told.append)  # type: ignore[arg-type]

    def close_at(self, number: int) -> None:
        """Have the end of one packet close the book, as a program may close its channel then."""
        self.closers.add(number)
        self.receipts[number].add_done_callback(lambda receipt: self.book.close(Reason.CLOSED))

    def follow(self) -> None:
        """What has happened may have closed the book."""
        if any(self.fates.states[number] != PENDING for number in self.closers):
            self.fates.close(Reason.CLOSED)

    def check(self) -> None:
        for number, receipt in self.receipts.items():
            assert state_of(receipt) == self.fates.states[number], f"packet {number}"
        for number, told in self.told:
            state = self.fates.states[number]
            assert told == ([] if state == PENDING else [state]), "told twice, not at all, or too early"
        check_pages(self.book, self.sent)


def fuzz(data: bytes) -> None:
    with small_pages():
        writer = Writer()
        for count, byte in enumerate(data[:MAX_STEPS]):
            step(writer, byte & 7, byte >> 3)
            writer.follow()
            if not count % LOOK_EVERY:
                writer.check()
        writer.check()
        writer.book.close(Reason.EXPIRED)
        writer.fates.close(Reason.EXPIRED)
        writer.check()


def step(writer: Writer, action: int, choice: int) -> None:
    number = 1 + choice % writer.sent if writer.sent else 0
    if action == 0 or not number:
        writer.send(1 + choice % 6)
    elif action == 1:
        writer.settle(number)
    elif action == 2:
        writer.settle(writer.sent - choice % 4 if choice % 4 < writer.sent else 0)
    elif action == 3:
        writer.refuse(number, REASONS[choice % len(REASONS)])
    elif action == 4:
        writer.watch(number)
    elif action == 5:
        writer.change_mind(number)
    elif action == 6:
        writer.close_at(number)
    elif choice >= 24:
        writer.book.close(ENDS[choice & 1])
        writer.fates.close(ENDS[choice & 1])
    else:
        writer.refuse(0, Reason.REFUSED)
