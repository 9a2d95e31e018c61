from __future__ import annotations

import pytest

from peernet.errors import LocalProtocolError, RemoteProtocolError
from peernet.reasons import Reason
from peernet.v1 import packet_pb2 as pb
from peernet.wire.connection import TRANSITIONS, Connection, ConnectionState, Direction, max_frame_of
from peernet.wire.packets import KINDS, UNKNOWN, Kind

START, HELLO_SENT, HELLO_RECEIVED, OPEN, LEAVING, LEFT, CLOSED = ConnectionState
SENT, RECEIVED = Direction

HELLO, DISCONNECT, ACKNOWLEDGE = KINDS["hello"], KINDS["disconnect"], KINDS["acknowledge"]
OTHERS = [kind for kind in (*KINDS.values(), UNKNOWN) if kind not in (HELLO, DISCONNECT, ACKNOWLEDGE)]

# The table of docs/protocol.rst, written down a second time: (state, direction) -> where
# a hello, an acknowledgement, a disconnect and any other kind lead; None where they must not happen.
SPECIFIED: dict[tuple[ConnectionState, Direction], tuple[ConnectionState | None, ...]] = {
    (START, SENT): (HELLO_SENT, None, CLOSED, None),
    (START, RECEIVED): (HELLO_RECEIVED, None, CLOSED, None),
    (HELLO_SENT, SENT): (None, None, CLOSED, None),
    (HELLO_SENT, RECEIVED): (OPEN, None, CLOSED, None),
    (HELLO_RECEIVED, SENT): (OPEN, None, CLOSED, None),
    (HELLO_RECEIVED, RECEIVED): (None, None, CLOSED, None),
    (OPEN, SENT): (None, OPEN, LEAVING, OPEN),
    (OPEN, RECEIVED): (None, OPEN, LEFT, OPEN),
    (LEAVING, SENT): (None, None, None, None),
    (LEAVING, RECEIVED): (None, LEAVING, CLOSED, LEAVING),
    (LEFT, SENT): (None, LEFT, None, None),
    (LEFT, RECEIVED): (None, None, None, None),
    (CLOSED, SENT): (None, None, None, None),
    (CLOSED, RECEIVED): (None, None, None, None),
}
CASES = [
    pytest.param(state, direction, kind, after, id=f"{state.value}, {kind.name} {direction.value}")
    for (state, direction), (hello, acknowledge, disconnect, other) in SPECIFIED.items()
    for kind, after in [
        (HELLO, hello),
        (ACKNOWLEDGE, acknowledge),
        (DISCONNECT, disconnect),
        *((kind, other) for kind in OTHERS),
    ]
]

# How to get into each state.
WAYS: dict[ConnectionState, list[tuple[Direction, Kind]]] = {
    START: [],
    HELLO_SENT: [(SENT, HELLO)],
    HELLO_RECEIVED: [(RECEIVED, HELLO)],
    OPEN: [(SENT, HELLO), (RECEIVED, HELLO)],
    LEAVING: [(SENT, HELLO), (RECEIVED, HELLO), (SENT, DISCONNECT)],
    LEFT: [(SENT, HELLO), (RECEIVED, HELLO), (RECEIVED, DISCONNECT)],
    CLOSED: [(SENT, DISCONNECT)],
}


def connection_in(state: ConnectionState) -> Connection:
    connection = Connection(max_handshake_frame=100, max_frame=100_000, max_control_packet=1000)
    for direction, kind in WAYS[state]:
        pass_through(connection, direction, kind)
    assert connection.state is state
    return connection


def pass_through(connection: Connection, direction: Direction, kind: Kind) -> None:
    if direction is SENT:
        connection.sent(kind)
    else:
        connection.received(kind, 10)


@pytest.mark.parametrize(("state", "direction", "kind", "after"), CASES)
def test_every_packet_in_every_state_does_what_the_protocol_says(
    state: ConnectionState, direction: Direction, kind: Kind, after: ConnectionState | None
) -> None:
    connection = connection_in(state)
    if after is not None:
        pass_through(connection, direction, kind)
        assert connection.state is after
        return
    error = LocalProtocolError if direction is SENT else RemoteProtocolError
    with pytest.raises(error, match=f"kind {kind.name} .* in the state {state.value}") as caught:
        pass_through(connection, direction, kind)
    assert connection.state is state
    if direction is RECEIVED:
        assert isinstance(caught.value, RemoteProtocolError)
        assert caught.value.reason == Reason.UNEXPECTED_PACKET


def test_the_table_holds_exactly_the_specified_transitions() -> None:
    specified = {
        (*key, what): after
        for key, row in SPECIFIED.items()
        for what, after in zip(("hello", "acknowledge", "disconnect", "other"), row, strict=True)
        if after is not None
    }
    assert specified == TRANSITIONS


def test_every_state_is_reachable_and_only_closed_is_final() -> None:
    reached = {START}
    while more := {after for (state, _, _), after in TRANSITIONS.items() if state in reached} - reached:
        reached |= more
    assert reached == set(ConnectionState)
    assert {state for state, _, _ in TRANSITIONS} == set(ConnectionState) - {CLOSED}


@pytest.mark.parametrize("state", [START, HELLO_SENT, HELLO_RECEIVED])
def test_frames_are_small_until_both_hellos_are_exchanged(state: ConnectionState) -> None:
    assert connection_in(state).decoder.max_frame == 100


@pytest.mark.parametrize("way", [[SENT, RECEIVED], [RECEIVED, SENT]], ids=["as dialler", "as listener"])
def test_the_frame_limit_rises_with_the_second_hello(way: list[Direction]) -> None:
    connection = connection_in(START)
    for direction in way:
        pass_through(connection, direction, HELLO)
    assert connection.decoder.max_frame == 100_000


@pytest.mark.parametrize("kind", [kind for kind in KINDS.values() if not kind.bulk], ids=lambda kind: kind.name)
def test_a_control_packet_over_its_own_limit_is_refused(kind: Kind) -> None:
    connection = connection_in(START if kind is HELLO else OPEN)
    connection.received(kind, 1000)
    connection = connection_in(START if kind is HELLO else OPEN)
    with pytest.raises(RemoteProtocolError, match="1001 bytes; the limit is 1000") as caught:
        connection.received(kind, 1001)
    assert caught.value.reason == Reason.FRAME_TOO_BIG


@pytest.mark.parametrize("kind", [kind for kind in KINDS.values() if kind.bulk], ids=lambda kind: kind.name)
def test_a_bulk_packet_may_be_as_large_as_a_frame(kind: Kind) -> None:
    connection = connection_in(OPEN)
    connection.received(kind, 100_000)
    assert connection.state is OPEN


def test_a_kind_from_the_future_may_be_as_large_as_a_frame() -> None:
    connection = connection_in(OPEN)
    connection.received(UNKNOWN, 100_000)
    assert connection.state is OPEN


@pytest.mark.parametrize(("said", "meant"), [(0, 1_048_576), (4096, 4096), (2**32 - 1, 2**32 - 1)])
def test_a_hello_says_how_long_packets_may_be(said: int, meant: int) -> None:
    assert max_frame_of(pb.HelloPacket(max_frame=said)) == meant


@pytest.mark.parametrize("said", [1, 512, 4095])
def test_a_hello_that_leaves_no_room_for_control_packets_is_broken(said: int) -> None:
    with pytest.raises(RemoteProtocolError, match=f"max_frame {said}; the least is 4096") as caught:
        max_frame_of(pb.HelloPacket(max_frame=said))
    assert caught.value.reason is Reason.BAD_PACKET
