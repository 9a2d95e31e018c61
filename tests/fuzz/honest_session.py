"""Two honest peers, and a network that cuts."""

from __future__ import annotations

from dataclasses import dataclass, field

from peernet.channel.receipts import Receipt, ReceiptBook
from peernet.reasons import Reason
from tests.fuzz.fates import ACKNOWLEDGED, PENDING, State, check_pages, make_book, state_of, write
from tests.fuzz.session_parts import LARGE, LOOK_EVERY, REFUSALS_PER_PACKET, VERDICTS, WAITS, check_kept, session, told

Acknowledgement = tuple[int, list[tuple[int, Reason]]]


@dataclass(eq=False)
class Packet:
    """One that was accepted, and what its sender was told of it."""

    frame: bytes
    receipt: Receipt
    told: list[State] = field(default_factory=list)


class Side:
    """One of the peers."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.session = session(1 + number, 2 - number)
        self.book: ReceiptBook = make_book()
        self.accepted: list[Packet] = []
        self.handled: list[tuple[bytes, State]] = []  # of the other side's packets
        self.waiting: bytes | None = None  # whose callback has not returned
        self.verdict: str | Reason = ACKNOWLEDGED
        self.on_the_way: list[bytes | Acknowledgement] = []

    def send(self, size: int) -> None:
        """Accept a packet, and let it carry what is owed, or not, as any peer may."""
        one = self.session
        carried = one.take_acknowledgement() if one.owes and not one.refused and size & 1 else 0
        frame = b"%d-%d %d" % (self.number, len(self.accepted), carried) + b" " * size
        number = one.keep_large(frame[:5], frame[5:]) if size >= LARGE else one.keep(frame)
        packet = Packet(frame, write(self.book, number))
        packet.receipt.add_done_callback(lambda receipt: packet.told.append(state_of(receipt)))
        self.accepted.append(packet)
        self.on_the_way.append(frame)

    def acknowledge(self) -> None:
        while self.session.owes or self.session.refused:
            number, refused = self.session.acknowledge()
            assert len(refused) <= REFUSALS_PER_PACKET
            self.on_the_way.append((number, refused))

    def take(self, thing: bytes | Acknowledgement) -> None:
        """Something has arrived."""
        if not isinstance(thing, bytes):
            self.settle(*thing)
        elif self.session.receive():
            name, carried = thing.split()
            if int(carried):
                self.settle(int(carried), [])
            self.session.check(int(name.partition(b"-")[2]) + 1)
            self.call_back(thing)

    def call_back(self, frame: bytes) -> None:
        self.waiting = frame
        if isinstance(self.verdict, Reason):
            self.session.refuse(self.verdict)
        if self.verdict != WAITS:
            self.handle(self.verdict)

    def handle(self, verdict: State) -> None:
        """The callback returns, if one runs."""
        if self.waiting is not None:
            self.handled.append((self.waiting, verdict))
            self.waiting = None
            self.session.handled = self.session.received

    def settle(self, number: int, refusals: list[tuple[int, Reason]]) -> None:
        for sequence, reason in refusals:
            self.book.refuse(sequence, reason)
        self.session.release(number)
        self.book.settle(number)

    def check(self, other: Side) -> None:
        check_kept(self.session, [packet.frame for packet in self.accepted])
        check_pages(self.book, len(self.accepted))
        handled = other.handled
        frames = [packet.frame for packet in self.accepted]
        assert [frame for frame, _ in handled] == frames[: len(handled)], "out of order, or twice"
        for packet, (_, verdict) in zip(self.accepted, handled, strict=False):
            assert packet.told in ([], [verdict]), "settled twice, or wrongly"
        for packet in self.accepted[len(handled) :]:
            assert packet.told == [], "settled before it was handled"
        for packet in self.accepted:
            assert [state_of(packet.receipt)] == (packet.told or [PENDING]), "a state has changed"


class Wire:
    """Two sides, and a network between them."""

    def __init__(self) -> None:
        self.sides = [Side(0), Side(1)]

    def deliver(self, sender: int, count: int) -> None:
        """The first ``count`` things that ``sender`` has sent arrive, unless a callback keeps them from being read."""
        source, target = self.sides[sender], self.sides[1 - sender]
        while source.on_the_way and count and target.waiting is None:
            target.take(source.on_the_way.pop(0))
            count -= 1

    def reconnect(self, side: int, late: int) -> None:
        """Lose the connection and make another; of what one side has sent some arrives after its peer's hello."""
        hellos = [told(one.session) for one in self.sides]
        self.deliver(side, late)
        for one in self.sides:
            one.session.detach()
        for number, one in enumerate(self.sides):
            again = one.session.resume(hellos[number], hellos[1 - number])
            one.on_the_way = []
            one.acknowledge()
            one.on_the_way += [header + content for header, content in again]

    def check(self) -> None:
        for one, other in (self.sides, self.sides[::-1]):
            one.check(other)


def honest(steps: bytes) -> None:
    wire = Wire()
    for count, step in enumerate(steps):
        action, side, number = step & 7, step >> 3 & 1, step >> 4
        if action <= 1:
            wire.sides[side].send(number)
        elif action == 2:
            wire.sides[side].acknowledge()
        elif action <= 4:
            wire.deliver(side, number + 1)
        elif action == 5:
            wire.sides[side].handle(ACKNOWLEDGED)
            wire.sides[side].verdict = VERDICTS[number % len(VERDICTS)]
        else:
            wire.reconnect(side, number)
        if not count % LOOK_EVERY:
            wire.check()
    come_to_rest(wire)


def come_to_rest(wire: Wire) -> None:
    """Let everything arrive, and be told: then nothing is pending any more."""
    for one in wire.sides:
        one.handle(ACKNOWLEDGED)
        one.verdict = ACKNOWLEDGED
    wire.reconnect(0, 0)
    for side in (0, 1, 0, 1):
        wire.deliver(side, len(wire.sides[side].on_the_way))
        for one in wire.sides:
            one.acknowledge()
    wire.check()
    for one in wire.sides:
        assert all(len(packet.told) == 1 for packet in one.accepted), "never settled"
        assert not one.session.kept
        assert not one.session.kept_bytes
