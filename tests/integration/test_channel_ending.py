"""How channels end: with everything flushed, once, and for a reason that both sides know."""

from __future__ import annotations

from typing import cast

import gevent
import pytest
from gevent.event import Event as Flag

from peernet import ChannelState, IncomingPeerTrustPolicy, PeerChannel, Reason
from peernet.errors import ChannelClosedError
from peernet.v1 import packet_pb2 as pb
from peernet.v1.packet_pb2 import DataTransmissionPacket
from tests.integration import attackers
from tests.integration.meetings import Networks, config, fill, meet, text, undisturbed, wait_for_sign_of_life
from tests.support import AssemblyOf, PartsOf, Recorder, known, record, wait_until

tls_and_plain = pytest.mark.parametrize("insecure", [False, True], ids=["tls", "plain"])
OPEN_TO_ALL = IncomingPeerTrustPolicy(allow_enhanced_packet_exchange=True)


@tls_and_plain
def test_close_flushes_what_was_queued_before_it(networks: Networks, insecure: bool) -> None:
    meeting = meet(networks, insecure=insecure, policy=OPEN_TO_ALL)
    story: list[object] = []
    meeting.bob.handlers["pure_message"] = lambda channel, packet: story.append(packet.pure_message.message)
    meeting.bob.handlers["data_transmission"] = lambda channel, packet: story.append(len(packet.data_transmission.data))
    meeting.bob.peer_removed.add(lambda channel, reason: story.append(reason))
    for number in range(200):
        meeting.to_bob.send(text(str(number)))
    meeting.to_bob.send(DataTransmissionPacket(data=bytes(900_000)))
    meeting.to_bob.close()
    assert meeting.to_bob.state is ChannelState.CLOSED
    wait_until(lambda: story[-1:] == [Reason.CLOSED])
    assert story == [*map(str, range(200)), 900_000, Reason.CLOSED]


@tls_and_plain
def test_both_sides_learn_the_reason_once(networks: Networks, insecure: bool) -> None:
    meeting = meet(networks, insecure=insecure)
    removed = {network: record(network.peer_removed) for network in (meeting.alice, meeting.bob)}
    meeting.to_bob.close(Reason.REJECTED, "not today")
    assert meeting.to_alice.wait_closed(5)
    assert removed[meeting.alice].calls == [(meeting.to_bob, Reason.REJECTED)]
    assert removed[meeting.bob].calls == [(meeting.to_alice, Reason.REJECTED)]
    assert (meeting.to_bob.ended_by_peer, meeting.to_alice.ended_by_peer) == (False, True)
    assert meeting.to_alice.reason_text == "not today"
    assert meeting.alice.active_peer_channels == meeting.bob.active_peer_channels == []


def test_close_is_idempotent_and_the_first_reason_counts(networks: Networks) -> None:
    meeting = meet(networks)
    removed = record(meeting.alice.peer_removed)
    closers = [gevent.spawn(meeting.to_bob.close, reason) for reason in (Reason.CLOSED, Reason.BUSY, Reason.SHUTDOWN)]
    gevent.joinall(closers, raise_error=True)
    meeting.to_bob.close(Reason.REJECTED)
    assert removed.calls == [(meeting.to_bob, Reason.CLOSED)]


def test_a_channel_that_is_ended_while_it_closes_is_not_taken_for_one_that_hangs(
    networks: Networks, assembly_of: AssemblyOf, parts_of: PartsOf, caplog: pytest.LogCaptureFixture
) -> None:
    meeting = meet(networks, config=config(close_timeout=0.2))
    closing = gevent.spawn(meeting.to_bob.close)
    wait_until(lambda: meeting.to_bob.state is ChannelState.CLOSING)
    parts_of(meeting.to_bob).control.end(Reason.SESSION_LOST)
    closing.get(timeout=5)
    wait_until(lambda: not assembly_of(meeting.alice).switch.greenlets)
    assert "still runs" not in caplog.text


def test_both_sides_may_close_at_the_same_time(networks: Networks) -> None:
    meeting = meet(networks)
    removed = [record(network.peer_removed) for network in (meeting.alice, meeting.bob)]
    gevent.joinall([gevent.spawn(meeting.to_bob.close), gevent.spawn(meeting.to_alice.close)], raise_error=True)
    assert [len(recorder) for recorder in removed] == [1, 1]
    # Nobody has done anything wrong.
    assert not meeting.alice.counters["unexpected_packet"]
    assert not meeting.bob.counters["unexpected_packet"]


@tls_and_plain
def test_close_in_a_callback_returns_at_once_and_no_later_packet_is_handled(networks: Networks, insecure: bool) -> None:
    meeting = meet(networks, insecure=insecure)
    states = []

    @meeting.bob.handlers.on("pure_message")
    def hang_up(channel: PeerChannel, packet: object) -> None:
        channel.send(text("goodbye"))
        channel.close(Reason.CLOSED, "enough")
        states.append(channel.state)

    heard = meeting.alice.handlers["pure_message"] = Recorder()
    for _ in range(50):
        meeting.to_bob.try_send(text("hello"))
    assert meeting.to_bob.wait_closed(5)
    assert meeting.to_alice.wait_closed(5)
    assert states == [ChannelState.CLOSING]
    assert [packet.pure_message.message for packet in heard.packets] == ["goodbye"]
    assert meeting.to_bob.reason_text == "enough"


def test_no_packet_is_handled_once_close_was_called_elsewhere(networks: Networks) -> None:
    meeting = meet(networks)
    heard_after_close = []
    meeting.bob.handlers["pure_message"] = lambda channel, packet: (
        heard_after_close.append(packet) if channel.state is not ChannelState.OPEN else None
    )
    sending = gevent.spawn(_send_until_closed, meeting.to_bob)
    wait_until(lambda: meeting.to_alice.received > 100)
    meeting.to_alice.close()
    sending.get(timeout=5)
    assert heard_after_close == []


def test_closing_an_unwanted_peer_when_it_is_added_waits_for_nobody(networks: Networks) -> None:
    alice, bob = networks(config=config()), networks(config=config())
    bob.peer_added.add(lambda channel: channel.close(Reason.REJECTED, "unwanted"))
    removed = record(bob.peer_removed)
    channel = alice.connect(bob.addresses[0])
    assert channel.wait_closed(5)
    assert channel.reason_text == "unwanted"
    wait_until(lambda: len(removed) == 1)


def test_closing_the_peer_one_has_dialled_when_it_is_added_waits_for_nobody(networks: Networks) -> None:
    alice, bob = networks(config=config()), networks(config=config())
    alice.peer_added.add(lambda channel: alice.disconnect(channel.peer.identifier))
    connecting = gevent.spawn(alice.connect, bob.addresses[0])
    channel = connecting.get(timeout=5)
    assert channel.wait_closed(5)
    assert channel.reason is Reason.CLOSED


def test_close_right_after_connect_waits_until_the_channel_has_ended(networks: Networks) -> None:
    alice, bob = networks(config=config()), networks(config=config())
    heard = bob.handlers["pure_message"] = Recorder()
    channel = alice.connect(bob.addresses[0])
    channel.send(text("in passing"))
    channel.close()
    assert channel.state is ChannelState.CLOSED
    heard.wait_for(1)


def test_a_callback_for_disconnect_can_call_close(networks: Networks) -> None:
    meeting = meet(networks)
    heard = Recorder()

    @meeting.bob.handlers.on("disconnect")
    def tidy_up(channel: PeerChannel, packet: object) -> None:
        channel.close()
        heard(channel, packet)

    meeting.to_bob.close(message="bye")
    assert heard.wait_for(1)[0][1].disconnect.message == "bye"
    assert meeting.to_alice.wait_closed(5)
    assert not meeting.to_alice.counters["callback_failed"]


def test_a_callback_for_disconnect_that_takes_its_time_disturbs_nobody(networks: Networks) -> None:
    brisk = config(heartbeat_interval=0.05, dead_after=0.5)
    node = networks(config=brisk)
    other = networks(config=brisk)
    leaving, staying = networks(config=brisk), networks(config=brisk)
    to_node = leaving.connect(node.addresses[0])
    staying.connect(node.addresses[0])
    busy, done = Flag(), Flag()

    @node.handlers.on("disconnect")
    def take_your_time(channel: PeerChannel, packet: object) -> None:
        busy.set()
        done.wait()

    to_node.close()
    assert busy.wait(5)
    channel = known(node.channel_to(leaving.identifier))
    with pytest.raises(ChannelClosedError):
        channel.send(text("are you there?"))
    # Channels that are younger and older still get their heartbeats.
    to_other = node.connect(other.addresses[0])
    for one in (to_other, known(node.channel_to(staying.identifier)), known(other.channel_to(node.identifier))):
        wait_for_sign_of_life(one)
    done.set()
    assert channel.wait_closed(5)
    assert channel.reason is Reason.CLOSED


def test_what_a_channel_has_spawned_ends_some_time_after_it(networks: Networks) -> None:
    meeting = meet(networks, config=config(close_timeout=0.2))
    task = meeting.to_bob.spawn(Flag().wait)
    last_words = meeting.to_bob.spawn(meeting.to_bob.wait_closed)
    meeting.to_bob.close()
    assert last_words.get(timeout=5) is True
    wait_until(lambda: task.dead, what="the end of the task")


def test_nothing_that_a_closed_channel_has_spawned_outlives_the_network(networks: Networks) -> None:
    meeting = meet(networks, config=config(close_timeout=5))
    task = meeting.to_bob.spawn(Flag().wait)
    meeting.to_bob.close()
    meeting.alice.stop()
    assert task.dead


def test_a_peer_that_does_not_hang_up_is_cut_off(networks: Networks) -> None:
    node = networks(config=config(close_timeout=0.2))
    with undisturbed(networks, node):
        attacker = attackers.dial(node.addresses[0])
        attacker.greet()
        channel = known(node.channel_to(attacker.credentials.identifier))
        channel.close(Reason.CLOSED, "please go")
        assert channel.state is ChannelState.CLOSED
        assert attacker.farewell() == "closed"
        attacker.leave()


def test_a_goodbye_that_cannot_be_delivered_is_given_up(networks: Networks) -> None:
    node = networks(config=config(), policy=OPEN_TO_ALL)
    attacker = attackers.dial(node.addresses[0])
    attacker.greet()
    channel = known(node.channel_to(attacker.credentials.identifier))
    fill(channel)
    channel.close(timeout=0.2)
    assert channel.state is ChannelState.CLOSED
    wait_until(lambda: channel.queued_bytes == 0)
    attacker.vanish()


def test_the_peer_that_says_goodbye_hears_no_more_from_this_side(networks: Networks) -> None:
    node = networks(config=config())
    removed = record(node.peer_removed)
    attacker = attackers.dial(node.addresses[0])
    attacker.greet()
    attacker.send(disconnect=pb.DisconnectPacket(reason=pb.DISCONNECT_REASON_SHUTDOWN, message="so long\x1b[2J"))
    assert attacker.is_hung_up_on()
    (channel, reason), *_ = removed.wait_for(1)
    assert reason is Reason.SHUTDOWN
    assert channel.reason_text == "so long\\x1b[2J"
    attacker.leave()


def test_a_reason_from_the_future_counts_as_unspecified(networks: Networks) -> None:
    node = networks(config=config())
    removed = record(node.peer_removed)
    attacker = attackers.dial(node.addresses[0])
    attacker.greet()
    attacker.send(disconnect=pb.DisconnectPacket(reason=cast("pb.DisconnectReason.ValueType", 4711)))
    assert removed.wait_for(1)[0][1] is Reason.UNSPECIFIED
    attacker.leave()


def test_acknowledgements_that_come_after_the_end_are_let_pass(
    networks: Networks, assembly_of: AssemblyOf, caplog: pytest.LogCaptureFixture
) -> None:
    node = networks(config=config(frames_per_turn=1))
    attacker = attackers.dial(node.addresses[0])
    attacker.greet(session_id=7)
    channel = wait_until(lambda: node.channel_to(attacker.credentials.identifier))
    channel.handlers["pure_message"] = lambda channel, packet: channel.close(timeout=0)
    receipt = channel.send(text("one"))
    heartbeat = pb.Packet(heartbeat=pb.HeartbeatPacket())
    packets = [
        pb.Packet(pure_message=pb.PureMessagePacket()),
        *[heartbeat] * 20,
        pb.Packet(acknowledge=pb.AcknowledgePacket(), acknowledged=1),
    ]
    contents = [packet.SerializeToString() for packet in packets]
    attacker.send_bytes(b"".join(attackers.varint(len(content)) + content for content in contents))
    assert channel.wait_closed(5)
    wait_until(lambda: not assembly_of(node).switch.greenlets, what="the end of the channel's greenlet")
    attacker.leave()
    assert receipt.reason is Reason.CLOSED
    assert "Traceback" not in caplog.text


def _send_until_closed(channel: PeerChannel) -> None:
    try:
        while True:
            channel.send(text("chatter"))
            gevent.sleep(0)
    except ChannelClosedError:
        return
