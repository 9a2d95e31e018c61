from __future__ import annotations

from collections.abc import Iterator
from random import Random

import gevent
import pytest

from peernet.errors import ConnectError, ListenError, TransportError
from peernet.peers.address import PeerAddress
from peernet.testing.simulated_tcp import SimulatedTcp
from peernet.testing.virtual_time import VirtualTime
from peernet.testing.wire import SimulatedTls, Wire
from peernet.transport.memory import CAPACITY

ALICE, BOB = "10.0.0.1", "10.0.0.2"
AT_BOB = PeerAddress(BOB, 4040)
LINK = [(ALICE, BOB)]


class World:
    """Two hosts, a tenth of a second apart."""

    def __init__(self, time: VirtualTime) -> None:
        self.time = time
        self.wire = Wire(Random(1), (0.1, 0.1))
        self.accepted: list[SimulatedTcp] = []
        self.listener = self.wire.listen(AT_BOB, lambda connection: self.accepted.append(connection))

    @property
    def now(self) -> float:
        return round(self.time.now, 3)

    def connect(self) -> tuple[SimulatedTcp, SimulatedTcp]:
        near = self.wire.dial(ALICE, AT_BOB)
        return near, self.accepted[-1]


@pytest.fixture
def world() -> Iterator[World]:
    with VirtualTime(Random(1)) as time:
        yield World(time)


def test_a_connection_takes_a_round_trip_and_bytes_half_of_it(world: World) -> None:
    near, far = world.connect()
    assert world.now == 0.2
    assert (near.remote, far.remote[0]) == ((BOB, 4040), ALICE)
    near.send(b"one")
    near.send(b"two")
    assert far.recv() == b"onetwo"
    assert world.now == 0.3


def test_the_end_comes_behind_the_bytes(world: World) -> None:
    near, far = world.connect()
    near.send(b"the end")
    near.finish_writing()
    with pytest.raises(TransportError):
        near.send(b"more")
    assert (far.recv(), far.recv(), far.recv()) == (b"the end", b"", b"")
    assert far.ended()
    far.send(b"heard")
    assert near.recv() == b"heard"


def test_nobody_is_reached_where_nobody_listens(world: World) -> None:
    with pytest.raises(ListenError):
        world.wire.listen(AT_BOB, lambda connection: None)
    world.listener.stop()
    with pytest.raises(ConnectError, match="nobody listens"):
        world.wire.dial(ALICE, AT_BOB)


def test_a_dial_over_a_cut_link_knocks_again_until_it_is_mended(world: World) -> None:
    world.wire.cut(LINK)
    dial = gevent.spawn(world.connect)
    gevent.sleep(3.5)
    world.wire.mend(LINK)
    dial.get()
    assert world.now == 7.2


def test_what_a_cut_link_has_lost_is_sent_again_later_and_later(world: World) -> None:
    near, far = world.connect()
    world.wire.cut(LINK)
    near.send(b"lost, ")  # at 0.3, and again 0.2, 0.6, 1.4 and 3.0 seconds after that
    gevent.sleep(0.3)
    near.send(b"and again")
    gevent.sleep(1.5)
    world.wire.mend(LINK)
    assert far.recv() == b"lost, and again"
    assert world.now == 3.3


def test_a_link_that_fails_again_before_the_repetition_loses_it_too(world: World) -> None:
    near, far = world.connect()
    world.wire.cut(LINK)
    near.send(b"lost")
    gevent.sleep(0.8)
    world.wire.mend(LINK)
    world.wire.cut(LINK)
    gevent.sleep(0.8)
    assert far.unread() == 0
    world.wire.mend(LINK)
    assert far.recv() == b"lost"


def test_a_sender_gives_up_after_a_while_and_the_other_end_learns_it_when_it_speaks(world: World) -> None:
    near, far = world.connect()
    world.wire.cut(LINK)
    near.send(b"lost")
    with pytest.raises(TransportError, match="acknowledged"):
        near.recv()
    assert world.now == 20.3
    world.wire.mend(LINK)
    gevent.sleep(60)
    assert not far.ended()
    far.send(b"are you there?")
    with pytest.raises(TransportError, match="reset"):
        far.recv()


def test_a_quiet_connection_survives_a_long_cut(world: World) -> None:
    near, far = world.connect()
    world.wire.cut(LINK)
    gevent.sleep(3600)
    world.wire.mend(LINK)
    near.send(b"still there")
    assert far.recv() == b"still there"


def test_who_closes_with_bytes_unread_resets_the_connection(world: World) -> None:
    near, far = world.connect()
    near.send(b"not wanted")
    gevent.sleep(1)
    far.close()
    far.close()
    gevent.sleep(1)
    with pytest.raises(TransportError, match="reset"):
        near.send(b"anybody?")


def test_a_stream_holds_so_much_and_says_when_there_is_room(world: World) -> None:
    near, far = world.connect()
    assert near.send(bytes(2 * CAPACITY)) == CAPACITY
    assert near.send(b"more") == 0
    told: list[float] = []
    near.when_writable(lambda: told.append(world.now))
    gevent.sleep(1)
    assert told == []
    buffer = memoryview(bytearray(1000))
    assert far.recv_into(buffer) == 1000
    gevent.sleep(0)
    assert len(told) == 1
    assert near.send(bytes(2 * CAPACITY)) == 1000


def test_room_that_is_made_behind_a_cut_is_told_when_the_link_is_mended(world: World) -> None:
    near, far = world.connect()
    near.send(bytes(CAPACITY))
    gevent.sleep(1)
    world.wire.cut(LINK)
    far.recv()
    assert near.send(b"more") == 0
    world.wire.mend(LINK)
    assert near.send(b"more") == 4


def test_who_aborts_reads_no_more_and_may_not_write(world: World) -> None:
    near, far = world.connect()
    reader = gevent.spawn(near.recv)
    gevent.sleep(0)
    near.abort()
    assert reader.get() == b""
    assert far.recv() == b""
    far.send(b"too late")
    gevent.sleep(1)
    assert near.unread() == 0


def test_a_host_that_fails_says_nothing_and_knows_nothing_when_it_is_back(world: World) -> None:
    near, far = world.connect()
    world.wire.switch_off(BOB)
    with pytest.raises(TransportError):
        far.recv()
    gevent.sleep(10)
    assert not near.ended()
    near.send(b"hello?")
    gevent.sleep(1)
    world.wire.switch_on(BOB)
    with pytest.raises(TransportError, match="reset"):
        near.recv()


def test_both_ends_learn_who_is_at_the_other(world: World) -> None:
    near, far = world.connect()
    answer = gevent.spawn(SimulatedTls("bob").wrap, far, dialled=False)
    assert SimulatedTls("bob").wrap(near, dialled=True).identifier == "bob"
    assert answer.get().identifier == "bob"


def test_a_handshake_needs_both_ends(world: World) -> None:
    near, far = world.connect()
    far.close()
    with pytest.raises(TransportError, match="hung up"):
        SimulatedTls("alice").wrap(near, dialled=True)
