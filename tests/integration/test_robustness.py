"""What goes wrong inside a node, or at its edges, stays there."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import gevent
import pytest
from gevent.event import Event as Flag

from peernet import IncomingPeerTrustPolicy, Reason
from peernet.channel.state import ChannelState
from peernet.errors import ChannelClosedError
from peernet.v1 import packet_pb2 as pb
from tests.integration.meetings import Networks, config, meet, text
from tests.support import AssemblyOf, PartsOf, record, stay, wait_until


def hanging(entered: Flag) -> Any:
    """A callback that never returns of itself."""

    def callback(channel: Any, packet: Any) -> None:
        entered.set()
        Flag().wait()

    return callback


def test_close_ends_in_time_although_a_callback_hangs(networks: Networks) -> None:
    meeting, entered = meet(networks), Flag()
    removed = record(meeting.bob.peer_removed)
    meeting.bob.handlers["pure_message"] = hanging(entered)
    meeting.to_bob.send(text("hang"))
    assert entered.wait(5)
    with gevent.Timeout(5):
        meeting.to_alice.close(timeout=0.2)
    assert meeting.to_alice.state is ChannelState.CLOSED
    assert [reason for _, reason in removed.calls] == [Reason.CLOSED]
    # The leak check of this test sees that the greenlet of the callback ends as well.


def test_a_peer_that_is_cut_off_while_its_callback_hangs_costs_nothing_for_long(
    networks: Networks, assembly_of: AssemblyOf
) -> None:
    brisk = config(dead_after=0.3, heartbeat_interval=0.2, close_timeout=0.2, session_ttl=0)
    meeting, entered = meet(networks, config=brisk), Flag()
    meeting.bob.handlers["pure_message"] = hanging(entered)
    meeting.alice.routines["liveness"].stop()
    meeting.to_bob.send(text("hang"))
    assert entered.wait(5)
    assert meeting.to_alice.wait_closed(5)
    assert meeting.to_alice.reason is Reason.TIMEOUT
    wait_until(lambda: not assembly_of(meeting.bob).switch.greenlets, what="the end of the greenlet")


def test_a_goodbye_that_is_no_utf8_ends_one_channel_quietly(
    networks: Networks, parts_of: PartsOf, caplog: pytest.LogCaptureFixture
) -> None:
    meeting = meet(networks)
    broken = pb.DisconnectPacket(message="??").SerializeToString().replace(b"??", b"\xff\xfe")
    link = parts_of(meeting.to_bob).link
    link.outbox.put(bytes([len(broken) + 3]) + b"\x9a\x01" + bytes([len(broken)]), broken)
    assert meeting.to_alice.wait_closed(5)
    assert meeting.to_alice.reason is Reason.BAD_PACKET
    assert "Traceback" not in caplog.text


def test_a_goodbye_may_say_anything(networks: Networks) -> None:
    meeting = meet(networks)
    meeting.to_alice.close(message="half a \udcff", retry_after=1e12)
    assert meeting.to_bob.wait_closed(5)
    assert (meeting.to_bob.reason, meeting.to_bob.reason_text) == (Reason.CLOSED, "half a \\udcff")


def test_a_listener_that_hangs_keeps_nobody_else_from_living(networks: Networks) -> None:
    brisk = config(dead_after=0.4, heartbeat_interval=0.1, session_ttl=0)
    hub = networks(config=brisk)
    mute, lively = networks(config=brisk), networks(config=brisk)
    go_on = Flag()
    hub.peer_removed.add(lambda channel, reason: go_on.wait())
    channels = [node.connect(hub.addresses[0]) for node in (mute, lively)]
    mute.routines["liveness"].stop()
    assert channels[0].wait_closed(5)
    wait_until(lambda: channels[1].last_received > channels[0].last_received + 0.6, what="heartbeats after that")
    assert channels[1].ping(timeout=5) > 0
    go_on.set()


def test_an_interrupted_connect_leaves_no_channel_that_nobody_reads(networks: Networks) -> None:
    alice, bob = networks(config=config()), networks(config=config())
    alice.peer_added.add(stay)
    with suppress(gevent.Timeout), gevent.Timeout(0.5):
        alice.connect(bob.addresses[0])
    channel = alice.channel_to(bob.identifier)
    assert channel is not None
    assert channel.ping(timeout=5) > 0


def test_an_interrupted_stop_goes_on_and_comes_to_its_end(networks: Networks) -> None:
    meeting, entered = meet(networks), Flag()
    meeting.bob.handlers["pure_message"] = hanging(entered)
    meeting.to_bob.send(text("hang"))
    assert entered.wait(5)
    with suppress(gevent.Timeout), gevent.Timeout(0.1):
        meeting.bob.stop(timeout=0.5)
    assert meeting.bob.running
    assert meeting.bob.wait(5)
    assert meeting.bob.active_peer_channels == []


def test_a_policy_changes_trust_on_open_channels_at_once(networks: Networks) -> None:
    meeting = meet(networks)
    changed = record(meeting.bob.trust_changed)
    meeting.bob.policy = IncomingPeerTrustPolicy(trusted_identifiers=frozenset({meeting.alice.identifier}))
    assert meeting.to_alice.trusted
    meeting.bob.policy = IncomingPeerTrustPolicy()
    assert not meeting.to_alice.trusted
    assert len(changed) == 2


def test_connect_to_a_peer_whose_channel_is_just_closing_makes_a_new_one(networks: Networks) -> None:
    meeting = meet(networks)
    gevent.spawn(meeting.to_bob.close)
    wait_until(lambda: meeting.to_bob.state is not ChannelState.OPEN)
    again = meeting.alice.connect(meeting.bob.addresses[0])
    assert again is not meeting.to_bob
    assert again.ping(timeout=5) > 0


def test_nothing_can_be_spawned_on_a_closed_channel(networks: Networks) -> None:
    meeting = meet(networks)
    meeting.to_bob.close()
    with pytest.raises(ChannelClosedError):
        meeting.to_bob.spawn(print)


def test_a_socket_that_cannot_be_taken_over_does_not_stop_the_listener(
    networks: Networks, assembly_of: AssemblyOf, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    alice, bob = networks(config=config()), networks(config=config())
    refuse = Flag()

    def admits(peer: Any) -> Any:
        if not refuse.is_set():
            refuse.set()
            raise RuntimeError("a broken policy")
        return IncomingPeerTrustPolicy().admits(peer)

    monkeypatch.setattr(assembly_of(bob).switch, "admits_address", admits)
    channel = alice.connect(bob.addresses[0], timeout=5)
    assert channel.ping(timeout=5) > 0
    assert "could not be taken over" in caplog.text


def test_addresses_that_are_none_are_not_kept_as_hints(networks: Networks) -> None:
    policy = IncomingPeerTrustPolicy(allow_enhanced_packet_exchange=True)
    meeting = meet(networks, bob={"policy": policy})
    said = ["192.0.2.1:4000", "\x1b[2J:1", "x" * 60_000, "[2001:db8::1]:4000"]
    meeting.to_bob.send(pb.IdentifierPacket(listen_addresses=said))
    meeting.to_bob.ping()
    assert meeting.to_alice.peer.listen_addresses == ("192.0.2.1:4000", "[2001:db8::1]:4000")
