from __future__ import annotations

from collections.abc import Iterator

import gevent
import pytest

from peernet.channel.channel import PeerChannel
from peernet.channel.state import ChannelState
from peernet.config import NetworkConfig
from peernet.connections.handshake import HandshakeResult
from peernet.connections.refusal import Refusal
from peernet.reasons import Reason
from peernet.testing import SimulatedNetwork
from peernet.transport.memory import memory_pair
from peernet.v1 import packet_pb2 as pb
from peernet.wire.connection import Connection
from tests.support import AssemblyOf, PartsOf


@pytest.fixture
def world(parts_of: PartsOf, assembly_of: AssemblyOf) -> Iterator[SimulatedNetwork]:
    with SimulatedNetwork(2) as world:
        world.connect_all()
        yield world


def _connection() -> Connection:
    config = NetworkConfig()
    return Connection(
        max_handshake_frame=config.max_handshake_frame,
        max_frame=config.max_frame,
        max_control_packet=config.max_control_packet,
    )


def test_a_connection_of_an_older_session_is_refused_and_the_channel_of_the_new_one_is_left_alone(
    world: SimulatedNetwork, assembly_of: AssemblyOf
) -> None:
    """Both sides may dial at once: while one dial resumes a session, the other may have begun another one."""
    channel, (near, far) = world.channel(0, 1), memory_pair()
    switch = assembly_of(world.nodes[0]).switch
    assert channel is not None
    ours, theirs = pb.HelloPacket(session_id=7, peer_session_id=8), pb.HelloPacket(session_id=8, peer_session_id=7)
    theirs.last_sequence_received = 48
    with pytest.raises(Refusal) as refused:
        switch.take_dialled(HandshakeResult(channel.peer, near, _connection(), theirs, ours))
    assert refused.value.reason is Reason.SESSION_LOST
    assert far.ended()
    assert channel.state is ChannelState.OPEN
    assert channel.ping() > 0


def test_a_listener_that_is_interrupted_when_a_channel_resumes_leaves_it_its_connection(
    world: SimulatedNetwork, parts_of: PartsOf, assembly_of: AssemblyOf
) -> None:
    """Else the connection would be closed under the greenlet that reads from it."""
    channel, (near, far) = world.channel(0, 1), memory_pair()
    switch = assembly_of(world.nodes[0]).switch
    assert channel is not None
    assert channel.session is not None
    interrupted: list[PeerChannel] = []

    def be_interrupted(resumed: PeerChannel) -> None:
        interrupted.append(resumed)
        raise gevent.Timeout(0)

    world.nodes[0].channel_resumed.add(be_interrupted)
    parts_of(channel).control.detach("cut")
    ours = pb.HelloPacket()
    channel.session.introduce(ours)
    theirs = pb.HelloPacket(session_id=ours.peer_session_id, peer_session_id=ours.session_id)
    with pytest.raises(gevent.Timeout):
        switch.take_dialled(HandshakeResult(channel.peer, near, _connection(), theirs, ours))
    assert interrupted == [channel]
    assert channel.state is ChannelState.OPEN
    assert not far.ended()
