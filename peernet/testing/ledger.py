"""Ledger: books of what was accepted, acknowledged, failed and delivered, and whether they agree."""

from __future__ import annotations

import time
from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from functools import partial
from hashlib import blake2b
from typing import TYPE_CHECKING

import gevent
from google.protobuf.message import Message

from peernet.errors import ConfigurationError, PeerNetError
from peernet.testing.resources import Resources
from peernet.wire.packets import encode_body

if TYPE_CHECKING:
    from peernet.channel.channel import PeerChannel
    from peernet.channel.receipts import Receipt
    from peernet.network import PeerNetwork
    from peernet.v1.packet_pb2 import Packet

MIB = 1024 * 1024
# So many violations stand in a report; one root cause seldom breaks a single packet.
SHOWN = 20
# How an accepted packet ended, in one byte each.
_PENDING, _ACKNOWLEDGED, _FAILED = 0, 1, 2


class Rule(Enum):
    """What must hold. A failed packet may be delivered later all the same: its fate was not known."""

    ACCEPTED = "every delivery was accepted, with the same bytes"
    ONCE = "nothing is delivered twice"
    ORDERED = "what one peer sends to another arrives in the order in which it was accepted"
    KEPT = "what is acknowledged was delivered"
    RESOLVED = "what is accepted ends"
    RESOLVED_ONCE = "it ends as exactly one of acknowledged and failed"
    RELEASED = "file descriptors, greenlets, threads and memory return to their baseline"


@dataclass(frozen=True)
class Violation:
    """A rule that was broken, and where."""

    rule: Rule
    text: str

    def __str__(self) -> str:
        return f"{self.rule.name}: {self.text}"


class LedgerError(PeerNetError, AssertionError):
    """The books do not agree; ``violations`` says where."""

    def __init__(self, violations: list[Violation]) -> None:
        super().__init__(_report(violations))
        self.violations = violations


class _Flow:
    """The books on what one peer sends to another. Packets are known by 64 bits of their hash."""

    def __init__(self, sender: str, receiver: str) -> None:
        self.name = f"{sender[:8]} to {receiver[:8]}"
        self.accepted = array("Q")
        self.ends = bytearray()
        self.delivered = array("Q")
        self.ended_twice: list[int] = []

    def accept(self, digest: int) -> int:
        self.accepted.append(digest)
        self.ends.append(_PENDING)
        return len(self.accepted) - 1

    def end(self, index: int, how: int) -> None:
        if self.ends[index] != _PENDING:
            self.ended_twice.append(index)
        self.ends[index] = how

    def violations(self) -> Iterator[Violation]:
        yield from self._wrong_deliveries()
        yield from self._lost()
        for index, end in enumerate(self.ends):
            if end == _PENDING:
                yield self._violation(Rule.RESOLVED, f"packet {index} is neither acknowledged nor failed")
        for index in self.ended_twice:
            yield self._violation(Rule.RESOLVED_ONCE, f"packet {index} has ended twice")

    def _wrong_deliveries(self) -> Iterator[Violation]:
        if self.delivered == self.accepted:
            return
        places: dict[int, list[int]] = {}
        for index, digest in enumerate(self.accepted):
            places.setdefault(digest, []).append(index)
        last = -1
        for number, digest in enumerate(self.delivered):
            left = places.get(digest)
            if left is None:
                yield self._violation(Rule.ACCEPTED, f"delivery {number} is of a packet that was never accepted")
            elif not left:
                yield self._violation(Rule.ONCE, f"delivery {number} is of a packet that was delivered before")
            else:
                # Of packets that are equal, the first that is in order.
                index = next((one for one in left if one > last), left[0])
                left.remove(index)
                if index < last:
                    yield self._violation(Rule.ORDERED, f"packet {index} was delivered after packet {last}")
                last = max(last, index)

    def _lost(self) -> Iterator[Violation]:
        acknowledged = [index for index, end in enumerate(self.ends) if end == _ACKNOWLEDGED]
        missing = Counter(self.accepted[index] for index in acknowledged) - Counter(self.delivered)
        for index in acknowledged if missing else ():
            digest = self.accepted[index]
            if missing[digest] > 0:
                missing[digest] -= 1
                yield self._violation(Rule.KEPT, f"packet {index} is acknowledged and was not delivered")

    def _violation(self, rule: Rule, text: str) -> Violation:
        return Violation(rule, f"{self.name}: {text}")


class Ledger:
    """Books for tests of programs that exchange packets.

    Watch every network that takes part, send with :meth:`send`, and :meth:`check` at the end::

        ledger = Ledger()
        ledger.watch(alice)
        ledger.watch(bob)
        ledger.send(channel, PureMessagePacket(message="1"))
        ...
        ledger.check()

    Packets are compared by a hash of what they carry. Those from one peer to another that carry the same are told
    apart by their order only, so number what you send. It takes about 20 bytes for each packet.
    """

    def __init__(self) -> None:
        self._flows: dict[tuple[str, str], _Flow] = {}
        self._networks: list[PeerNetwork] = []
        self._senders: dict[PeerChannel, _Flow] = {}
        self._baseline: Resources | None = None
        self._memory_tolerance = 0

    # Writing.

    def watch(self, network: PeerNetwork) -> None:
        """Record what the callbacks of a network get, and know its channels for :meth:`send`."""
        self._networks.append(network)
        network.packet_received.add(partial(self._received, network))
        network.peer_removed.add(lambda channel, reason: self._senders.pop(channel, None))

    def send(self, channel: PeerChannel, message: Message, *, timeout: float | None = None) -> Receipt:
        """``channel.send(...)``, and the books on what becomes of it.

        Raises:
            ConfigurationError: the channel belongs to no network that is watched.
            ChannelError: or another one that ``channel.send`` raises; then nothing is recorded.
        """
        flow = self._flow_of(channel)
        digest = _digest(message)
        receipt = channel.send(message, timeout=timeout)
        receipt.add_done_callback(partial(_settle, flow, flow.accept(digest)))
        return receipt

    def note_accepted(self, sender: str, receiver: str, message: Message) -> int:
        """Record that a packet was accepted, for programs that do not send with :meth:`send`.

        Returns:
            Its number among those of ``sender`` to ``receiver``, beginning with 0.
        """
        return self._flow(sender, receiver).accept(_digest(message))

    def note_acknowledged(self, sender: str, receiver: str, number: int) -> None:
        """Record that a packet was acknowledged."""
        self._flow(sender, receiver).end(number, _ACKNOWLEDGED)

    def note_failed(self, sender: str, receiver: str, number: int) -> None:
        """Record that a packet has failed."""
        self._flow(sender, receiver).end(number, _FAILED)

    def note_delivered(self, sender: str, receiver: str, message: Message) -> None:
        """Record that a callback of ``receiver`` got a packet."""
        self._flow(sender, receiver).delivered.append(_digest(message))

    def measure_baseline(self, *, memory_tolerance: int = 64 * MIB) -> None:
        """Remember what the process holds now; :meth:`check` compares.

        Args:
            memory_tolerance: bytes of memory that may come on top. Python seldom gives all back.
        """
        self._memory_tolerance = memory_tolerance
        self._baseline = Resources.measure()

    # Reading.

    def totals(self) -> Counter[str]:
        """How many packets are accepted, acknowledged, failed, pending and delivered."""
        totals = Counter(accepted=0, acknowledged=0, failed=0, pending=0, delivered=0)
        for flow in self._flows.values():
            totals["accepted"] += len(flow.accepted)
            totals["acknowledged"] += flow.ends.count(_ACKNOWLEDGED)
            totals["failed"] += flow.ends.count(_FAILED)
            totals["pending"] += flow.ends.count(_PENDING)
            totals["delivered"] += len(flow.delivered)
        return totals

    def violations(self) -> list[Violation]:
        """Every rule that is broken now, and where."""
        found = [violation for flow in self._flows.values() for violation in flow.violations()]
        if self._baseline is not None:
            more = Resources.measure().beyond(self._baseline, self._memory_tolerance)
            found += [Violation(Rule.RELEASED, text) for text in more]
        return found

    def check(self, timeout: float = 0.0) -> None:
        """Return if every rule holds.

        Args:
            timeout: seconds to wait for that: for what is on its way, or for resources that are being released.

        Raises:
            LedgerError: a rule is broken.
        """
        ends = time.monotonic() + timeout
        while violations := self.violations():
            if time.monotonic() >= ends:
                raise LedgerError(violations)
            gevent.sleep(min(0.1, timeout))

    def _flow(self, sender: str, receiver: str) -> _Flow:
        flow = self._flows.get((sender, receiver))
        if flow is None:
            flow = self._flows[sender, receiver] = _Flow(sender, receiver)
        return flow

    def _flow_of(self, channel: PeerChannel) -> _Flow:
        flow = self._senders.get(channel)
        if flow is None:
            peer = channel.peer.identifier
            owner = next((one for one in self._networks if one.channel_to(peer) is channel), None)
            if owner is None:
                raise ConfigurationError(f"{channel!r} is no open channel of a network that this ledger watches")
            flow = self._senders[channel] = self._flow(owner.identifier, peer)
        return flow

    def _received(self, network: PeerNetwork, channel: PeerChannel, packet: Packet) -> None:
        kind = packet.WhichOneof("body") or ""
        if kind != "disconnect" and (kind in channel.handlers or kind in network.handlers):
            self.note_delivered(channel.peer.identifier, network.identifier, getattr(packet, kind))


def _settle(flow: _Flow, index: int, receipt: Receipt) -> None:
    flow.end(index, _FAILED if receipt.failed else _ACKNOWLEDGED)


def _digest(message: Message) -> int:
    """64 bits that stand for a body: its kind and everything in it."""
    kind, _, content = encode_body(message)
    return int.from_bytes(blake2b(content, digest_size=8, person=kind.name.encode()[:16]).digest(), "little")


def _report(violations: list[Violation]) -> str:
    by_rule = Counter(violation.rule for violation in violations)
    lines = [f"{len(violations)} violations"]
    lines += [f"  {count} x {rule.name}: {rule.value}" for rule, count in by_rule.items()]
    lines += ["the first of them:", *(f"  {violation}" for violation in violations[:SHOWN])]
    return "\n".join(lines)
