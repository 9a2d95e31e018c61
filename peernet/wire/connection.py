"""Which packets may travel on a connection now: a table of states.

Rules, from which the table follows:

1. The dialling side sends its hello first; the other side answers with its own.
2. Before a side has sent its hello it sends nothing else but a disconnect.
3. A side that has sent its hello and not received the other's waits.
4. A second hello is an error.
5. After a disconnect only acknowledgements count: the side that has received it may send
   them, and the side that has sent it reads on for their sake and looks at nothing else.

A :class:`Connection` also holds the frame decoder and its limits, which are
tighter until the hellos are exchanged.
"""

from __future__ import annotations

from collections.abc import Collection
from enum import Enum

from peernet.errors import LocalProtocolError, RemoteProtocolError
from peernet.reasons import Reason
from peernet.v1 import packet_pb2 as pb
from peernet.wire.elision import PacketFilter
from peernet.wire.framing import FrameDecoder
from peernet.wire.packets import Kind, too_big

# What a peer accepts that says nothing about it, and the least that it may say, so that control packets fit. Bytes.
DEFAULT_MAX_FRAME = 1024 * 1024
LEAST_MAX_FRAME = 4096


class ConnectionState(Enum):
    """Where a connection stands."""

    START = "start"
    HELLO_SENT = "hello_sent"
    HELLO_RECEIVED = "hello_received"
    OPEN = "open"
    LEAVING = "leaving"
    LEFT = "left"
    CLOSED = "closed"


class Direction(Enum):
    """Which way a packet travels."""

    SENT = "sent"
    RECEIVED = "received"


_S, _D = ConnectionState, Direction

# (state, direction, what) -> next state. "other" is every kind without a column of
# its own. What is not in the table must not happen.
TRANSITIONS: dict[tuple[ConnectionState, Direction, str], ConnectionState] = {
    (_S.START, _D.SENT, "hello"): _S.HELLO_SENT,
    (_S.START, _D.RECEIVED, "hello"): _S.HELLO_RECEIVED,
    (_S.START, _D.SENT, "disconnect"): _S.CLOSED,
    (_S.START, _D.RECEIVED, "disconnect"): _S.CLOSED,
    (_S.HELLO_SENT, _D.RECEIVED, "hello"): _S.OPEN,
    (_S.HELLO_SENT, _D.SENT, "disconnect"): _S.CLOSED,
    (_S.HELLO_SENT, _D.RECEIVED, "disconnect"): _S.CLOSED,
    (_S.HELLO_RECEIVED, _D.SENT, "hello"): _S.OPEN,
    (_S.HELLO_RECEIVED, _D.SENT, "disconnect"): _S.CLOSED,
    (_S.HELLO_RECEIVED, _D.RECEIVED, "disconnect"): _S.CLOSED,
    (_S.OPEN, _D.SENT, "other"): _S.OPEN,
    (_S.OPEN, _D.RECEIVED, "other"): _S.OPEN,
    (_S.OPEN, _D.SENT, "acknowledge"): _S.OPEN,
    (_S.OPEN, _D.RECEIVED, "acknowledge"): _S.OPEN,
    (_S.OPEN, _D.SENT, "disconnect"): _S.LEAVING,
    (_S.OPEN, _D.RECEIVED, "disconnect"): _S.LEFT,
    (_S.LEAVING, _D.RECEIVED, "other"): _S.LEAVING,
    (_S.LEAVING, _D.RECEIVED, "acknowledge"): _S.LEAVING,
    (_S.LEAVING, _D.RECEIVED, "disconnect"): _S.CLOSED,
    (_S.LEFT, _D.SENT, "acknowledge"): _S.LEFT,
}


class Connection:
    """The protocol state of one connection.

    Args:
        max_handshake_frame: longest frame in bytes until both hellos are exchanged.
        max_frame: longest frame after that.
        max_control_packet: longest packet of a kind that is not bulk.
    """

    __slots__ = ("_filter", "_max_control_packet", "_max_frame", "decoder", "state")

    def __init__(self, *, max_handshake_frame: int, max_frame: int, max_control_packet: int) -> None:
        self.state = ConnectionState.START
        self._filter = PacketFilter(max_control_packet)
        self.decoder = FrameDecoder(max_handshake_frame, self._filter)
        self._max_frame = max_frame
        self._max_control_packet = max_control_packet

    def permit(self, kinds: Collection[str]) -> None:
        """Keep from now on no body of another kind that is large; see :mod:`peernet.wire.elision`."""
        self._filter.permitted = kinds

    def sent(self, kind: Kind) -> None:
        """Note that a packet is sent.

        Raises:
            LocalProtocolError: it may not be sent now.
        """
        if not self._move(Direction.SENT, kind):
            raise LocalProtocolError(f"a packet of kind {kind.name} cannot be sent in the state {self.state.value}")

    def received(self, kind: Kind, size: int) -> None:
        """Note that a packet of ``size`` bytes was received.

        Raises:
            RemoteProtocolError: it may not be sent now, or is larger than its kind may be.
        """
        if not kind.bulk and size > self._max_control_packet:
            raise too_big(kind, size, self._max_control_packet)
        if not self._move(Direction.RECEIVED, kind):
            raise RemoteProtocolError(
                f"a packet of kind {kind.name} arrived in the state {self.state.value}", Reason.UNEXPECTED_PACKET
            )

    def _move(self, direction: Direction, kind: Kind) -> bool:
        what = kind.name if kind.name in ("hello", "acknowledge", "disconnect") else "other"
        state = TRANSITIONS.get((self.state, direction, what))
        if state is None:
            return False
        if state is ConnectionState.OPEN:
            self.decoder.max_frame = self._max_frame
        self.state = state
        return True


def max_frame_of(hello: pb.HelloPacket) -> int:
    """The longest packet in bytes that the sender of a hello accepts.

    Raises:
        RemoteProtocolError: ``bad_packet``: it names a limit that control packets do not fit into.
    """
    if 0 < hello.max_frame < LEAST_MAX_FRAME:
        raise RemoteProtocolError(
            f"a hello has max_frame {hello.max_frame}; the least is {LEAST_MAX_FRAME}", Reason.BAD_PACKET
        )
    return hello.max_frame or DEFAULT_MAX_FRAME
