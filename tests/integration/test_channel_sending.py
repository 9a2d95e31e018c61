"""Sending when there is no room, from inside callbacks, and in the other awkward places."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress

import gevent
import pytest
from gevent.event import Event as Flag

from peernet import IncomingPeerTrustPolicy, PeerChannel, PeerNetwork, Reason
from peernet.errors import (
    ChannelClosedError,
    OutboxFullError,
    PeerNetError,
    PingTimeout,
    SelfWaitError,
    SendTimeout,
)
from peernet.v1.packet_pb2 import Packet
from tests.integration import attackers
from tests.integration.meetings import CHUNK, Meeting, Networks, config, fill, meet, text, undisturbed
from tests.support import PartsOf, Recorder, handle, known, wait_until

OPEN_TO_ALL = IncomingPeerTrustPolicy(allow_enhanced_packet_exchange=True)


@pytest.fixture
def stuck(networks: Networks) -> Iterator[Meeting]:
    """Bob is busy in a callback and reads nothing until the test has ended."""
    meeting = meet(networks, alice={"config": config(send_timeout=0.2)}, policy=OPEN_TO_ALL)
    busy, done = Flag(), Flag()

    @meeting.bob.handlers.on("pure_message")
    def wait_for_the_end(channel: PeerChannel, packet: object) -> None:
        busy.set()
        done.wait()

    meeting.to_bob.send(text("be busy"))
    assert busy.wait(5)
    yield meeting
    done.set()


def test_try_send_refuses_at_once_when_the_outbox_is_full(stuck: Meeting) -> None:
    fill(stuck.to_bob)
    with pytest.raises(OutboxFullError, match="full"):
        stuck.to_bob.try_send(CHUNK)
    assert known(stuck.to_bob.session).kept_bytes >= 3 * 1024 * 1024


def test_the_outbox_is_bounded_in_packets_too(stuck: Meeting) -> None:
    fill(stuck.to_bob, text("x" * 5_000))
    assert stuck.to_bob.queued_packets <= 256
    with pytest.raises(OutboxFullError):
        stuck.to_bob.try_send(text("one more"))


def test_send_waits_for_room_and_gives_up_in_time(stuck: Meeting) -> None:
    fill(stuck.to_bob)
    with pytest.raises(SendTimeout, match=r"0\.2 s: the peer reads too slowly"):
        stuck.to_bob.send(CHUNK)
    with pytest.raises(SendTimeout):
        stuck.to_bob.send(CHUNK, timeout=0.05)
    assert stuck.to_bob.reason is None


def test_who_waits_for_room_on_a_broken_connection_lets_others_run(networks: Networks, parts_of: PartsOf) -> None:
    meeting = meet(networks, config=config(outbox_packets=2, session_packets=4))
    done = Flag()
    meeting.alice.handlers["pure_message"] = lambda channel, packet: done.wait()
    meeting.to_alice.send(text("be busy"))
    wait_until(lambda: meeting.to_bob.received)
    parts_of(meeting.to_bob).transport.abort()  # which nobody notices, because nobody reads
    with suppress(OutboxFullError):
        while True:
            meeting.to_bob.try_send(text("of which nothing leaves"))
    turn = gevent.spawn(bool)
    with suppress(SendTimeout):
        meeting.to_bob.send(text("one more"), timeout=0.1)
    done.set()
    assert turn.dead


def test_a_sender_that_waits_for_room_is_told_when_the_channel_closes(stuck: Meeting) -> None:
    fill(stuck.to_bob)
    sender = gevent.spawn(_error_of, stuck.to_bob.send, CHUNK, timeout=60)
    gevent.sleep(0)
    stuck.to_bob.close(timeout=0)
    error = sender.get(timeout=5)
    assert isinstance(error, ChannelClosedError)
    assert error.reason is Reason.CLOSED


def test_what_was_sent_before_the_peer_read_again_arrives_complete(networks: Networks) -> None:
    meeting = meet(networks, policy=OPEN_TO_ALL)
    go_on = Flag()
    sizes: list[int] = []

    @meeting.bob.handlers.on("data_transmission")
    def note(channel: PeerChannel, packet: Packet) -> None:
        go_on.wait()
        sizes.append(len(packet.data_transmission.data))

    accepted = fill(meeting.to_bob)
    go_on.set()
    wait_until(lambda: len(sizes) == accepted)
    assert set(sizes) == {256 * 1024}


def test_a_send_in_a_callback_of_the_same_channel_never_waits(networks: Networks) -> None:
    meeting = meet(networks, policy=OPEN_TO_ALL)
    stop_reading = Flag()
    meeting.bob.handlers["data_transmission"] = lambda channel, packet: stop_reading.wait()
    outcome = []

    @meeting.alice.handlers.on("pure_message")
    def send_too_much(channel: PeerChannel, packet: object) -> None:
        gevent.get_hub().loop.update_now()
        began = gevent.get_hub().loop.now()
        try:
            for _ in range(200):
                channel.send(CHUNK)
        except PeerNetError as error:
            outcome.append(error)
        assert gevent.get_hub().loop.now() == began  # the hub had no turn: nobody waited

    meeting.to_alice.send(text("go"))
    wait_until(lambda: outcome, what="the end of the callback")
    assert isinstance(outcome[0], OutboxFullError)
    assert "channel.spawn" in str(outcome[0])
    assert meeting.to_bob.queued_bytes > 3 * 1024 * 1024  # the reserve was used
    assert meeting.to_bob.reason is None
    stop_reading.set()


def test_a_callback_can_send_on_another_channel_and_wait_there(networks: Networks) -> None:
    meeting = meet(networks)
    carol = networks()
    heard = carol.handlers["pure_message"] = Recorder()
    to_carol = meeting.bob.connect(carol.addresses[0])
    rtts = []

    @meeting.bob.handlers.on("pure_message")
    def forward(channel: PeerChannel, packet: Packet) -> None:
        to_carol.send(packet.pure_message)
        rtts.append(to_carol.ping())

    meeting.to_bob.send(text("pass it on"))
    assert heard.wait_for(1)[0][1].pure_message.message == "pass it on"
    wait_until(lambda: rtts)


@pytest.mark.parametrize("method", ["ping", "wait_closed"])
def test_a_callback_that_would_wait_for_itself_is_told_so_and_what_to_do(networks: Networks, method: str) -> None:
    meeting = meet(networks)
    outcome = []
    meeting.bob.handlers["pure_message"] = lambda channel, packet: outcome.append(_error_of(getattr(channel, method)))
    meeting.to_bob.send(text("go"))
    error = wait_until(lambda: outcome)[0]
    assert isinstance(error, SelfWaitError)
    assert "channel.spawn(...)" in str(error)


def test_a_callback_can_wait_on_its_own_channel_in_a_greenlet_that_the_channel_spawns(networks: Networks) -> None:
    meeting = meet(networks)
    tasks = []
    meeting.bob.handlers["pure_message"] = lambda channel, packet: tasks.append(channel.spawn(channel.ping))
    meeting.to_bob.send(text("go"))
    assert wait_until(lambda: tasks)[0].get(timeout=5) > 0


def test_a_ping_to_a_busy_peer_times_out_and_the_channel_lives(stuck: Meeting) -> None:
    with pytest.raises(PingTimeout, match=r"0\.1 s"):
        stuck.to_bob.ping(timeout=0.1)
    assert stuck.to_bob.reason is None


def test_a_ping_ends_when_the_channel_does(stuck: Meeting) -> None:
    pinging = gevent.spawn(_error_of, stuck.to_bob.ping, 60)
    gevent.sleep(0)
    stuck.to_bob.close(timeout=0)
    assert isinstance(pinging.get(timeout=5), ChannelClosedError)


def test_a_send_on_a_closed_channel_says_why_it_was_closed(networks: Networks) -> None:
    meeting = meet(networks)
    meeting.to_alice.close(Reason.SHUTDOWN)
    assert meeting.to_bob.wait_closed(5)
    for send in (meeting.to_bob.send, meeting.to_bob.try_send):
        with pytest.raises(ChannelClosedError, match="The node is stopping") as caught:
            send(text("too late"))
        assert caught.value.reason is Reason.SHUTDOWN
    with pytest.raises(ChannelClosedError):
        meeting.to_bob.ping()


def test_senders_do_not_freeze_the_node_when_the_peer_is_gone_and_a_callback_keeps_the_channel(
    networks: Networks,
) -> None:
    node = networks(policy=OPEN_TO_ALL)
    with undisturbed(networks, node) as neighbour:
        attacker = attackers.dial(node.addresses[0])
        attacker.greet()
        channel = known(node.channel_to(attacker.credentials.identifier))
        busy, done = Flag(), Flag()

        @channel.handlers.on("pure_message")
        def wait_for_the_end(channel: PeerChannel, packet: object) -> None:
            busy.set()
            done.wait()

        attacker.say("be busy")
        assert busy.wait(5)
        fill(channel)
        attacker.vanish()
        senders = [gevent.spawn(_error_of, channel.send, CHUNK, timeout=30) for _ in range(3)]
        neighbour.is_served()
        gevent.joinall(senders, timeout=5)
        assert [type(sender.value) for sender in senders] == [ChannelClosedError] * 3
        assert isinstance(_error_of(channel.send, CHUNK, timeout=30), ChannelClosedError)
        done.set()
        assert channel.wait_closed(5)


def test_a_broadcast_waits_for_nobody_and_says_who_did_not_get_it(networks: Networks) -> None:
    node = networks(policy=OPEN_TO_ALL)
    others = [networks() for _ in range(3)]
    heard = [handle(other) for other in others]
    for other in others:
        other.connect(node.addresses[0])
    deaf = attackers.dial(node.addresses[0])
    deaf.greet()
    wait_until(lambda: len(node.active_peer_channels) == 4)
    fill(known(node.channel_to(deaf.credentials.identifier)))

    outcomes = node.broadcast(text("to all"))

    assert {identifier for identifier, outcome in outcomes.items() if outcome.queued} == _identifiers(others)
    refused = outcomes[deaf.credentials.identifier]
    assert not refused.queued
    assert isinstance(refused.error, OutboxFullError)
    for recorder in heard:
        assert recorder.wait_for(1)[0][1].pure_message.message == "to all"
    deaf.vanish()


def test_a_broadcast_may_go_to_some_channels_only(networks: Networks) -> None:
    node = networks()
    others = [networks() for _ in range(3)]
    heard = [handle(other) for other in others]
    channels = [node.connect(other.addresses[0]) for other in others]
    assert set(node.broadcast(text("to two"), channels[:2])) == _identifiers(others[:2])
    heard[0].wait_for(1)
    heard[1].wait_for(1)
    channels[2].ping()
    assert not heard[2]


def _identifiers(networks: list[PeerNetwork]) -> set[str]:
    return {network.identifier for network in networks}


def _error_of(function: Callable[..., object], *args: object, **options: object) -> PeerNetError | None:
    """The error that a call raises."""
    try:
        function(*args, **options)
    except PeerNetError as error:
        return error
    return None
