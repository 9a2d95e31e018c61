"""Dispatcher: one frame after the other through the gates to its callback."""

from __future__ import annotations

from peernet.channel.acknowledger import Acknowledger
from peernet.channel.callbacks import Callbacks
from peernet.channel.control_packets import ControlPackets, check_origin
from peernet.channel.lifecycle import Lifecycle
from peernet.channel.link import Frame
from peernet.channel.permissions import Permissions
from peernet.channel.reporter import Reporter
from peernet.channel.sender import Sender
from peernet.channel.state import SENDABLE
from peernet.reasons import Reason
from peernet.v1 import packet_pb2 as pb
from peernet.wire.connection import Connection, ConnectionState
from peernet.wire.elision import Elided
from peernet.wire.packets import UNKNOWN, Kind, decode, peek, peek_bare, peek_numbers
from peernet.wire.session import Session


class Dispatcher:
    """The receiving half of a channel.

    Args:
        reporter: counts what reaches no callback, and tells the network of it.
        lifecycle: says whether frames still count.
        permissions: what the peer may send.
        session: the channel's, if it has one.
        acknowledger: tells the peer what was handled; ``None`` without a session.
        sender: takes the acknowledgements that come with packets.
        callbacks: where packets go that pass.
        control_packets: where those of the protocol itself go.
        connection: that of the channel's first link.
    """

    __slots__ = (
        "_acknowledger",
        "_callbacks",
        "_connection",
        "_control_packets",
        "_lifecycle",
        "_permissions",
        "_reporter",
        "_sender",
        "_session",
    )

    def __init__(
        self,
        *,
        reporter: Reporter,
        lifecycle: Lifecycle,
        permissions: Permissions,
        session: Session | None,
        acknowledger: Acknowledger | None,
        sender: Sender,
        callbacks: Callbacks,
        control_packets: ControlPackets,
        connection: Connection,
    ) -> None:
        self._reporter = reporter
        self._lifecycle = lifecycle
        self._permissions = permissions
        self._session = session
        self._acknowledger = acknowledger
        self._sender = sender
        self._callbacks = callbacks
        self._control_packets = control_packets
        self._connection = connection

    def begin(self, connection: Connection) -> None:
        """The frames of another link come now."""
        self._connection = connection
        self._lifecycle.begin_reading()

    def handle(self, frame: Frame) -> bool:
        """Take one frame through the gates to its callback. Returns whether to go on.

        This is the one place where the numbers of a session are written by somebody else; see
        :class:`~peernet.wire.session.Session`. Two calls instead would cost the receiver of a small packet 5 %
        more instructions (measured).

        Raises:
            RemoteProtocolError: the peer has broken the protocol.
        """
        lifecycle = self._lifecycle
        if not lifecycle.reading:  # the channel has left this state, or this link, since the last frame
            return self._connection.state is ConnectionState.LEAVING and self.handle_last(frame)
        kind = peek_bare(frame)
        session, acknowledger = self._session, self._acknowledger
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
        return lifecycle.reading

    def handle_last(self, frame: Frame) -> bool:
        """Take one frame after our own goodbye: only acknowledgements count. Returns whether to go on."""
        kind = peek(frame)
        self._connection.received(kind, len(frame))
        if kind.name == "acknowledge":
            self._control_packets.take_acknowledgement(decode(frame))
        return kind.name != "disconnect"

    # What the link tells.

    def rest(self) -> None:
        """No frame is there for now."""
        if self._callbacks.ends_program:
            self._tell_now()
        if self._acknowledger is not None:
            self._acknowledger.rest()

    def end_turn(self) -> None:
        """Others have their turn now."""
        if self._callbacks.ends_program:
            self._tell_now()
        if self._acknowledger is not None:
            self._acknowledger.end_turn()

    def took_long(self, seconds: float) -> None:
        """The frame handled last has taken long, and others could last run ``seconds`` ago."""
        self._callbacks.took_long(seconds)

    def _tell_now(self) -> None:
        """The program ends as soon as others run: the peer hears before what became of its packets."""
        self._callbacks.ends_program = False
        if self._acknowledger is not None:
            self._acknowledger.acknowledge()

    # The gates.

    def _handle_any(self, frame: Frame) -> bool:
        """:meth:`handle` for packets of every kind, with any envelope."""
        kind = peek(frame)
        if not kind.bulk:  # an open connection may always carry the bulk kinds
            self._connection.received(kind, len(frame))
        session = self._session
        if not kind.numbered:
            packet = decode(frame)
            self._control_packets.take(kind.name, packet, len(frame))
            self._answer(packet.acknowledge_now)
        elif session is None:
            if type(frame) is Elided:
                self._turn_away(kind)
            else:
                self._pass_gates(kind, frame)
        elif session.receive():
            self._pass_numbered(session, kind, frame)
        return self._lifecycle.reading

    def _pass_numbered(self, session: Session, kind: Kind, frame: Frame) -> None:
        """Take the numbers that a packet carries, and then the packet, through the gates."""
        number = session.received
        # What was dropped as it came stays refused, even if its kind is permitted by now.
        permitted = kind.name in self._permissions.kinds and type(frame) is not Elided
        packet = decode(frame) if permitted else None
        # The envelope of what is not permitted is read by hand, so that its body is never parsed.
        sequence, acknowledged, asks = (
            peek_numbers(frame) if packet is None else (packet.sequence, packet.acknowledged, packet.acknowledge_now)
        )
        self._take_numbers(session, sequence, acknowledged)
        if self._lifecycle.state not in SENDABLE:  # those who were told may have ended it
            return
        self.end_turn()
        if packet is None or kind.name not in self._permissions.kinds:
            self._turn_away(kind)
        else:
            self._deliver(kind, packet)
        session.has_handled(number)
        self._answer(asks)

    def _answer(self, asks: bool) -> None:
        """A packet is dealt with: acknowledge, if its sender waits for that."""
        if asks and self._acknowledger is not None:
            self._acknowledger.answer()

    def _take_numbers(self, session: Session, sequence: int, acknowledged: int) -> None:
        if acknowledged:
            self._sender.settle(acknowledged)
        if sequence:
            session.check(sequence)

    def _pass_gates(self, kind: Kind, frame: Frame) -> None:
        if kind.name in self._permissions.kinds:
            self._deliver(kind, decode(frame))
        else:
            self._turn_away(kind)

    def _deliver(self, kind: Kind, packet: pb.Packet) -> None:
        if packet.source_origin_identifier:
            check_origin(kind.name, packet.source_origin_identifier, self._lifecycle.peer.identifier)
        reason = self._callbacks.call(kind.name, packet)
        if reason is not None and self._session is not None:
            self._session.refuse(reason)

    def _turn_away(self, kind: Kind) -> None:
        if kind.control:
            return  # withdrawn: its number counts, and nobody else is concerned
        if kind is UNKNOWN:
            self._refuse("unknown_kind", Reason.UNHANDLED)
        else:
            self._refuse("refused", Reason.NOT_PERMITTED)
            self._reporter.refused(kind.name)

    def _refuse(self, what: str, reason: Reason) -> None:
        self._reporter.count(what)
        if self._session is not None:
            self._session.refuse(reason)
