"""Sessions: packets are numbered, kept until acknowledged, and survive the loss of a connection.

A session joins two independent numberings, one for each direction. Numbers are not
on the wire: both sides count the packets of every kind that is not control, from 1,
and the hellos of a new connection say how far each side has counted (the method of
XEP-0198). The receiver acknowledges a number when the callback for it has returned;
the sender keeps a packet until then.

States, by what has happened to the connection under the session::

    state      attach     detach     end
    NEW        ATTACHED   -          ENDED
    ATTACHED   ATTACHED   DETACHED   ENDED
    DETACHED   ATTACHED   DETACHED   ENDED
    ENDED      -          ENDED      ENDED
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from enum import Enum
from typing import Generic, Protocol, TypeVar

from peernet.errors import LocalProtocolError, RemoteProtocolError
from peernet.reasons import Reason

# An acknowledgement is sent when this much was handled and not acknowledged yet.
ACKNOWLEDGE_PACKETS = 64
ACKNOWLEDGE_BYTES = 256 * 1024
# Refusals that were told are remembered for the case that the telling was lost with its
# connection. No peer has more packets under way than it may keep.
MAX_TOLD_REFUSALS = 16384


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
    (_S.ATTACHED, "attach"): _S.ATTACHED,
    (_S.ATTACHED, "detach"): _S.DETACHED,
    (_S.ATTACHED, "end"): _S.ENDED,
    (_S.DETACHED, "attach"): _S.ATTACHED,
    (_S.DETACHED, "detach"): _S.DETACHED,
    (_S.DETACHED, "end"): _S.ENDED,
    (_S.ENDED, "detach"): _S.ENDED,
    (_S.ENDED, "end"): _S.ENDED,
}


class Kept(Protocol):
    """A packet that a session keeps: its number, once it has one, and its size in bytes."""

    sequence: int
    size: int


K = TypeVar("K", bound=Kept)


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
        kept_bytes: bytes of the packets that are kept.
        received: highest number received from the peer.
        handled: highest number whose callback has returned.
        state: see :class:`SessionState`.
    """

    __slots__ = (
        "_handled_bytes",
        "_kept",
        "_refused",
        "_told",
        "_told_refusals",
        "acknowledged",
        "handled",
        "kept_bytes",
        "max_bytes",
        "max_packets",
        "peer_session_id",
        "received",
        "sent",
        "session_id",
        "state",
    )

    def __init__(self, session_id: int, *, max_packets: int, max_bytes: int) -> None:
        self.session_id = session_id
        self.peer_session_id = 0
        self.max_packets = max_packets
        self.max_bytes = max_bytes
        self.state = SessionState.NEW
        self.sent = self.acknowledged = 0
        self.kept_bytes = 0
        self.received = self.handled = 0
        self._kept: deque[K] = deque()
        self._told = 0  # the number that we have acknowledged last
        self._handled_bytes = 0  # since then
        self._refused: list[tuple[int, Reason]] = []
        self._told_refusals: deque[tuple[int, Reason]] = deque(maxlen=MAX_TOLD_REFUSALS)

    # Connections.

    def remembers(self, session_id: int, peer_session_id: int) -> bool:
        """Whether a hello with these two continues this session."""
        return (
            self.state is not SessionState.ENDED
            and self.peer_session_id != 0
            and (session_id, peer_session_id) == (self.peer_session_id, self.session_id)
        )

    def begin(self, peer_session_id: int) -> None:
        """The first connection is there."""
        self._move("attach")
        self.peer_session_id = peer_session_id

    def resume(self, peer_received: int, peer_acknowledged: int) -> Iterator[K]:
        """Another connection is there: the packets to send again on it, in order.

        Args:
            peer_received: the highest number that the peer says it has received.
            peer_acknowledged: the highest number that it knows us to have handled.

        Raises:
            RemoteProtocolError: it says what cannot be.
        """
        if not self.acknowledged <= peer_received <= self.sent:
            raise RemoteProtocolError(
                f"the peer resumes after packet {peer_received}; it acknowledged {self.acknowledged} of {self.sent}",
                Reason.BAD_PACKET,
            )
        self._move("attach")
        lost = [refusal for refusal in self._told_refusals if refusal[0] > peer_acknowledged]
        self._told_refusals.clear()
        self._refused = lost + self._refused
        return (packet for packet in list(self._kept) if packet.sequence > peer_received)

    def detach(self) -> None:
        """The connection is lost."""
        self._move("detach")

    def end(self) -> list[K]:
        """The session is over. Returns the packets whose fate is not known."""
        self._move("end")
        lost = list(self._kept)
        self._kept.clear()
        self.kept_bytes = 0
        return lost

    # Sending.

    @property
    def full(self) -> bool:
        """Whether the next packet has to wait until others are acknowledged."""
        return len(self._kept) >= self.max_packets or self.kept_bytes >= self.max_bytes

    @property
    def kept_packets(self) -> int:
        """How many packets are kept."""
        return len(self._kept)

    def keep(self, packet: K) -> None:
        """Give a packet its number, and keep it until it is acknowledged."""
        self.sent += 1
        packet.sequence = self.sent
        self.kept_bytes += packet.size
        self._kept.append(packet)

    def release(self, acknowledged: int) -> list[K]:
        """The peer has acknowledged up to a number. Returns the packets that this settles.

        Raises:
            RemoteProtocolError: that number was never given.
        """
        if acknowledged > self.sent:
            raise RemoteProtocolError(
                f"packet {acknowledged} is acknowledged, but {self.sent} was the last one sent", Reason.BAD_PACKET
            )
        settled = []
        kept = self._kept
        while kept and kept[0].sequence <= acknowledged:
            packet = kept.popleft()
            self.kept_bytes -= packet.size
            settled.append(packet)
        self.acknowledged = max(self.acknowledged, acknowledged)
        return settled

    # Receiving.

    def receive(self, number: int) -> bool:
        """A packet with this number has arrived. Returns whether it is new."""
        if number <= self.received:
            return False
        self.received = number
        return True

    def handle(self, size: int) -> bool:
        """The packet received last has been handled. Returns whether to acknowledge now."""
        self.handled = self.received
        self._handled_bytes += size
        return self.handled - self._told >= ACKNOWLEDGE_PACKETS or self._handled_bytes >= ACKNOWLEDGE_BYTES

    def refuse(self, reason: Reason) -> None:
        """The packet received last will reach no callback; :meth:`handle` it all the same."""
        self._refused.append((self.received, reason))

    @property
    def owes(self) -> bool:
        """Whether packets were handled that are not acknowledged yet."""
        return self.handled > self._told

    @property
    def owes_refusals(self) -> bool:
        """Whether the next acknowledgement has refusals in it."""
        return bool(self._refused)

    def acknowledge(self) -> tuple[int, list[tuple[int, Reason]]]:
        """What to tell the peer: the number up to which all is handled, and which of them were refused."""
        refused, self._refused = self._refused, []
        self._told_refusals.extend(refused)
        self._told = self.handled
        self._handled_bytes = 0
        return self.handled, refused

    def _move(self, event: str) -> None:
        state = TRANSITIONS.get((self.state, event))
        if state is None:
            raise LocalProtocolError(f"a session that is {self.state.value} cannot {event}")
        self.state = state
