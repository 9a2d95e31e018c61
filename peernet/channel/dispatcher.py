"""Dispatcher: one frame after the other through the gates to its callback."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import gevent

from peernet.channel.acknowledger import Acknowledger, AcknowledgeTimer
from peernet.channel.handlers import Callback, InThreadpool, PacketHandleProtocol, find_callback
from peernet.channel.link import Frame, Link
from peernet.channel.receipts import ReceiptBook
from peernet.channel.state import SENDABLE
from peernet.errors import RemoteProtocolError
from peernet.reasons import Reason
from peernet.runtime import clock
from peernet.runtime.events import Event
from peernet.runtime.logs import get_logger
from peernet.runtime.text import printable
from peernet.runtime.threads import CallbackThreads
from peernet.trust.policy import CONTROL, Decision, IncomingPeerTrustPolicy
from peernet.v1 import packet_pb2 as pb
from peernet.wire.connection import Connection, ConnectionState
from peernet.wire.packets import UNKNOWN, Kind, decode, peek, peek_bare, peek_numbers
from peernet.wire.session import REFUSALS_PER_PACKET, Session

if TYPE_CHECKING:
    from peernet.channel.channel import PeerChannel

logger = get_logger(__name__)

# A failing or a blocking callback is logged at most this often per channel. Seconds.
LOG_EVERY = 60.0
# So many failures of a callback in a row on a channel are no accident.
FAILING = 20
# A callback that let nobody else run for this long is named in the log. Seconds.
BLOCKING = 0.1
# How far the two clocks that are compared for that may be apart. Seconds.
CLOCKS_APART = 0.02


class DispatchOwner(Protocol):
    """What a dispatcher needs of the network it belongs to."""

    handlers: PacketHandleProtocol
    counters: Counter[str]
    packet_received: Event
    acknowledge_timer: AcknowledgeTimer
    threads: CallbackThreads

    @property
    def policy(self) -> IncomingPeerTrustPolicy: ...

    def on_refused(self, channel: PeerChannel, kind: str, decision: Decision) -> None: ...

    def on_handler_failing(self, channel: PeerChannel, kind: str, error: BaseException) -> None: ...


class Dispatcher:
    """The receiving half of a channel.

    Args:
        channel: whose packets these are; given to the callbacks.
        owner: its network.
        session: the channel's, if it has one.
        link: the channel's first.
        book: the channel's receipts.

    Attributes:
        acknowledger: tells the peer what was handled; ``None`` without a session.
        reading: whether to go on with the next frame; the channel clears it when the
            frames that still come do not count any more.
        handlers: callbacks of this channel only, if there are any.
        received: how many packets have reached their callback.
    """

    __slots__ = (
        "_book",
        "_callback",
        "_channel",
        "_connection",
        "_failing",
        "_failures_logged_at",
        "_owner",
        "_packet_received",
        "_permitted",
        "_session",
        "_slowness_logged_at",
        "acknowledger",
        "handlers",
        "reading",
        "received",
    )

    def __init__(
        self, channel: PeerChannel, owner: DispatchOwner, session: Session | None, link: Link, book: ReceiptBook
    ) -> None:
        self._channel = channel
        self._owner = owner
        self._packet_received = owner.packet_received
        self._session = session
        self._book = book
        self._connection = link.connection
        self._permitted: frozenset[str] = frozenset()
        self._callback: Callback | None = None  # the one called last
        self._failing: dict[str, int] | None = None  # by kind: how many failures in a row
        self._failures_logged_at = self._slowness_logged_at = float("-inf")
        self.acknowledger = None if session is None else Acknowledger(session, link, owner.acknowledge_timer)
        self.handlers: PacketHandleProtocol | None = None
        self.reading = False
        self.received = 0

    def refresh_permissions(self) -> None:
        """Take note that the policy or the trust has changed."""
        self._permitted = self._owner.policy.permitted_kinds(self._channel) - CONTROL

    def begin(self, connection: Connection, *, reading: bool) -> None:
        """The frames of another link come now."""
        self._connection = connection
        self.reading = reading

    def handle(self, frame: Frame) -> bool:
        """Take one frame through the gates to its callback. Returns whether to go on.

        Raises:
            RemoteProtocolError: the peer has broken the protocol.
        """
        if not self.reading:  # the channel has left this state, or this link, since the last frame
            return self._connection.state is ConnectionState.LEAVING and self.handle_last(frame)
        kind = peek_bare(frame)
        session, acknowledger = self._session, self.acknowledger
        if kind is None or not kind.bulk or (session is not None and session.duplicates):
            return self._handle_any(frame)
        if session is None or acknowledger is None:  # who has one has both
            self._pass_gates(kind, frame)
        else:
            session.received = number = session.received + 1
            if session.handled != session.told and not acknowledger.waiting:
                acknowledger.end_turn()  # the callback may take its time
            self._pass_gates(kind, frame)
            session.handled = number
        return self.reading

    def handle_last(self, frame: Frame) -> bool:
        """Take one frame after our own goodbye: only acknowledgements count. Returns whether to go on."""
        kind = peek(frame)
        self._connection.received(kind, len(frame))
        if kind.name == "acknowledge":
            self._take_acknowledgement(decode(frame))
        return kind.name != "disconnect"

    def rest(self) -> None:
        """No frame is there for now."""
        if self.acknowledger is not None:
            self.acknowledger.rest()

    def end_turn(self) -> None:
        """Others have their turn now."""
        if self.acknowledger is not None:
            self.acknowledger.end_turn()

    def took_long(self, seconds: float) -> None:
        """The callbacks of the last ``seconds`` took their time: name the latest, if nothing else could run."""
        blocked = clock.wall() - gevent.get_hub().loop.now()
        now = clock.monotonic()
        if blocked >= BLOCKING and now - self._slowness_logged_at >= LOG_EVERY:
            self._slowness_logged_at = now
            # If the loop has polled since, the callback has waited, and whatever ran then may have been it.
            doubt = ", or what ran while it waited," if blocked < seconds - CLOCKS_APART else ""
            logger.warning(
                "the callback %s on %r%s let nothing else run for %.1f s; callbacks that take long belong "
                "into threads: see InThreadpool",
                _name(self._callback),
                self._channel,
                doubt,
                min(blocked, seconds),
            )

    # The gates.

    def _handle_any(self, frame: Frame) -> bool:
        """:meth:`handle` for packets of every kind, with any envelope."""
        kind = peek(frame)
        if not kind.bulk:  # an open connection may always carry the bulk kinds
            self._connection.received(kind, len(frame))
        session = self._session
        if kind.control:
            self._channel.on_control(len(frame))
            self._handle_control(kind.name, decode(frame))
        elif session is None:
            self._pass_gates(kind, frame)
        elif session.receive():
            self._pass_numbered(session, kind, frame)
        return self.reading

    def _pass_numbered(self, session: Session, kind: Kind, frame: Frame) -> None:
        """Take the numbers that a packet carries, and then the packet, through the gates."""
        number = session.received
        packet = decode(frame) if kind.name in self._permitted else None
        # The envelope of what is not permitted is read by hand, so that its body is never parsed.
        numbers = peek_numbers(frame) if packet is None else (packet.sequence, packet.acknowledged)
        self._take_numbers(session, *numbers)
        if self._channel.state not in SENDABLE:  # those who were told may have ended it
            return
        self.end_turn()
        if packet is None or kind.name not in self._permitted:
            self._turn_away(kind)
        else:
            self._deliver(kind, packet)
        session.handled = number

    def _pass_gates(self, kind: Kind, frame: Frame) -> None:
        if kind.name in self._permitted:
            self._deliver(kind, decode(frame))
        else:
            self._turn_away(kind)

    def _deliver(self, kind: Kind, packet: pb.Packet) -> None:
        if packet.source_origin_identifier:
            self._check_origin(kind.name, packet.source_origin_identifier)
        self.call(kind.name, packet)

    def _turn_away(self, kind: Kind) -> None:
        if kind is UNKNOWN:
            self._refuse("unknown_kind", Reason.UNHANDLED)
        else:
            self._refuse("refused", Reason.NOT_PERMITTED)
            self._owner.on_refused(self._channel, kind.name, self._owner.policy.permits(kind.name, self._channel))

    def call(self, kind: str, packet: pb.Packet) -> None:
        """Call back. What the callback raises is counted and logged."""
        self.received += 1
        if self._packet_received.listeners:
            self._packet_received.fire(self._channel, packet)
        self._callback = callback = find_callback(kind, self.handlers, self._owner.handlers)
        if callback is None:
            self._refuse("unhandled", Reason.UNHANDLED)
            return
        try:
            if type(callback) is InThreadpool:
                self._owner.threads.run(callback, self._channel, packet)
            else:
                callback(self._channel, packet)
        except (Exception, gevent.Timeout) as error:
            self._callback_failed(kind, error)
        else:
            if self._failing:
                self._failing.pop(kind, None)

    def _check_origin(self, kind: str, origin: str) -> None:
        if origin not in ("", self._channel.peer.identifier):
            raise RemoteProtocolError(
                f"a packet of kind {kind} claims to be from {printable(origin)}", Reason.ORIGIN_MISMATCH
            )

    def _refuse(self, what: str, reason: Reason) -> None:
        self._channel.count(what)
        if self._session is not None:
            self._session.refuse(reason)

    def _callback_failed(self, kind: str, error: BaseException) -> None:
        """Count it, and log it now and then: a million failures must not fill a disk."""
        self._channel.count("callback_failed")
        self._note_failure(kind, error)
        now = clock.monotonic()
        if now - self._failures_logged_at >= LOG_EVERY:
            self._failures_logged_at = now
            failures = self._channel.counters["callback_failed"]
            logger.error("the callback for %s failed (%d so far on %r)", kind, failures, self._channel, exc_info=error)

    def _note_failure(self, kind: str, error: BaseException) -> None:
        self._failing = self._failing or {}
        self._failing[kind] = in_a_row = self._failing.get(kind, 0) + 1
        if in_a_row == FAILING:
            self._channel.count("handler_failing")
            self._owner.on_handler_failing(self._channel, kind, error)

    # What the protocol itself has to say.

    def _handle_control(self, kind: str, packet: pb.Packet) -> None:
        self._take_acknowledgement(packet)
        if not self.reading:
            return  # those who were told have ended the channel
        if kind == "heartbeat":
            self._channel.on_heartbeat(packet)
        elif kind == "disconnect":
            self._check_origin(kind, packet.source_origin_identifier)
            self._channel.on_goodbye(packet)

    def _take_numbers(self, session: Session, sequence: int, acknowledged: int) -> None:
        if acknowledged:
            self._settle(session, acknowledged)
        if sequence:
            session.check(sequence)

    def _take_acknowledgement(self, packet: pb.Packet) -> None:
        session = self._session
        if session is not None:
            if packet.HasField("acknowledge"):
                refusals = packet.acknowledge.refusals
                if len(refusals) > REFUSALS_PER_PACKET:
                    raise RemoteProtocolError(f"a packet has {len(refusals)} refusals", Reason.BAD_PACKET)
                for one in refusals:
                    if one.sequence <= session.sent:
                        self._book.refuse(one.sequence, Reason.from_refusal_number(one.reason))
            self._settle(session, packet.acknowledged)

    def _settle(self, session: Session, acknowledged: int) -> None:
        session.release(acknowledged)
        self._book.settle(acknowledged)
        self._channel.on_settled()


def _name(callback: Callable[..., object] | None) -> str:
    if isinstance(callback, InThreadpool):
        callback = callback.callback
    return f"{getattr(callback, '__module__', '?')}.{getattr(callback, '__qualname__', repr(callback))}"
