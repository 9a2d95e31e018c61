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
from collections.abc import Iterable, Sequence
from enum import Enum
from typing import Generic, Protocol, TypeVar

from peernet.errors import LocalProtocolError, RemoteProtocolError
from peernet.reasons import Reason
from peernet.v1 import packet_pb2 as pb

# An acknowledgement is sent when this much was handled and not acknowledged yet.
ACKNOWLEDGE_PACKETS = 64
ACKNOWLEDGE_BYTES = 256 * 1024
# Refusals that were told are remembered for the case that the telling was lost with its
# connection. A sender keeps no more unacknowledged packets than this.
MAX_TOLD_REFUSALS = 8192
# This many fit into one acknowledge packet, whatever their numbers are.
REFUSALS_PER_PACKET = 1024

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


class Kept(Protocol):
    """A packet that a session keeps: its number, once it has one, and its size in bytes."""

    sequence: int
    size: int


K = TypeVar("K", bound=Kept)


def resumes(ours: pb.HelloPacket, theirs: pb.HelloPacket) -> bool:
    """Whether the two hellos of a connection continue a session: each side remembers the other's numbering."""
    return (
        0 != ours.session_id == theirs.peer_session_id
        and 0 != theirs.session_id == ours.peer_session_id
    )  # fmt: skip


class Session(Generic[K]):
    """Both numberings between this side and one peer.

    Args:
        session_id: names this side's numbering; random, not 0.
        max_packets: how many packets may be kept before :attr:`full`.
        max_bytes: how many bytes may be kept before :attr:`full`.

    Attributes:
        peer_session_id: names the peer's numbering; 0 before the first connection.
        sent: highest number given to a packet.
        acknowledged: highest number that the peer has acknowledged.
        kept: the packets sent and not acknowledged, in order.
        kept_bytes: their bytes.
        arrived: number of the packet that arrived last on the present connection.
        received: highest number received from the peer.
        handled: highest number whose callback has returned.
        told: highest number that was acknowledged to the peer.
        refused: refusals that are not told yet.
        state: see :class:`SessionState`.
    """

    __slots__ = (
        "_handled_bytes",
        "_told_refusals",
        "_verdicts",
        "acknowledged",
        "arrived",
        "handled",
        "kept",
        "kept_bytes",
        "max_bytes",
        "max_packets",
        "peer_session_id",
        "received",
        "refused",
        "sent",
        "session_id",
        "state",
        "told",
    )

    def __init__(self, session_id: int, *, max_packets: int, max_bytes: int) -> None:
        self.session_id = session_id
        self.peer_session_id = 0
        self.max_packets = max_packets
        self.max_bytes = max_bytes
        self.state = SessionState.NEW
        self.sent = self.acknowledged = 0
        self.kept: deque[K] | tuple[()] = ()  # a deque from the first packet on: an idle session is small
        self.kept_bytes = 0
        self.arrived = self.received = self.handled = self.told = 0
        self._handled_bytes = 0  # since the last acknowledgement
        self.refused: Sequence[Refused] = ()
        self._told_refusals: deque[Refused] | None = None
        self._verdicts: dict[int, Reason] | None = None  # the peer's refusals, until their numbers are acknowledged

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

    def begin(self, peer_session_id: int) -> None:
        """The first connection is there."""
        self._move("attach")
        self.peer_session_id = peer_session_id

    def resume(self, ours: pb.HelloPacket, theirs: pb.HelloPacket) -> list[K]:
        """Another connection is there. Returns the packets to send again on it, in order.

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
        self.arrived = ours.last_sequence_received
        self.told = acknowledged
        lost = [refusal for refusal in self._told_refusals or () if refusal[0] > acknowledged]
        self._told_refusals = None
        if lost:
            self.refused = [*lost, *self.refused]
        return [packet for packet in self.kept if packet.sequence > received]

    def detach(self) -> None:
        """The connection is lost."""
        self._move("detach")

    def end(self) -> list[K]:
        """The session is over. Returns the packets whose fate is not known."""
        self._move("end")
        lost = list(self.kept)
        self.kept = ()
        self.kept_bytes = 0
        return lost

    # Sending.

    @property
    def full(self) -> bool:
        """Whether the next packet has to wait until others are acknowledged."""
        return len(self.kept) >= self.max_packets or self.kept_bytes >= self.max_bytes

    @property
    def half_empty(self) -> bool:
        """Whether there is so much room again that those who wait for it may go on."""
        return 2 * len(self.kept) <= self.max_packets and 2 * self.kept_bytes <= self.max_bytes

    def keep(self, packet: K) -> None:
        """Give a packet its number, and keep it until it is acknowledged."""
        packet.sequence = self.sent = self.sent + 1
        self.kept_bytes += packet.size
        try:
            self.kept.append(packet)  # type: ignore[union-attr]  # the first packet finds the tuple
        except AttributeError:
            self.kept = deque((packet,))

    def release(self, acknowledged: int) -> list[K]:
        """The peer has acknowledged up to a number. Returns the packets that this settles.

        Raises:
            RemoteProtocolError: that number was never given.
        """
        if acknowledged > self.sent:
            raise RemoteProtocolError(
                f"packet {acknowledged} is acknowledged, but {self.sent} was the last one sent", Reason.BAD_PACKET
            )
        count = acknowledged - self.acknowledged
        if count <= 0 or not self.kept:  # nothing is kept after the end, when a late one may still come
            return []
        self.acknowledged = acknowledged
        take = self.kept.popleft
        settled = [take() for _ in range(count)]
        self.kept_bytes -= sum([packet.size for packet in settled])
        return settled

    def note_refusals(self, refusals: Iterable[Refused]) -> None:
        """The peer tells that packets reached no callback; it acknowledges them now or later."""
        for number, reason in refusals:
            if self.acknowledged < number <= self.sent:  # others were settled, or never were
                self._verdicts = self._verdicts or {}
                self._verdicts[number] = reason

    def verdict(self, number: int) -> Reason | None:
        """Why the peer has refused a packet that it has acknowledged; ``None`` if it has not."""
        return self._verdicts.pop(number, None) if self._verdicts else None

    @property
    def has_verdicts(self) -> bool:
        """Whether the peer has refused packets whose :meth:`verdict` was not asked for."""
        return bool(self._verdicts)

    # Receiving.

    def receive(self) -> bool:
        """The next numbered packet has arrived. Returns whether it is new."""
        self.arrived = number = self.arrived + 1
        if number <= self.received:
            return False
        self.received = number
        return True

    def check(self, sequence: int) -> None:
        """Compare the number that the packet arrived last carries with the one that was counted.

        Raises:
            RemoteProtocolError: they differ, so the two sides have lost count.
        """
        if sequence != self.arrived:
            raise RemoteProtocolError(f"packet {self.arrived} says that it is {sequence}", Reason.BAD_PACKET)

    def handle(self, size: int) -> bool:
        """The packet received last has been handled. Returns whether to acknowledge now."""
        self.handled = handled = self.received
        self._handled_bytes += size
        return handled - self.told >= ACKNOWLEDGE_PACKETS or self._handled_bytes >= ACKNOWLEDGE_BYTES

    def refuse(self, reason: Reason) -> None:
        """The packet received last will reach no callback; :meth:`handle` it all the same."""
        self.refused = [*self.refused, (self.received, reason)]

    @property
    def owes(self) -> bool:
        """Whether packets were handled that are not acknowledged yet."""
        return self.handled > self.told

    def take_acknowledgement(self) -> int:
        """The number to acknowledge in whatever is sent next. Only while there is nothing in :attr:`refused`."""
        self.told = self.handled
        self._handled_bytes = 0
        return self.handled

    def acknowledge(self) -> tuple[int, list[Refused]]:
        """What the next acknowledge packet says: a number, and refusals.

        The number is 0, which says nothing, while more refusals follow in another packet.
        """
        refused = list(self.refused[:REFUSALS_PER_PACKET])
        self.refused = self.refused[REFUSALS_PER_PACKET:] or ()
        if refused:
            self._told_refusals = self._told_refusals or deque(maxlen=MAX_TOLD_REFUSALS)
            self._told_refusals.extend(refused)
        return (0 if self.refused else self.take_acknowledgement()), refused

    def _move(self, event: str) -> None:
        state = TRANSITIONS.get((self.state, event))
        if state is None:
            raise LocalProtocolError(f"a session that is {self.state.value} cannot {event}")
        self.state = state
