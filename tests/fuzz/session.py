"""Sessions: exactly once under any cuts between honest peers, and no lie of a hostile one leads astray.

Input: a byte that chooses between the two, then one byte for each step.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from peernet.errors import RemoteProtocolError
from peernet.reasons import Reason
from peernet.v1 import packet_pb2 as pb
from peernet.wire.session import MAX_TOLD_REFUSALS, Session, SessionState
from tests.fuzz.feeding import blamed

REASONS = (None, Reason.UNHANDLED, Reason.NOT_PERMITTED)
MAX_STEPS = 400


@dataclass(eq=False)
class Packet:
    """What a session keeps."""

    text: str = ""
    size: int = 10
    sequence: int = 0
    fates: list[Reason | None] = field(default_factory=list)


def fuzz(data: bytes) -> None:
    if data:
        (hostile if data[0] & 1 else honest)(data[1:MAX_STEPS])


def session(session_id: int, peer: int) -> Session[Packet]:
    made: Session[Packet] = Session(session_id, max_packets=8, max_bytes=200)
    made.begin(peer)
    return made


# Two honest peers and a network that cuts.


class Wire:
    """Two sessions, what is on its way between them, and what should become of it."""

    def __init__(self) -> None:
        self.sides = [session(1, 2), session(2, 1)]
        self.accepted: list[list[Packet]] = [[], []]
        self.handled: list[list[tuple[str, Reason | None]]] = [[], []]
        self.on_the_way: list[list[Any]] = [[], []]  # by sender
        self.verdict: list[Reason | None] = [None, None]

    def send(self, side: int, size: int) -> None:
        packet = Packet(f"{side}-{len(self.accepted[side])}", 1 + size)
        self.accepted[side].append(packet)
        self.sides[side].keep(packet)
        self.on_the_way[side].append(packet)

    def acknowledge(self, side: int) -> None:
        one = self.sides[side]
        while one.owes or one.refused:
            self.on_the_way[side].append(one.acknowledge())

    def deliver(self, sender: int, count: int) -> None:
        """The first ``count`` things that ``sender`` has sent arrive."""
        arriving, self.on_the_way[sender] = self.on_the_way[sender][:count], self.on_the_way[sender][count:]
        for thing in arriving:
            if isinstance(thing, Packet):
                self.take(1 - sender, thing)
            else:
                self.settle(1 - sender, *thing)

    def take(self, side: int, packet: Packet) -> None:
        one = self.sides[side]
        new = one.receive()
        one.check(packet.sequence)
        if new:
            self.handled[side].append((packet.text, self.verdict[side]))
            if self.verdict[side] is not None:
                one.refuse(self.verdict[side])  # type: ignore[arg-type]
            one.handle(packet.size)

    def settle(self, side: int, number: int, refusals: list[tuple[int, Reason]]) -> None:
        one = self.sides[side]
        one.note_refusals(refusals)
        for packet in one.release(number):
            packet.fates.append(one.verdict(packet.sequence))

    def reconnect(self, side: int, late: int) -> None:
        """Lose the connection and make another; of what one side has sent some arrives after its peer's hello."""
        hellos = [told(one) for one in self.sides]
        self.deliver(side, late)
        for one in self.sides:
            one.detach()
        for side, one in enumerate(self.sides):
            again = one.resume(hellos[side], hellos[1 - side])
            self.on_the_way[side] = []
            self.acknowledge(side)
            self.on_the_way[side] += again

    def check(self) -> None:
        for side, one in enumerate(self.sides):
            check_kept(one)
            accepted, handled = self.accepted[side], self.handled[1 - side]
            texts = [packet.text for packet in accepted]
            assert [text for text, _ in handled] == texts[: len(handled)], "out of order, or twice"
            for packet, (_, verdict) in zip(accepted, handled, strict=False):
                assert packet.fates in ([], [verdict]), "settled twice, or wrongly"
            for packet in accepted[len(handled) :]:
                assert packet.fates == [], "settled before it was handled"


def honest(steps: bytes) -> None:
    wire = Wire()
    for step in steps:
        action, side, number = step & 7, step >> 3 & 1, step >> 4
        if action <= 1:
            wire.send(side, number)
        elif action == 2:
            wire.acknowledge(side)
        elif action <= 4:
            wire.deliver(side, number + 1)
        elif action == 5:
            wire.verdict[side] = REASONS[number % len(REASONS)]
        else:
            wire.reconnect(side, number)
        wire.check()
    wire.reconnect(0, 0)
    for side in (0, 1, 0, 1):
        wire.deliver(side, len(wire.on_the_way[side]))
        wire.acknowledge(0)
        wire.acknowledge(1)
    wire.check()
    for side in (0, 1):
        assert all(len(packet.fates) == 1 for packet in wire.accepted[side]), "never settled"


# One session and a peer that lies.


class Ledger:
    """A session beside plain numbers that say what must be."""

    def __init__(self) -> None:
        self.one = session(1, 2)
        self.sent = self.acknowledged = self.arrived = self.received = self.handled = self.told = 0
        self.attached = True

    @property
    def lies(self) -> tuple[int, ...]:
        """Numbers that a peer may claim."""
        now = (self.acknowledged, self.sent, self.handled, self.received)
        return (0, *now, *(one + 1 for one in now), 2**32, 2**63, 2**64 - 1, self.sent // 2)

    def release(self, number: int) -> None:
        before = list(self.one.kept)
        if number > self.sent:
            assert refuses(self.one.release, number) == "bad_packet"
        else:
            settled = self.one.release(number)
            expected = [packet for packet in before if packet.sequence <= number]
            assert settled == expected
            self.acknowledged = max(self.acknowledged, number)

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
            assert [packet.sequence for packet in again] == list(range(received + 1, self.sent + 1))
            self.attached, self.arrived, self.told = True, self.received, acknowledged

    def receive(self, size: int, reason: Reason | None) -> None:
        self.arrived += 1
        assert self.one.receive() is (self.arrived > self.received)
        if self.arrived > self.received:
            self.received = self.handled = self.arrived
            if reason is not None:
                self.one.refuse(reason)
            self.one.handle(size)

    def acknowledge(self) -> None:
        number, refusals = self.one.acknowledge()
        assert all(0 < one <= self.handled for one, _ in refusals)
        assert number in (0, self.handled)
        self.told = number or self.told

    def check(self) -> None:
        one = self.one
        check_kept(one)
        assert (one.sent, one.acknowledged, one.received, one.handled, one.told, one.arrived) == (
            (self.sent, self.acknowledged, self.received, self.handled, self.told, self.arrived)
        )
        assert one.state is (SessionState.ATTACHED if self.attached else SessionState.DETACHED)
        assert len(one._verdicts or ()) <= self.sent
        assert len(one._told_refusals or ()) <= MAX_TOLD_REFUSALS


def hostile(steps: bytes) -> None:
    ledger = Ledger()
    for step in steps:
        action, number = step & 7, step >> 3
        lie = ledger.lies[number % len(ledger.lies)]
        if action == 0:
            ledger.one.keep(Packet(size=number))
            ledger.sent += 1
        elif action == 1:
            ledger.release(lie)
        elif action == 2:
            ledger.resume(lie, ledger.lies[(number + step) % len(ledger.lies)])
        elif action == 3 and ledger.attached:
            ledger.receive(number, REASONS[number % len(REASONS)])
        elif action == 4 and ledger.attached:
            ledger.acknowledge()
        elif action == 5:
            ledger.one.note_refusals([(lie, Reason.REFUSED), (number, Reason.UNHANDLED)])
        elif action == 6 and lie != ledger.arrived:
            assert refuses(ledger.one.check, lie) == "bad_packet"
        ledger.check()
    ending(ledger.one)


def ending(one: Session[Packet]) -> None:
    """A session that is over gives up what it has kept, once, and lets late acknowledgements pass."""
    kept, sent = list(one.kept), one.sent
    assert one.end() == kept
    assert one.release(sent) == []
    assert not one.kept


# For both.


def told(one: Session[Packet]) -> pb.HelloPacket:
    hello = pb.HelloPacket()
    one.introduce(hello)
    return hello


def check_kept(one: Session[Packet]) -> None:
    assert [packet.sequence for packet in one.kept] == list(range(one.acknowledged + 1, one.sent + 1))
    assert one.kept_bytes == sum(packet.size for packet in one.kept)
    assert one.full is (len(one.kept) >= 8 or one.kept_bytes >= 200)


def refuses(function: Any, *arguments: Any) -> str | None:
    """The reason for which a call blames the peer."""
    try:
        function(*arguments)
    except RemoteProtocolError as error:
        return blamed(error)
    return None
