"""Sessions: packets are numbered, kept until acknowledged, and survive the loss of a connection.

A session joins two independent numberings, one for each direction. Numbers are not
on the wire: both sides count the packets of every kind that is not control, from 1,
and the hellos of a new connection say how far each side has counted (the method of
XEP-0198). The receiver acknowledges a number when the callback for it has returned;
the sender keeps a packet until then.

States, by what has happened to the connection under the session::

    state      attach     detach     end
    NEW        ATTACHED   -          ENDED
    ATTACHED   -          DETACHED   ENDED
    DETACHED   ATTACHED   -          ENDED
    ENDED      -          -          -
"""

from __future__ import annotations

from collections import deque
from enum import Enum

from peernet.errors import LocalProtocolError, RemoteProtocolError
from peernet.reasons import Reason
from peernet.v1 import packet_pb2 as pb
from peernet.wire.connection import max_frame_of
from peernet.wire.framing import packet_length
from peernet.wire.packets import WITHDRAWN_FRAME

# Refusals that were told are remembered for the case that the telling was lost with its
# connection. A sender keeps no more unacknowledged packets than this.
MAX_TOLD_REFUSALS = 8192
# This many fit into the smallest packet that a peer may be limited to, whatever their numbers are.
REFUSALS_PER_PACKET = 256

# The capability of a peer that asks for the acknowledgements it waits for, and gives those it is asked for at once.
ACKNOWLEDGE_NOW = "acknowledge_now"
# When somebody has waited for the packet sent last, so many of the next ones may ask by themselves.
AWAITED = 2
# Towards such a peer, how many packets are handled before an acknowledgement goes along with the next one.
GO_ALONG = 64

Refused = tuple[int, Reason]
"""The number of a packet that reached no callback, and why."""


class SessionState(Enum):
    """Where a session stands."""

    NEW = "new"
    ATTACHED = "attached"
    DETACHED = "detached"
    ENDED = "ended"


_S = SessionState

# (state, what happens) -> next state. What is not in the table must not happen.
TRANSITIONS: dict[tuple[SessionState, str], SessionState] = {
    (_S.NEW, "attach"): _S.ATTACHED,
    (_S.NEW, "end"): _S.ENDED,
    (_S.ATTACHED, "detach"): _S.DETACHED,
    (_S.ATTACHED, "end"): _S.ENDED,
    (_S.DETACHED, "attach"): _S.ATTACHED,
    (_S.DETACHED, "end"): _S.ENDED,
}


def resumes(ours: pb.HelloPacket, theirs: pb.HelloPacket) -> bool:
    """Whether the two hellos of a connection continue a session: each side remembers the other's numbering."""
    return (
        0 != ours.session_id == theirs.peer_session_id
        and 0 != theirs.session_id == ours.peer_session_id
    )  # fmt: skip


class Session:
    """Both numberings between this side and one peer.

    Args:
        session_id: names this side's numbering; random, not 0.
        max_packets: how many packets may be kept before :attr:`full`.
        max_bytes: how many bytes may be kept before :attr:`full`.

    Attributes:
        peer_session_id: names the peer's numbering; 0 before the first connection.
        sent: highest number given to a packet.
        acknowledged: highest number that the peer has acknowledged.
        kept: the frames sent and not acknowledged, in order; of large ones the beginning only.
        kept_bytes: their bytes.
        asked: up to which number the peer was asked to acknowledge at once.
        awaited: how many of the next packets may ask by themselves, because somebody has waited lately.
        acknowledges_now: whether the peer has the capability :data:`ACKNOWLEDGE_NOW`.
        allowed_bytes: how many bytes may be kept before :attr:`full` now; see :meth:`allow`.
        full: whether the next packet has to wait until others are acknowledged, or more is allowed.
        pressing: whether there is something to do before the next packet: it is full, or it is over half full
            and the peer was not asked yet, or the packet is to ask.
        received: highest number received from the peer; see below.
        handled: highest number whose callback has returned; see below.
        duplicates: how many of the packets that arrive next were received before.
        told: highest number that was acknowledged to the peer.
        tell_at: the number that must be handled for an acknowledgement to go along with the next packet.
        refused: refusals that are not told yet.
        told_refusals: those that were told last, in case they got lost; at most :data:`MAX_TOLD_REFUSALS`.
        state: see :class:`SessionState`.

    Only the methods here write the numbers, with one exception, because a packet of the most common sort is to
    cost no call for them: while ``duplicates`` is 0, ``Dispatcher.handle`` counts ``received`` up by one, as
    :meth:`receive` does, and then sets ``handled`` to that number, as :meth:`has_handled` does.
    """

    __slots__ = (
        "_contents",
        "_counted_before",
        "_look_at_bytes",
        "_look_at_number",
        "acknowledged",
        "acknowledges_now",
        "allowed_bytes",
        "asked",
        "awaited",
        "duplicates",
        "full",
        "handled",
        "kept",
        "kept_bytes",
        "max_bytes",
        "max_packets",
        "peer_session_id",
        "pressing",
        "received",
        "refused",
        "sent",
        "session_id",
        "state",
        "tell_at",
        "told",
        "told_refusals",
    )

    def __init__(self, session_id: int, *, max_packets: int, max_bytes: int) -> None:
        self.session_id = session_id
        self.peer_session_id = 0
        self.max_packets = max_packets
        self.max_bytes = self.allowed_bytes = max_bytes
        self.state = SessionState.NEW
        self.sent = self.acknowledged = self.asked = 0
        self.acknowledges_now = False
        self.awaited = 0
        self.kept: list[bytes] = []
        self.kept_bytes = 0
        self._look_whether_full()
        self._contents: dict[int, bytes] | None = None  # by number: the rest of those that are large
        self.received = self.handled = self.told = self.duplicates = 0
        self.tell_at = 1
        self.refused: list[Refused] | tuple[()] = ()  # most sessions never have any
        self.told_refusals: deque[Refused] | None = None
        self._counted_before = 0  # packets acknowledged and handled before the present connection

    # Connections.

    def introduce(self, hello: pb.HelloPacket) -> None:
        """Write into our hello what it says about this session."""
        hello.session_id = self.session_id
        hello.peer_session_id = self.peer_session_id
        hello.last_sequence_received = self.received
        hello.last_acknowledgement_received = self.acknowledged

    def remembers(self, theirs: pb.HelloPacket) -> bool:
        """Whether the peer's hello continues this session."""
        return (
            self.state in (SessionState.ATTACHED, SessionState.DETACHED)
            and theirs.session_id == self.peer_session_id
            and theirs.peer_session_id == self.session_id
        )

    def went_on_since(self, ours: pb.HelloPacket) -> bool:
        """Whether another connection has come after the one of our hello: the peer's hello there is out of date too."""
        return self.acknowledged > ours.last_acknowledgement_received

    @property
    def progressed(self) -> bool:
        """Whether packets were acknowledged or handled since the last connection was made."""
        return self.acknowledged + self.handled > self._counted_before

    def begin(self, peer_session_id: int) -> None:
        """The first connection is there."""
        self._move("attach")
        self.peer_session_id = peer_session_id

    def take_hello(self, hello: pb.HelloPacket) -> None:
        """Take note of what the peer says of acknowledgements on the present connection."""
        self.acknowledges_now = ACKNOWLEDGE_NOW in hello.capabilities
        self._has_told(self.told)
        self._look_whether_full()

    def resume(self, ours: pb.HelloPacket, theirs: pb.HelloPacket) -> list[tuple[bytes, bytes]]:
        """Another connection is there. Returns the frames to send again on it, in order, in two parts each.

        Acknowledge first if :attr:`owes` says so: a packet that is sent again may carry an
        old acknowledgement, which covers refusals that were lost.

        Args:
            ours: our hello on this connection.
            theirs: the peer's.

        Raises:
            RemoteProtocolError: the peer says what cannot be.
        """
        received, acknowledged = theirs.last_sequence_received, theirs.last_acknowledgement_received
        if not self.acknowledged <= received <= self.sent or acknowledged > self.handled:
            raise RemoteProtocolError(
                f"the peer resumes with {received} received and {acknowledged} acknowledged; {self.acknowledged} to "
                f"{self.sent} and at most {self.handled} can be",
                Reason.BAD_PACKET,
            )
        self._move("attach")
        self._counted_before = self.acknowledged + self.handled
        self.duplicates = self.received - ours.last_sequence_received
        self._has_told(acknowledged)
        lost = [refusal for refusal in self.told_refusals or () if refusal[0] > acknowledged]
        self.told_refusals = None
        if lost:
            self.refused = [*lost, *self.refused]
        self._withdraw_larger_than(max_frame_of(theirs), received)
        again = enumerate(self.kept[received - self.acknowledged :], received + 1)
        contents = self._contents or {}
        return [(header, contents.get(number, b"")) for number, header in again]

    def _withdraw_larger_than(self, limit: int, received: int) -> None:
        """Send an empty packet in the place of each that the peer has not received and does not accept any more.

        So the numbers of all others stay as they are; see :data:`~peernet.wire.packets.WITHDRAWN_FRAME`.
        """
        for index in range(received - self.acknowledged, len(self.kept)):
            if packet_length(self.kept[index]) > limit:
                number = self.acknowledged + index + 1
                self.kept_bytes += len(WITHDRAWN_FRAME) - len(self.kept[index])
                self.kept_bytes -= len((self._contents or {}).pop(number, b""))
                self.kept[index] = WITHDRAWN_FRAME
        self._look_whether_full()

    def detach(self) -> None:
        """The connection is lost."""
        self._move("detach")

    def end(self) -> None:
        """The session is over: nobody will know what became of the packets that are kept."""
        self._move("end")
        self.kept.clear()
        self._contents = None
        self.kept_bytes = 0

    # Sending.

    @property
    def half_empty(self) -> bool:
        """Whether there is so much room again that those who wait for it may go on."""
        return 2 * len(self.kept) <= self.max_packets and 2 * self.kept_bytes <= self.max_bytes

    @property
    def contents(self) -> list[bytes]:
        """What of the packets that are kept may be kept by other sessions too: the same objects after a broadcast."""
        return list(self._contents.values()) if self._contents else []

    def allow(self, size: int) -> None:
        """Let so many bytes be kept from now on, though never more than ``max_bytes``."""
        self.allowed_bytes = min(size, self.max_bytes)
        self._look_whether_full()

    def keep(self, frame: bytes) -> int:
        """Give a packet its number, and keep it until it is acknowledged. Returns the number."""
        self.sent = number = self.sent + 1
        self.kept.append(frame)
        self.kept_bytes = size = self.kept_bytes + len(frame)
        if size >= self._look_at_bytes or number >= self._look_at_number:
            self._look_whether_full()
        return number

    def keep_large(self, header: bytes, content: bytes) -> int:
        """:meth:`keep` for a frame that lies in two parts, because a copy would cost."""
        self._contents = self._contents or {}
        self._contents[self.sent + 1] = content
        self.kept_bytes += len(content)
        return self.keep(header)

    def ask(self, sequence: int) -> bool:
        """A packet is to be acknowledged. Returns whether to ask, because nobody has; all sent by now counts."""
        if sequence <= self.asked:
            return False
        self.asked = self.sent
        self._look_whether_full()
        return self.acknowledges_now

    def note_waiting(self, sequence: int) -> None:
        """Somebody waits for a packet: perhaps for the next ones as well."""
        if self.acknowledges_now and sequence == self.sent:
            self.awaited = AWAITED
            self.pressing = True

    def ask_with_next(self) -> bool:
        """Whether the next packet is to ask by itself: somebody will wait for it, it seems, and waits for no other."""
        asks = self.awaited > 0 and self.asked <= self.acknowledged
        if asks:
            self.asked = self.sent + 1
        self.awaited = max(0, self.awaited - 1)
        self._look_whether_full()
        return asks

    @property
    def waits(self) -> bool:
        """Whether what the peer was asked for is not acknowledged yet."""
        return self.acknowledges_now and self.asked > self.acknowledged

    def release(self, acknowledged: int) -> None:
        """The peer has acknowledged up to a number. After :meth:`end` that means nothing any more.

        Raises:
            RemoteProtocolError: that number was never given.
        """
        if acknowledged > self.sent:
            raise RemoteProtocolError(
                f"packet {acknowledged} is acknowledged, but {self.sent} was the last one sent", Reason.BAD_PACKET
            )
        count = acknowledged - self.acknowledged
        if count > 0 and self.state is not SessionState.ENDED:
            self.kept_bytes -= sum(map(len, self.kept[:count])) + self._release_contents(acknowledged)
            del self.kept[:count]
            self.acknowledged = acknowledged
            self._look_whether_full()

    def _look_whether_full(self) -> None:
        """Also says when to look again, so that :meth:`keep` compares two numbers only."""
        packets, size = self.max_packets, self.allowed_bytes
        self.full = len(self.kept) >= packets or self.kept_bytes >= size
        if self.acknowledges_now and self.asked <= self.acknowledged:
            packets, size = min(packets, packets // 2 + 1), min(size, self.max_bytes // 2 + 1)
        self._look_at_number, self._look_at_bytes = self.acknowledged + packets, size
        self.pressing = self.awaited > 0 or len(self.kept) >= packets or self.kept_bytes >= size

    def _release_contents(self, acknowledged: int) -> int:
        if not self._contents:
            return 0
        numbers = [number for number in self._contents if number <= acknowledged]
        return sum(len(self._contents.pop(number)) for number in numbers)

    # Receiving.

    def receive(self) -> bool:
        """The next numbered packet has arrived. Returns whether it is new."""
        if self.duplicates:
            self.duplicates -= 1
            return False
        self.received += 1
        return True

    def has_handled(self, number: int) -> None:
        """The callback for a packet has returned, or there is none for it."""
        self.handled = number

    def check(self, sequence: int) -> None:
        """Compare the number that the packet received last carries with the one that was counted.

        Raises:
            RemoteProtocolError: they differ, so the two sides have lost count.
        """
        if sequence != self.received:
            raise RemoteProtocolError(f"packet {self.received} says that it is {sequence}", Reason.BAD_PACKET)

    def refuse(self, reason: Reason) -> None:
        """The packet received last will reach no callback. It counts as handled all the same."""
        if isinstance(self.refused, tuple):
            self.refused = []
        self.refused.append((self.received, reason))

    @property
    def owes(self) -> bool:
        """Whether packets were handled that are not acknowledged yet."""
        return self.handled > self.told

    def take_acknowledgement(self) -> int:
        """The number to acknowledge in whatever is sent next. Only while there is nothing in :attr:`refused`."""
        self._has_told(self.handled)
        return self.handled

    def let_go_along(self) -> None:
        """What is owed is to go along with the next packet, however little it is."""
        self.tell_at = self.told + 1

    def acknowledge(self) -> tuple[int, list[Refused]]:
        """What the next acknowledge packet says: a number, and refusals.

        The number is 0, which says nothing, while more refusals follow in another packet.
        """
        refused = list(self.refused[:REFUSALS_PER_PACKET])
        self.refused = list(self.refused[REFUSALS_PER_PACKET:]) or ()
        if refused:
            self.told_refusals = self.told_refusals or deque(maxlen=MAX_TOLD_REFUSALS)
            self.told_refusals.extend(refused)
        return (0 if self.refused else self.take_acknowledgement()), refused

    def _has_told(self, acknowledged: int) -> None:
        self.told = acknowledged
        self.tell_at = acknowledged + (GO_ALONG if self.acknowledges_now else 1)

    def _move(self, event: str) -> None:
        state = TRANSITIONS.get((self.state, event))
        if state is None:
            raise LocalProtocolError(f"a session that is {self.state.value} cannot {event}")
        self.state = state
