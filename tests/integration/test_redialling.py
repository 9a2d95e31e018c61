"""Listeners that never hold a connection: whoever dials them, none is dialled too often."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise

import gevent

from peernet import PeerNetwork
from peernet.channel.state import ChannelState
from peernet.connections.dial_history import MOST
from peernet.errors import PeerNetError
from peernet.switch.persistent import PersistentPeers
from peernet.testing import FaultProxy
from peernet.v1 import packet_pb2 as pb
from tests.integration import attackers
from tests.integration.attackers import Attacker
from tests.integration.meetings import Networks, config, meet, text
from tests.support import scaled, wait_until

# Everything as by default, ten times as fast.
TENTH = config(redial_interval=0.1, backoff_base=0.1, backoff_cap=6.0, healthy_after=6.0, connect_timeout=5.0)


def hang_up(attacker: Attacker) -> None:
    attacker.receive()
    attacker.send_hello(session_id=7)


def say_duplicate(attacker: Attacker) -> None:
    attacker.receive()
    attacker.send(disconnect=pb.DisconnectPacket(reason=pb.DISCONNECT_REASON_DUPLICATE))


def claim_to_resume(attacker: Attacker) -> None:
    packet = attacker.receive()
    assert packet is not None
    attacker.send_hello(session_id=7, peer_session_id=packet.hello.session_id)


@contextmanager
def counting(handle: Callable[[Attacker], None]) -> Iterator[tuple[str, list[float]]]:
    """A listener, and when it was dialled."""
    dials: list[float] = []

    def note_and_handle(attacker: Attacker) -> None:
        dials.append(time.monotonic())
        handle(attacker)

    with attackers.serving(note_and_handle) as address:
        yield address, dials


def dials_to(network: PeerNetwork, handle: Callable[[Attacker], None]) -> list[float]:
    """When a listener is dialled to which a connection is kept, and which a program dials in a loop as well."""
    kept = PersistentPeers(network.config, lambda address: network.connect_unasked(address), lambda *told: None)
    with counting(handle) as (address, dials):
        kept.keep(address)
        ends = time.monotonic() + scaled(3.5)
        while time.monotonic() < ends:
            try:
                network.connect(address, timeout=0.5).wait_closed(0.05)
            except PeerNetError:
                continue
        kept.stop()
    return dials


def test_an_address_that_never_holds_is_dialled_ten_times_in_thirty_intervals_whoever_dials(
    networks: Networks,
) -> None:
    handles = (hang_up, say_duplicate, claim_to_resume)
    dialling = [gevent.spawn(dials_to, networks(config=TENTH), handle) for handle in handles]
    for dials in [one.get(timeout=scaled(15)) for one in dialling]:
        assert len(dials) > MOST / 2  # a refusal as a duplicate is waited for in connect()
        # The other side may look at the clock a moment later for one dial than for the next.
        assert min(later - earlier for earlier, later in pairwise(dials)) >= 0.05
        assert all(later - earlier >= 3.0 for earlier, later in zip(dials, dials[MOST:], strict=False))


def test_a_peer_with_whom_packets_are_exchanged_is_dialled_again_at_once_however_often_it_is_cut(
    networks: Networks,
) -> None:
    meeting = meet(networks, config=config(redial_interval=0.01))
    with FaultProxy(meeting.bob.addresses[0]) as proxy:
        meeting.to_bob.close()
        channel = meeting.alice.connect(proxy.address)
        meeting.bob.handlers["pure_message"] = lambda channel, packet: None
        for _ in range(2 * MOST):
            assert channel.send(text("are you there?")).wait(scaled(5))
            proxy.reset()
            wait_until(lambda: channel.state is ChannelState.RECONNECTING)
            assert meeting.alice.connect(proxy.address) is channel


def test_whoever_waits_for_the_turn_of_an_address_takes_the_channel_that_the_peer_makes(networks: Networks) -> None:
    meeting = meet(networks, config=config(redial_interval=60.0))
    meeting.to_alice.close()
    meeting.to_bob.wait_closed()
    waiting = gevent.spawn(meeting.alice.connect, meeting.bob.addresses[0])
    gevent.sleep(0)
    back = meeting.bob.connect(meeting.alice.addresses[0])
    assert waiting.get(timeout=scaled(5)) is meeting.alice.channel_to(meeting.bob.identifier)
    assert back.dialled
