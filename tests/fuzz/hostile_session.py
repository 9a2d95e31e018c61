"""One session, and a peer that lies."""

from __future__ import annotations

from typing import Any

from peernet.channel.receipts import Receipt
from peernet.errors import RemoteProtocolError
from peernet.reasons import Reason
from peernet.v1 import packet_pb2 as pb
from peernet.wire.session import MAX_TOLD_REFUSALS, SessionState
from tests.fuzz.fates import Fates, check_pages, make_book, state_of, write
from tests.fuzz.feeding import blamed
from tests.fuzz.session_parts import LARGE, LOOK_EVERY, VERDICTS, WAITS, check_kept, session, told


class Ledger:
    """A session and its receipts beside plain numbers that say what must be."""

    def __init__(self) -> None:
        self.one = session(1, 2)
        self.book = make_book()
        self.fates = Fates()
        self.frames: list[bytes] = []
        self.receipts: list[Receipt] = []
        self.sent = self.acknowledged = self.duplicates = self.received = self.handled = self.told = 0
        self.attached = True

    @property
    def lies(self) -> tuple[int, ...]:
        """Numbers that a peer may claim."""
        now = (self.acknowledged, self.sent, self.handled, self.received)
        return (0, *now, *(one + 1 for one in now), 2**32, 2**63, 2**64 - 1, self.sent // 2)

    def send(self, size: int) -> None:
        frame = bytes(1 + size)
        number = self.one.keep_large(frame[:1], frame[1:]) if size >= LARGE else self.one.keep(frame)
        self.frames.append(frame)
        self.sent += 1
        assert number == self.sent == self.fates.accept()
        self.receipts.append(write(self.book, number))

    def release(self, number: int) -> None:
        if number > self.sent:
            assert refuses(self.one.release, number) == "bad_packet"
        else:
            self.one.release(number)
            self.book.settle(number)
            self.fates.settle(number)
            self.acknowledged = max(self.acknowledged, number)

    def refuse(self, number: int, reason: Reason) -> None:
        if number <= self.one.sent:  # whoever reads the packet looks at that
            self.book.refuse(number, reason)
            self.fates.refuse(number, reason)

    def resume(self, received: int, acknowledged: int) -> None:
        ours = told(self.one)
        if self.attached:
            self.one.detach()
            self.attached = False
        hello = pb.HelloPacket(
            session_id=2,
            peer_session_id=1,
            last_sequence_received=received,
            last_acknowledgement_received=acknowledged,
        )
        assert self.one.remembers(hello)
        if not self.acknowledged <= received <= self.sent or acknowledged > self.handled:
            assert refuses(self.one.resume, ours, hello) == "bad_packet"
        else:
            again = self.one.resume(ours, hello)
            assert [header + content for header, content in again] == self.frames[received:]
            self.attached, self.duplicates, self.told = True, 0, acknowledged

    def introduce_late(self) -> None:
        """The connection is made anew with a hello of ours that was written before the last packet was received."""
        if self.attached and self.received and not self.duplicates:
            ours = told(self.one)
            ours.last_sequence_received -= 1
            self.one.detach()
            theirs = pb.HelloPacket(last_sequence_received=self.sent, last_acknowledgement_received=self.told)
            assert self.one.resume(ours, theirs) == []
            self.duplicates = 1

    def receive(self, size: int) -> None:
        """A packet arrives, if none is being handled."""
        if self.handled < self.received or not self.attached:
            return
        new, self.duplicates = not self.duplicates, max(0, self.duplicates - 1)
        assert self.one.receive() is new
        if new:
            self.received += 1
            verdict = VERDICTS[size % len(VERDICTS)]
            if isinstance(verdict, Reason):
                self.one.refuse(verdict)
            if verdict != WAITS:
                self.handle()

    def handle(self) -> None:
        self.one.handled = self.handled = self.received

    def acknowledge(self) -> None:
        number, refusals = self.one.acknowledge()
        assert all(0 < one <= self.received for one, _ in refusals)
        assert number in (0, self.handled)
        self.told = number or self.told

    def end(self, reason: Reason) -> None:
        """A session that is over keeps nothing, and lets late acknowledgements and refusals pass."""
        self.one.end()
        self.book.close(reason)
        self.fates.close(reason)
        assert not self.one.kept
        assert not self.one.kept_bytes
        self.release(self.sent)
        for number in (0, self.acknowledged, self.sent):
            self.refuse(number, Reason.REFUSED)
        assert not self.one.kept
        self.check_receipts()

    def check(self) -> None:
        one = self.one
        assert (one.sent, one.acknowledged, one.received, one.handled, one.told, one.duplicates) == (
            (self.sent, self.acknowledged, self.received, self.handled, self.told, self.duplicates)
        )
        assert one.owes is (self.handled > self.told)
        assert one.state is (SessionState.ATTACHED if self.attached else SessionState.DETACHED)
        assert len(one.told_refusals or ()) <= MAX_TOLD_REFUSALS
        assert len(one.refused) <= self.received

    def check_packets(self) -> None:
        check_kept(self.one, self.frames)
        check_pages(self.book, self.sent)
        self.check_receipts()

    def check_receipts(self) -> None:
        assert [state_of(receipt) for receipt in self.receipts] == self.fates.states[1:], "a verdict is wrong"


def hostile(steps: bytes) -> None:
    ledger = Ledger()
    for count, step in enumerate(steps):
        action, number = step & 7, step >> 3
        lie = ledger.lies[number % len(ledger.lies)]
        if action == 0:
            ledger.send(number)
        elif action == 1:
            ledger.release(lie)
        elif action == 2:
            ledger.resume(lie, ledger.lies[(number + step) % len(ledger.lies)])
        elif action == 3:
            ledger.receive(number)
        elif action == 4 and ledger.attached:
            ledger.acknowledge()
        elif action == 5:
            ledger.refuse(lie, Reason.REFUSED)
            ledger.refuse(number, Reason.UNHANDLED)
        elif action == 6 and lie != ledger.received:
            assert refuses(ledger.one.check, lie) == "bad_packet"
        elif action == 7:
            ledger.handle() if number & 1 else ledger.introduce_late()
        ledger.check()
        if not count % LOOK_EVERY:
            ledger.check_packets()
    ledger.check_packets()
    ledger.end(Reason.EXPIRED)


def refuses(function: Any, *arguments: Any) -> str | None:
    """The reason for which a call blames the peer."""
    try:
        function(*arguments)
    except RemoteProtocolError as error:
        return blamed(error)
    return None
