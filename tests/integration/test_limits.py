"""Limits of strangers and of untrusted peers, in networks of one process."""

from __future__ import annotations

import time

import gevent
import pytest
from gevent.event import Event as Flag

from peernet import ChannelState, IncomingPeerTrustPolicy, PeerChannel, PeerNetwork, Reason
from peernet.errors import ConnectError
from peernet.runtime import clock
from peernet.testing import FaultProxy
from peernet.v1 import packet_pb2 as pb
from tests.integration import attackers
from tests.integration.attackers import Attacker, Credentials, dial, varint
from tests.integration.meetings import Networks, config, meet, text
from tests.support import PartsOf, Recorder, record, scaled, wait_until

tls_and_plain = pytest.mark.parametrize("insecure", [False, True], ids=["tls", "plain"])


def silent(node: PeerNetwork) -> Attacker:
    return Attacker(attackers.connect(node.addresses[0]), Credentials.ed25519())


# Strangers.


def test_this_machine_is_an_address_like_any_other(networks: Networks) -> None:
    node = networks(config=config(allow_loopback_burst=False))
    strangers = [silent(node) for _ in range(9)]
    assert strangers[-1].is_hung_up_on()
    assert node.counters == {"refused_address_limit": 1}
    for stranger in strangers:
        stranger.leave()


def test_an_address_that_comes_too_often_is_hung_up_on_until_it_may_come_again(
    networks: Networks, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = networks(config=config(allow_loopback_burst=False, accept_burst=3, accept_rate=0.5))
    for _ in range(3):
        silent(node).leave()
    refused = silent(node)
    assert refused.is_hung_up_on()
    refused.leave()
    assert node.counters["refused_accept_rate"] == 1
    monkeypatch.setattr(clock, "monotonic", lambda: time.monotonic() + 2.1)
    guest = dial(node.addresses[0])
    guest.greet()
    guest.leave()


def test_who_was_introduced_does_not_count_as_a_stranger(networks: Networks) -> None:
    node = networks(config=config(allow_loopback_burst=False, max_handshakes_per_address=1))
    guests = []
    for _ in range(3):
        guests.append(dial(node.addresses[0]))
        guests[-1].greet()
        wait_until(lambda: len(node.active_peer_channels) == len(guests))
    for guest in guests:
        guest.leave()


# Channels that we dial.


def test_no_more_than_max_outbound_peers_are_dialled_unasked(networks: Networks) -> None:
    node = networks(config=config(max_outbound=2))
    one, two, three = networks(), networks(), networks()
    to_one, _ = (dial_unasked(node, other) for other in (one, two))
    with pytest.raises(ConnectError, match="2 peers already, as many as max_outbound"):
        dial_unasked(node, three)
    assert dial_unasked(node, one) is to_one
    assert node.connect(three.addresses[0]).state is ChannelState.OPEN


def test_peers_that_dial_us_do_not_count_as_outbound(networks: Networks) -> None:
    node = networks(config=config(max_outbound=1))
    for _ in range(2):
        networks().connect(node.addresses[0])
    assert dial_unasked(node, networks()).state is ChannelState.OPEN


def test_dials_under_way_count_too(networks: Networks) -> None:
    node, others = networks(config=config(max_outbound=2)), [networks() for _ in range(4)]
    dialling = [gevent.spawn(dial_unasked, node, other) for other in others]
    gevent.joinall(dialling, timeout=scaled(10))
    assert sum(one.successful() for one in dialling) == 2
    assert len(node.active_peer_channels) == 2


def test_many_dials_to_one_peer_are_one(networks: Networks) -> None:
    node, other = networks(config=config(max_outbound=1)), networks()
    dialling = [gevent.spawn(dial_unasked, node, other) for _ in range(5)]
    gevent.joinall(dialling, timeout=scaled(10))
    assert len({id(one.value) for one in dialling}) == 1


@pytest.mark.parametrize("state", [ChannelState.CLOSING, ChannelState.RECONNECTING])
def test_a_dial_in_place_of_a_channel_that_the_peer_had_dialled_counts_too(
    networks: Networks, parts_of: PartsOf, state: ChannelState
) -> None:
    node = networks(config=config(max_outbound=1, close_timeout=0.1))
    dial_unasked(node, networks())
    other, go_on = networks(), Flag()
    other.handlers["pure_message"] = lambda channel, packet: go_on.wait()
    other.connect(node.addresses[0])
    inbound = wait_until(lambda: node.channel_to(other.identifier))
    inbound.send(text("wait"))
    if state is ChannelState.CLOSING:
        gevent.spawn(inbound.close)
    else:
        parts_of(inbound).control.detach("cut")
    wait_until(lambda: inbound.state is state)
    with pytest.raises(ConnectError, match="1 peers already, as many as max_outbound"):
        dial_unasked(node, other)
    go_on.set()


def dial_unasked(node: PeerNetwork, other: PeerNetwork) -> PeerChannel:
    return node.connect_unasked(other.addresses[0], timeout=scaled(5))


# Frames that do not end.


@tls_and_plain
@pytest.mark.parametrize("length", [100, 500_000])
def test_a_connection_whose_frame_does_not_come_on_ends_and_its_peer_is_told(
    networks: Networks, insecure: bool, length: int
) -> None:
    node = networks(insecure=insecure, config=config(frame_timeout=0.2, dead_after=20, heartbeat_interval=0.2))
    removed = record(node.peer_removed)
    attacker = dial(node.addresses[0], plain=insecure)
    attacker.greet()
    attacker.send_bytes(varint(length) + b"x")

    def is_over() -> bool:
        try:
            attacker.send_bytes(b"x")
        except OSError:
            return True
        gevent.sleep(0.02)
        return len(removed) == 1

    wait_until(is_over)
    ((channel, reason),) = removed.wait_for(1)
    assert reason is Reason.TIMEOUT
    assert channel.state is ChannelState.CLOSED
    assert node.counters["frame_timeout"] == 1
    (goodbye,) = [packet.disconnect for packet in attacker.receive_all() if packet.HasField("disconnect")]
    assert (Reason.from_number(goodbye.reason), goodbye.message) == (Reason.TIMEOUT, Reason.FRAME_TIMEOUT.sentence)
    attacker.leave()


def test_a_session_outlives_a_frame_that_does_not_come_on(networks: Networks) -> None:
    node = networks(config=config(frame_timeout=0.2, dead_after=20, heartbeat_interval=0.2))
    lost, removed = record(node.channel_reconnecting), record(node.peer_removed)
    attacker = dial(node.addresses[0])
    attacker.greet(session_id=7)
    attacker.send_bytes(varint(500_000) + b"x")
    lost.wait_for(1)
    assert node.counters["frame_timeout"] == 1
    assert len(removed) == 0
    attacker.leave()


def test_a_large_frame_may_take_its_time_within_the_limit(networks: Networks) -> None:
    node = networks(config=config(frame_timeout=5))
    heard = node.handlers["pure_message"] = Recorder()
    attacker = dial(node.addresses[0])
    attacker.greet()
    content = pb.Packet(pure_message=pb.PureMessagePacket(message="x" * 1000)).SerializeToString()
    for byte in varint(len(content)) + content[:100]:
        attacker.send_bytes(bytes([byte]))
    attacker.send_bytes(content[100:])
    heard.wait_for(1)
    attacker.leave()


# The share of an untrusted peer.

SLOW = {"untrusted_frame_rate": 200.0, "untrusted_frame_burst": 50, "frames_per_turn": 10}


def seconds_for(networks: Networks, count: int, policy: IncomingPeerTrustPolicy | None = None) -> float:
    """How long so many messages take from Alice to Bob."""
    meeting = meet(networks, bob={"config": config(**SLOW), "policy": policy})
    heard = meeting.bob.handlers["pure_message"] = Recorder()
    began = time.monotonic()
    for _ in range(count):
        meeting.to_bob.send(text("x"))
    heard.wait_for(count)
    return time.monotonic() - began


def test_an_untrusted_peer_is_slowed_down_and_loses_nothing(networks: Networks) -> None:
    assert seconds_for(networks, 200) > 0.6  # 150 of them at 200 a second, without the last turn


def test_a_trusted_peer_is_not_slowed_down(networks: Networks) -> None:
    meeting = meet(networks, bob={"config": config(**SLOW)})
    heard = meeting.bob.handlers["pure_message"] = Recorder()
    meeting.to_alice.trust()
    for _ in range(1000):
        meeting.to_bob.send(text("x"))
    heard.wait_for(1000)
    assert meeting.bob.counters["throttled"] == meeting.to_alice.counters["throttled"] == 0
    meeting.to_alice.untrust()
    for _ in range(100):
        meeting.to_bob.send(text("x"))
    heard.wait_for(1100)
    assert meeting.bob.counters["throttled"] == meeting.to_alice.counters["throttled"] > 0


def test_another_connection_is_no_new_share(networks: Networks) -> None:
    bob = networks(config=config(**SLOW))
    heard = bob.handlers["pure_message"] = Recorder()
    alice = networks(config=config(redial_interval=0.01))
    proxy = FaultProxy(bob.addresses[0])
    channel = alice.connect(proxy.address)
    for count in (100, 200):
        throttled = bob.counters["throttled"]
        for _ in range(100):
            channel.send(text("x"))
        heard.wait_for(count)
        assert bob.counters["throttled"] - throttled >= 5
        proxy.reset()
        wait_until(lambda: alice.counters["resumed"] * 100 == len(heard))
    proxy.stop()


def test_a_throttled_peer_can_be_closed_at_once(networks: Networks) -> None:
    slow = {"untrusted_frame_rate": 0.1, "untrusted_frame_burst": 1, "frames_per_turn": 10}
    meeting = meet(networks, bob={"config": config(**slow)})
    for _ in range(30):
        meeting.to_bob.send(text("x"))
    wait_until(lambda: meeting.bob.counters["throttled"])
    with gevent.Timeout(scaled(10)):
        meeting.to_alice.close()
    assert meeting.to_alice.state is ChannelState.CLOSED
