"""Dispatcher: one frame after the other through the gates to its callback, and back what becomes of it."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import gevent

from peernet.errors import RemoteProtocolError
from peernet.events import Event
from peernet.handlers import Callback, PacketHandleProtocol, find_callback
from peernet.link import Frame, Link
from peernet.reasons import Reason
from peernet.receipts import Receipt
from peernet.text import printable
from peernet.trust import CONTROL, Decision, IncomingPeerTrustPolicy
from peernet.v1 import packet_pb2 as pb
from peernet.wire.packets import UNKNOWN, Kind, decode, encode_envelope, peek, peek_numbers
from peernet.wire.session import REFUSALS_PER_PACKET, Session

if TYPE_CHECKING:
    from peernet.channel import PeerChannel

logger = logging.getLogger(__name__)

# A failing or a blocking callback is logged at most this often per channel. Seconds.
LOG_EVERY = 60.0
# A callback that let nobody else run for this long is named in the log. Seconds.
BLOCKING = 0.1


class DispatchOwner(Protocol):
    """What a dispatcher needs of the network it belongs to."""

    handlers: PacketHandleProtocol
    counters: Counter[str]
    packet_received: Event

    @property
    def policy(self) -> IncomingPeerTrustPolicy: ...

    def on_refused(self, channel: PeerChannel, kind: str, decision: Decision) -> None: ...

    def acknowledge_soon(self, dispatcher: Dispatcher) -> None: ...


class Dispatcher:
    """The receiving half of a channel.

    Args:
        channel: whose packets these are; given to the callbacks.
        owner: its network.
        session: the channel's, if it has one.
        link: the channel's first.

    Attributes:
        connection: the protocol state of the link that is being read.
        link: where acknowledgements leave; another one than is read while a callback outlives its link.
        reading: whether to go on with the next frame; the channel clears it when the
            frames that still come do not count any more.
        handlers: callbacks of this channel only, if there are any.
        received: how many packets have reached their callback.
        owing: whether the network's timer will acknowledge what has been handled.
    """

    __slots__ = (
        "_callback",
        "_channel",
        "_failures_logged_at",
        "_owner",
        "_permitted",
        "_session",
        "_slowness_logged_at",
        "connection",
        "handlers",
        "link",
        "owing",
        "reading",
        "received",
    )

    def __init__(
        self, channel: PeerChannel, owner: DispatchOwner, session: Session[Receipt] | None, link: Link
    ) -> None:
        self._channel = channel
        self._owner = owner
        self._session = session
        self._permitted: frozenset[str] = frozenset()
        self._callback: Callback | None = None  # the one called last
        self._failures_logged_at = self._slowness_logged_at = float("-inf")
        self.handlers: PacketHandleProtocol | None = None
        self.link = link
        self.connection = link.connection
        self.reading = False
        self.received = 0
        self.owing = False

    def refresh_permissions(self) -> None:
        """Take note that the policy or the trust has changed."""
        self._permitted = self._owner.policy.permitted_kinds(self._channel) - CONTROL

    def handle(self, frame: Frame) -> bool:
        """Take one frame through the gates to its callback. Returns whether to go on.

        Raises:
            RemoteProtocolError: the peer has broken the protocol.
        """
        if not self.reading:
            return False  # the channel has left this state, or this link, since the last frame
        kind = peek(frame)
        if not kind.bulk:  # an open connection may always carry the bulk kinds
            self.connection.received(kind, len(frame))
        if kind.control:
            self._handle_control(kind.name, decode(frame))
            return self.reading
        session = self._session
        if session is None:
            self._pass_gates(kind, frame)
        elif session.receive():
            self._pass_gates(kind, frame)
            if session.handle(len(frame)):
                self.acknowledge()
            elif not self.owing:
                self.owing = True
                self._owner.acknowledge_soon(self)
        return self.reading

    def handle_last(self, frame: Frame) -> bool:
        """Take one frame after our own goodbye: only acknowledgements count. Returns whether to go on."""
        kind = peek(frame)
        self.connection.received(kind, len(frame))
        if kind.name == "acknowledge":
            self._take_acknowledgement(decode(frame))
        return kind.name != "disconnect"

    def acknowledge(self) -> None:
        """Tell the peer what has been handled, if it does not know yet."""
        session, link = self._session, self.link
        while session is not None and link.may_acknowledge and (session.owes or session.refused):
            number, refused = session.acknowledge()
            body = pb.AcknowledgePacket(
                refusals=[pb.Refusal(sequence=one, reason=reason.refusal_number) for one, reason in refused]
            )
            link.put_control(body, encode_envelope(acknowledged=number))

    def took_long(self) -> None:
        """The callback called last has taken its time: name it, if nothing else could run meanwhile."""
        blocked = time.time() - gevent.get_hub().loop.now()
        now = time.monotonic()
        if blocked >= BLOCKING and now - self._slowness_logged_at >= LOG_EVERY:
            self._slowness_logged_at = now
            logger.warning(
                "the callback %s on %r let nothing else run for %.1f s; use gevent's threadpool for long work",
                _name(self._callback),
                self._channel,
                blocked,
            )

    # The gates.

    def _pass_gates(self, kind: Kind, frame: Frame) -> None:
        if kind.name in self._permitted:
            self._deliver(kind.name, decode(frame))
            return
        self._take_numbers(*peek_numbers(frame))
        if kind is UNKNOWN:
            self._refuse("unknown_kind", Reason.UNHANDLED)
        else:
            self._refuse("refused", Reason.NOT_PERMITTED)
            self._owner.on_refused(self._channel, kind.name, self._owner.policy.permits(kind.name, self._channel))

    def _deliver(self, kind: str, packet: pb.Packet) -> None:
        if packet.source_origin_identifier:
            self._check_origin(kind, packet.source_origin_identifier)
        self._take_numbers(packet.sequence, packet.acknowledged)
        self.call(kind, packet)

    def call(self, kind: str, packet: pb.Packet) -> None:
        """Call back. What the callback raises is counted and logged."""
        self.received += 1
        owner = self._owner
        if owner.packet_received.listeners:
            owner.packet_received.fire(self._channel, packet)
        self._callback = callback = find_callback(kind, self.handlers, owner.handlers)
        if callback is None:
            self._refuse("unhandled", Reason.UNHANDLED)
            return
        try:
            callback(self._channel, packet)
        except (Exception, gevent.Timeout) as error:
            self._callback_failed(kind, error)

    def _take_numbers(self, sequence: int, acknowledged: int) -> None:
        session = self._session
        if session is not None:
            if acknowledged:
                self._settle(session, acknowledged)
            if sequence:
                session.check(sequence)

    def _check_origin(self, kind: str, origin: str) -> None:
        if origin not in ("", self._channel.peer.identifier):
            raise RemoteProtocolError(
                f"a packet of kind {kind} claims to be from {printable(origin)}", Reason.ORIGIN_MISMATCH
            )

    def _refuse(self, what: str, reason: Reason) -> None:
        self._channel.count(what)
        if self._session is not None:
            self._session.refuse(reason)

    # Packets of the protocol itself.

    def _handle_control(self, kind: str, packet: pb.Packet) -> None:
        self._take_acknowledgement(packet)
        if kind == "heartbeat":
            self._channel.on_heartbeat(packet)
        elif kind == "disconnect":
            self._check_origin(kind, packet.source_origin_identifier)
            self._channel.on_goodbye(packet)

    def _take_acknowledgement(self, packet: pb.Packet) -> None:
        session = self._session
        if session is not None:
            if packet.HasField("acknowledge"):
                refusals = packet.acknowledge.refusals
                if len(refusals) > REFUSALS_PER_PACKET:
                    raise RemoteProtocolError(f"a packet has {len(refusals)} refusals", Reason.BAD_PACKET)
                session.note_refusals((one.sequence, Reason.from_refusal_number(one.reason)) for one in refusals)
            self._settle(session, packet.acknowledged)

    def _settle(self, session: Session[Receipt], acknowledged: int) -> None:
        settled = session.release(acknowledged)
        if session.has_verdicts:
            for receipt in settled:
                receipt.settle(session.verdict(receipt.sequence))
        else:
            for receipt in settled:
                receipt.settle()
        if settled:
            self._channel.on_settled()

    def _callback_failed(self, kind: str, error: BaseException) -> None:
        """Count it, and log it now and then: a million failures must not fill a disk."""
        self._channel.count("callback_failed")
        now = time.monotonic()
        if now - self._failures_logged_at >= LOG_EVERY:
            self._failures_logged_at = now
            failures = self._channel.counters["callback_failed"]
            logger.error("the callback for %s failed (%d so far on %r)", kind, failures, self._channel, exc_info=error)


class AcknowledgeTimer:
    """Acknowledges on all channels of a network, a moment after the first of them owes it.

    Args:
        delay: that moment, in seconds.
    """

    def __init__(self, delay: float) -> None:
        self._delay = delay
        self._owing: list[Dispatcher] = []

    def acknowledge_soon(self, dispatcher: Dispatcher) -> None:
        """Let a dispatcher acknowledge when the time has come. Once until then is enough."""
        if not self._owing:
            loop = gevent.get_hub().loop
            timer = loop.timer(self._delay)
            timer.start(self._fire, timer)
        self._owing.append(dispatcher)

    def _fire(self, timer: object) -> None:
        timer.stop()  # type: ignore[attr-defined]  # gevent's watchers have no public type
        timer.close()  # type: ignore[attr-defined]  # gevent's watchers have no public type
        owing, self._owing = self._owing, []
        for dispatcher in owing:
            dispatcher.owing = False
            dispatcher.acknowledge()


def _name(callback: Callable[..., object] | None) -> str:
    return f"{getattr(callback, '__module__', '?')}.{getattr(callback, '__qualname__', repr(callback))}"
