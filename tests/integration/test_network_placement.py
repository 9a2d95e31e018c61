"""Inbound peers between their handshake and the decision about them."""

from __future__ import annotations

import time
from collections.abc import Callable

import gevent
import pytest
from gevent.event import Event as Flag

from peernet import (
    ChannelState,
    Identity,
    IncomingPeerConnectionAttempt,
    IncomingPeerMode,
    IncomingPeerTrustPolicy,
    PeerChannel,
    PeerNetwork,
    Reason,
)
from peernet.errors import ConfigurationError, LocalProtocolError
from peernet.switch.pending import REJECTED_RETRY_AFTER
from peernet.v1 import packet_pb2 as pb
from tests.integration import attackers
from tests.integration.attackers import Attacker
from tests.integration.meetings import Networks, config, meet, text
from tests.support import Recorder, known, record, scaled, wait_until

QUEUE = IncomingPeerTrustPolicy(incoming_peer_placement=IncomingPeerMode.QUEUE_BASED)
BOTH = IncomingPeerTrustPolicy(incoming_peer_placement=IncomingPeerMode.QUEUE_AND_EVENT_BASED)
tls_and_plain = pytest.mark.parametrize("insecure", [False, True], ids=["tls", "plain"])


def test_event_based_without_a_listener_lets_everybody_in(networks: Networks) -> None:
    assert meet(networks).to_alice.state is ChannelState.OPEN


def test_event_based_a_listener_is_asked_before_the_peer_is_added(networks: Networks) -> None:
    alice, bob = networks(), networks()
    story: list[tuple[str, object]] = []
    bob.incoming_peer_connection_attempt.add(lambda attempt: story.append(("asked", attempt.peer.identifier)))
    bob.peer_added.add(lambda channel: story.append(("added", channel.peer.identifier)))
    alice.connect(bob.addresses[0])
    wait_until(lambda: len(story) == 2)
    assert story == [("asked", alice.identifier), ("added", alice.identifier)]


def test_event_based_a_listener_can_accept(networks: Networks) -> None:
    alice, bob = networks(), networks()
    bob.incoming_peer_connection_attempt.add(IncomingPeerConnectionAttempt.accept)
    bob.incoming_peer_connection_attempt.add(IncomingPeerConnectionAttempt.reject)  # too late
    assert alice.connect(bob.addresses[0]).ping() > 0


@tls_and_plain
def test_event_based_a_listener_can_reject_and_the_dialler_learns_why(networks: Networks, insecure: bool) -> None:
    alice, bob = networks(insecure=insecure), networks(insecure=insecure)
    added = record(bob.peer_added)
    bob.incoming_peer_connection_attempt.add(lambda attempt: attempt.reject("members only"))
    removed = record(alice.peer_removed)
    channel = alice.connect(bob.addresses[0])
    assert channel.wait_closed(5)
    assert (channel.reason, channel.reason_text) == (Reason.REJECTED, "members only")
    assert channel.retry_after == REJECTED_RETRY_AFTER
    assert removed.wait_for(1)[0][1] is Reason.REJECTED
    assert not added
    assert bob.counters["rejected"] == 1
    assert alice.identifier not in bob.known_peers


def test_event_based_a_listener_can_take_its_time_without_holding_up_others(networks: Networks) -> None:
    bob = networks()
    slow, quick = networks(), networks()
    decide = Flag()

    @bob.incoming_peer_connection_attempt.add
    def think(attempt: IncomingPeerConnectionAttempt) -> None:
        if attempt.peer.identifier == slow.identifier:
            decide.wait()

    slow_channel = slow.connect(bob.addresses[0])
    assert quick.connect(bob.addresses[0]).ping() > 0
    assert bob.channel_to(slow.identifier) is None
    decide.set()
    assert slow_channel.ping() > 0


def test_event_based_a_deferred_peer_waits_in_the_queue(networks: Networks) -> None:
    alice, bob = networks(), networks()
    bob.incoming_peer_connection_attempt.add(IncomingPeerConnectionAttempt.defer)
    channel = alice.connect(bob.addresses[0])
    attempt = _pending(bob, alice)
    assert bob.active_peer_channels == []
    attempt.accept()
    assert channel.ping() > 0
    assert len(bob.inbound_connecting_peers) == 0


@tls_and_plain
def test_queue_based_the_socket_is_held_and_no_packet_is_handled_before_the_decision(
    networks: Networks, insecure: bool
) -> None:
    alice, bob = networks(insecure=insecure), networks(insecure=insecure, policy=QUEUE)
    story: list[str] = []
    bob.packet_received.add(lambda channel, packet: story.append("received"))
    bob.handlers["pure_message"] = lambda channel, packet: story.append(packet.pure_message.message)
    bob.incoming_peer_connection_attempt.add(lambda attempt: story.append("asked"))
    pending = record(bob.peer_pending)
    channel = alice.connect(bob.addresses[0])
    for number in range(3):
        channel.send(text(str(number)))
    attempt = _pending(bob, alice)
    assert pending.calls == [(attempt,)]
    wait_until(lambda: not channel.queued_bytes)
    assert story == []
    assert bob.active_peer_channels == []
    with pytest.raises(LocalProtocolError, match="pending; accept it first"):
        attempt.channel.send(text("too early"))

    bob.inbound_connecting_peers.accept(alice.identifier)

    wait_until(lambda: len(story) == 6)
    assert story == ["received", "0", "received", "1", "received", "2"]
    assert bob.channel_to(alice.identifier) is attempt.channel


def test_queue_based_a_rejected_peer_learns_why(networks: Networks) -> None:
    alice, bob = networks(), networks(policy=QUEUE)
    added, removed = record(bob.peer_added), record(bob.peer_removed)
    channel = alice.connect(bob.addresses[0])
    _pending(bob, alice)
    bob.inbound_connecting_peers.reject(alice.identifier, "not you")
    assert channel.wait_closed(5)
    assert (channel.reason, channel.reason_text, channel.ended_by_peer) == (Reason.REJECTED, "not you", True)
    assert channel.retry_after == REJECTED_RETRY_AFTER
    assert len(bob.inbound_connecting_peers) == 0
    assert not added
    assert not removed


def test_a_decision_about_nobody_is_an_error_that_says_so(networks: Networks) -> None:
    bob = networks(policy=QUEUE)
    with pytest.raises(ConfigurationError, match="no pending peer"):
        bob.inbound_connecting_peers.accept("nobody")
    with pytest.raises(ConfigurationError, match="no pending peer"):
        bob.inbound_connecting_peers.reject("nobody")


def test_nobody_decides_in_time(networks: Networks) -> None:
    alice, bob = networks(), networks(policy=QUEUE, config=config(decision_timeout=0.2))
    channel = alice.connect(bob.addresses[0])
    assert channel.wait_closed(5)
    assert channel.reason is Reason.DECISION_TIMEOUT
    assert len(bob.inbound_connecting_peers) == 0
    assert bob.counters["decision_timeout"] == 1


@tls_and_plain
def test_a_peer_that_hangs_up_while_it_is_pending_leaves_the_queue(networks: Networks, insecure: bool) -> None:
    alice, bob = networks(insecure=insecure), networks(insecure=insecure, policy=QUEUE)
    added = record(bob.peer_added)
    channel = alice.connect(bob.addresses[0])
    channel.send(text("never mind"))
    _pending(bob, alice)
    channel.close()
    wait_until(lambda: len(bob.inbound_connecting_peers) == 0, what="an empty queue")
    assert not added


@tls_and_plain
@pytest.mark.parametrize("leave", [attackers.Attacker.leave, attackers.Attacker.vanish])
def test_a_peer_that_vanishes_while_it_is_pending_leaves_the_queue(
    networks: Networks, insecure: bool, leave: Callable[[Attacker], None]
) -> None:
    bob = networks(insecure=insecure, policy=QUEUE)
    attacker = attackers.dial(bob.addresses[0], plain=insecure)
    attacker.greet()
    wait_until(lambda: attacker.credentials.identifier in bob.inbound_connecting_peers)
    leave(attacker)
    wait_until(lambda: len(bob.inbound_connecting_peers) == 0, what="an empty queue")


def test_a_pending_peer_that_falls_silent_is_dead_and_cannot_be_accepted_any_more(networks: Networks) -> None:
    bob = networks(policy=QUEUE, config=config(heartbeat_interval=0.05, dead_after=0.2))
    added = record(bob.peer_added)
    attacker = attackers.dial(bob.addresses[0])
    attacker.greet()
    attempt = wait_until(lambda: next(iter(bob.inbound_connecting_peers), None))
    wait_until(lambda: attempt.channel.state is ChannelState.CLOSED)
    attempt.accept()
    wait_until(lambda: attempt.verdict is False)
    assert attacker.farewell() == "timeout"
    assert bob.active_peer_channels == []
    assert not added
    again = attackers.dial(bob.addresses[0], credentials=attacker.credentials)
    again.greet()
    for one in (attacker, again):
        one.leave()


def test_a_pending_peer_that_heartbeats_stays(networks: Networks) -> None:
    brisk = config(heartbeat_interval=0.05, dead_after=0.3)
    alice, bob = networks(config=brisk), networks(policy=QUEUE, config=brisk)
    channel = alice.connect(bob.addresses[0])
    attempt = _pending(bob, alice)
    began = time.monotonic()
    wait_until(
        lambda: attempt.channel.last_received > began + 0.7, what="life after twice the time that silence may last"
    )
    attempt.accept()
    assert channel.ping() > 0


def test_a_peer_that_is_pending_cannot_come_in_a_second_time(networks: Networks) -> None:
    bob = networks(policy=QUEUE)
    attacker = attackers.dial(bob.addresses[0])
    attacker.greet()
    wait_until(lambda: len(bob.inbound_connecting_peers) == 1)
    twin = attackers.dial(bob.addresses[0], credentials=attacker.credentials)
    twin.send_hello()
    assert twin.farewell() == "duplicate"
    for one in (attacker, twin):
        one.leave()


def test_queue_and_event_based_asks_the_listeners_and_then_holds_the_peer(networks: Networks) -> None:
    alice, carol, bob = networks(), networks(), networks(policy=BOTH)

    @bob.incoming_peer_connection_attempt.add
    def know_carol(attempt: IncomingPeerConnectionAttempt) -> None:
        if attempt.peer.identifier == carol.identifier:
            attempt.accept()

    assert carol.connect(bob.addresses[0]).ping() > 0
    channel = alice.connect(bob.addresses[0])
    _pending(bob, alice).accept()
    assert channel.ping() > 0


def test_queue_and_event_based_a_listener_can_reject_at_once(networks: Networks) -> None:
    alice, bob = networks(), networks(policy=BOTH)
    pending = record(bob.peer_pending)
    bob.incoming_peer_connection_attempt.add(lambda attempt: attempt.reject("no"))
    channel = alice.connect(bob.addresses[0])
    assert channel.wait_closed(5)
    assert channel.reason is Reason.REJECTED
    assert not pending


def test_the_queue_is_bounded(networks: Networks) -> None:
    bob = networks(policy=QUEUE, config=config(max_pending=2))
    waiting = [attackers.dial(bob.addresses[0]) for _ in range(2)]
    for attacker in waiting:
        attacker.greet()
    wait_until(lambda: len(bob.inbound_connecting_peers) == 2)
    refused = attackers.dial(bob.addresses[0])
    refused.send_hello()
    answer = known(refused.receive())
    assert answer.disconnect.reason == pb.DISCONNECT_REASON_BUSY
    assert answer.disconnect.retry_after_ms > 0
    assert bob.counters["busy"] == 1
    for attacker in (*waiting, refused):
        attacker.leave()


def test_the_queue_is_bounded_when_several_come_to_it_at_once(networks: Networks) -> None:
    bob = networks(policy=BOTH, config=config(max_pending=1))
    asked, go_on = Recorder(), Flag()
    bob.incoming_peer_connection_attempt.add(asked)
    bob.incoming_peer_connection_attempt.add(lambda attempt: go_on.wait())
    channels = [networks().connect(bob.addresses[0]) for _ in range(3)]
    asked.wait_for(3)
    go_on.set()
    wait_until(lambda: [channel.reason for channel in channels].count(Reason.BUSY) == 2)
    assert len(bob.inbound_connecting_peers) == 1


def test_a_listener_that_takes_its_time_holds_only_so_many(networks: Networks) -> None:
    bob = networks(config=config(max_pending=1, max_handshakes=2))
    asked, go_on = record(bob.incoming_peer_connection_attempt), Flag()
    bob.incoming_peer_connection_attempt.add(lambda attempt: go_on.wait())
    channels = [networks().connect(bob.addresses[0]) for _ in range(3)]
    asked.wait_for(3)
    one_more = attackers.dial(bob.addresses[0])
    one_more.send_hello()
    assert one_more.farewell() == "busy"
    one_more.leave()
    go_on.set()
    assert all(channel.ping() > 0 for channel in channels)
    assert networks().connect(bob.addresses[0]).ping() > 0


def test_accepting_more_than_there_is_room_for_leaves_the_later_ones_out(networks: Networks) -> None:
    bob = networks(policy=QUEUE, config=config(max_inbound=1))
    diallers = [networks(), networks()]
    channels = [dialler.connect(bob.addresses[0]) for dialler in diallers]
    for dialler in diallers:
        _pending(bob, dialler)
    for dialler in diallers:
        bob.inbound_connecting_peers.accept(dialler.identifier)
    wait_until(lambda: any(channel.reason for channel in channels))
    assert [channel.reason for channel in channels] == [None, Reason.BUSY]
    assert len(bob.active_peer_channels) == 1


@pytest.mark.parametrize("by", ["identifier", "network"])
def test_a_peer_that_is_blocked_while_it_is_pending_is_sent_away_at_once(networks: Networks, by: str) -> None:
    alice, bob = networks(), networks(policy=QUEUE)
    channel = alice.connect(bob.addresses[0])
    _pending(bob, alice)
    bob.policy = bob.policy.blocking(alice.identifier if by == "identifier" else "127.0.0.0/8")
    assert channel.wait_closed(5)
    assert channel.reason is Reason.BLOCKED


def test_an_attempt_that_a_listener_closes_leaves_nothing_behind(networks: Networks) -> None:
    alice, bob = networks(), networks()
    listener = bob.incoming_peer_connection_attempt.add(lambda attempt: attempt.channel.close(Reason.BUSY, "full"))
    channel = alice.connect(bob.addresses[0])
    assert channel.wait_closed(5)
    assert channel.reason is Reason.BUSY
    assert bob.active_peer_channels == []
    bob.incoming_peer_connection_attempt.remove(listener)
    assert alice.connect(bob.addresses[0]).ping() > 0


def test_the_pending_are_told_when_the_node_stops(networks: Networks) -> None:
    alice, bob = networks(), networks(policy=QUEUE)
    channel = alice.connect(bob.addresses[0])
    _pending(bob, alice)
    bob.stop()
    assert channel.wait_closed(5)
    assert channel.reason is Reason.SHUTDOWN


def test_a_pending_peer_that_does_not_hang_up_leaves_nothing_when_the_node_stops(networks: Networks) -> None:
    bob = networks(policy=QUEUE, config=config(close_timeout=5))
    attacker = attackers.dial(bob.addresses[0])
    attacker.greet()
    wait_until(lambda: len(bob.inbound_connecting_peers) == 1)
    bob.stop(timeout=1)
    assert attacker.farewell() == "shutdown"
    attacker.leave()


def test_trust_that_the_policy_gives_counts_after_the_decision_too(networks: Networks) -> None:
    friend = Identity.generate()
    alice = networks(identity=friend)
    bob = networks(policy=QUEUE.adding(trusted_identifiers=friend.identifier))
    alice.connect(bob.addresses[0])
    _pending(bob, alice).accept()
    assert wait_until(lambda: bob.trusted_peer_channels)[0].peer.identifier == friend.identifier


def _pending(network: PeerNetwork, peer: PeerNetwork) -> IncomingPeerConnectionAttempt:
    wait_until(lambda: peer.identifier in network.inbound_connecting_peers, what="the peer in the queue")
    attempt = network.inbound_connecting_peers[peer.identifier]
    assert isinstance(attempt.channel, PeerChannel)
    return attempt


# Guards that break down.


class OwnError(BaseException):
    """What a program may have made, and no library expects."""


BREAKDOWNS: dict[str, BaseException] = {
    "an error": ValueError("oops"),
    "a timeout": gevent.Timeout(1),
    "an exit that nobody has sent": gevent.GreenletExit(),
    "one of the program's own": OwnError("oops"),
}


@pytest.mark.parametrize("error", BREAKDOWNS.values(), ids=BREAKDOWNS)
def test_a_guard_that_breaks_down_lets_nobody_in_and_says_so(networks: Networks, error: BaseException) -> None:
    node = networks()

    @node.incoming_peer_connection_attempt.add
    def break_down(attempt: object) -> None:
        raise error

    visitor = networks(listen=[])
    removed = record(visitor.peer_removed)
    channel = visitor.connect(node.addresses[0], attempts=1)
    ((_, reason),) = removed.wait_for(1)
    assert (reason, channel.ended_by_peer) == (Reason.INTERNAL_ERROR, True)
    assert node.counters["internal_error"] == 1
    assert node.active_peer_channels == []


@pytest.mark.parametrize("name", ["peer_added", "packet_received"])
@pytest.mark.parametrize("error", BREAKDOWNS.values(), ids=BREAKDOWNS)
def test_a_listener_that_breaks_down_hurts_no_channel(networks: Networks, name: str, error: BaseException) -> None:
    node, heard = networks(), Recorder()
    node.handlers["pure_message"] = heard

    def break_down(*arguments: object) -> None:
        raise error

    getattr(node, name).add(break_down)
    channel = networks(listen=[]).connect(node.addresses[0])
    assert channel.send(text("hello")).wait(scaled(5))
    assert len(heard) == 1
    assert len(node.active_peer_channels) == 1


@pytest.mark.parametrize("error", BREAKDOWNS.values(), ids=BREAKDOWNS)
def test_a_trust_protocol_that_breaks_down_hurts_no_channel(networks: Networks, error: BaseException) -> None:
    node = networks()
    node.handlers["pure_message"] = Recorder()

    def break_down(channel: object) -> None:
        raise error

    node.default_trust_protocol = break_down
    channel = networks(listen=[]).connect(node.addresses[0])
    assert channel.send(text("hello")).wait(scaled(5))
