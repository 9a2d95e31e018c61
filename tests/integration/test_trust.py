"""Two gates: who is admitted, and what is taken from whom."""

from __future__ import annotations

import tracemalloc
from functools import partial
from typing import Any

import gevent
import pytest
from gevent.event import Event as Flag

from peernet import Identity, IncomingPeerTrustPolicy, PacketHandleProtocol, PeerChannel, PeerNetwork, Reason
from peernet.errors import ConfigurationError, ConnectError, RefusedByPeerError, RefusedByPolicyError, UnprovenPeerError
from peernet.v1 import packet_pb2 as pb
from peernet.v1.packet_pb2 import (
    CollectionSharePacket,
    DataTransmissionPacket,
    IdentifierPacket,
    Packet,
    PureMessagePacket,
)
from tests.integration import attackers
from tests.integration.meetings import Networks, config, meet, text
from tests.support import PartsOf, Recorder, known, record, stay, wait_until

tls_and_plain = pytest.mark.parametrize("insecure", [False, True], ids=["tls", "plain"])
DATA = DataTransmissionPacket(data=b"important")


def test_data_is_refused_from_the_untrusted_taken_from_the_trusted_and_refused_again_after_that(
    networks: Networks,
) -> None:
    meeting = meet(networks)
    heard = meeting.bob.handlers["data_transmission"] = Recorder()
    refused = record(meeting.bob.packet_refused)
    changed = record(meeting.bob.trust_changed)

    meeting.to_bob.send(DATA)
    (channel, kind, decision), *_ = refused.wait_for(1)
    assert (channel, kind) == (meeting.to_alice, "data_transmission")
    assert (decision.allowed, decision.rule) == (False, "allow_enhanced_packet_exchange")
    assert not heard

    meeting.to_alice.trust()
    meeting.to_bob.send(DATA)
    assert heard.wait_for(1)[0][1].data_transmission == DATA
    assert meeting.bob.trusted_peer_channels == [meeting.to_alice]

    meeting.to_alice.untrust()
    meeting.to_bob.send(DATA)
    refused.wait_for(2)
    assert len(heard) == 1
    assert changed.calls == [(meeting.to_alice,), (meeting.to_alice,)]
    assert meeting.to_alice.counters["refused"] == meeting.bob.counters["refused"] == 2


@tls_and_plain
def test_a_refused_packet_costs_nothing_but_itself(networks: Networks, insecure: bool) -> None:
    meeting = meet(networks, insecure=insecure)
    heard = meeting.bob.handlers["pure_message"] = Recorder()
    received = record(meeting.bob.packet_received)
    for body in (DATA, IdentifierPacket(message="me"), CollectionSharePacket(), text("after all")):
        meeting.to_bob.send(body)
    heard.wait_for(1)
    assert [packet.WhichOneof("body") for packet in received.packets] == ["pure_message"]
    assert meeting.to_alice.counters["refused"] == 3
    assert meeting.to_bob.ping() > 0


def test_a_refused_packet_is_refused_before_it_is_parsed(networks: Networks) -> None:
    node = networks()
    attacker = attackers.dial(node.addresses[0])
    attacker.greet()
    # A data_transmission whose body is not a DataTransmissionPacket at all.
    attacker.send_frame(b"\xba\x01\x03\xff\xff\xff")
    attacker.send(heartbeat=pb.HeartbeatPacket(), request_id=7)
    assert known(attacker.receive()).reply_to == 7
    assert node.counters["refused"] == 1
    attacker.leave()


def test_text_can_be_refused_too(networks: Networks) -> None:
    meeting = meet(networks, bob={"policy": IncomingPeerTrustPolicy(allow_default_communication=False)})
    heard = meeting.bob.handlers["pure_message"] = Recorder()
    refused = record(meeting.bob.packet_refused)
    meeting.to_bob.send(text("anybody?"))
    (_, kind, decision), *_ = refused.wait_for(1)
    assert (kind, decision.rule) == ("pure_message", "allow_default_communication")
    assert not heard
    meeting.to_alice.trust()
    meeting.to_bob.send(text("now?"))
    heard.wait_for(1)


def test_a_changed_policy_counts_for_open_channels_at_once(networks: Networks) -> None:
    meeting = meet(networks)
    heard = meeting.bob.handlers["data_transmission"] = Recorder()
    meeting.bob.policy = IncomingPeerTrustPolicy(allow_enhanced_packet_exchange=True)
    meeting.to_bob.send(DATA)
    heard.wait_for(1)
    meeting.bob.policy = IncomingPeerTrustPolicy()
    meeting.to_bob.send(DATA)
    wait_until(lambda: meeting.to_alice.counters["refused"] == 1)


def test_a_peer_on_the_list_of_trusted_identifiers_opens_trusted_whoever_dials(networks: Networks) -> None:
    identity = Identity.generate()
    trusting = IncomingPeerTrustPolicy(trusted_identifiers=frozenset({identity.identifier}))
    friend = networks(identity=identity)
    dialled_by, dialling = networks(policy=trusting), networks(policy=trusting)
    friend.connect(dialled_by.addresses[0])
    dialling.connect(friend.addresses[0])
    wait_until(lambda: dialled_by.active_peer_channels and dialling.active_peer_channels)
    assert dialled_by.active_peer_channels[0].trusted
    assert dialling.active_peer_channels[0].trusted
    assert not any(channel.trusted for channel in friend.active_peer_channels)


def test_trust_is_per_direction_and_remembered_for_the_next_connection(networks: Networks) -> None:
    meeting = meet(networks)
    meeting.bob.trust(meeting.alice.identifier)
    assert meeting.to_alice.trusted
    assert not meeting.to_bob.trusted
    meeting.to_bob.close()
    wait_until(lambda: not meeting.bob.active_peer_channels)
    meeting.alice.connect(meeting.bob.addresses[0])
    assert wait_until(lambda: meeting.bob.trusted_peer_channels)
    meeting.bob.untrust(meeting.alice.identifier)
    assert meeting.bob.trusted_peer_channels == []
    assert meeting.bob.policy.trusted_identifiers == frozenset()


def test_trust_given_to_a_channel_ends_with_it(networks: Networks) -> None:
    meeting = meet(networks)
    meeting.to_alice.trust()
    meeting.to_bob.close()
    wait_until(lambda: not meeting.bob.active_peer_channels)
    meeting.alice.connect(meeting.bob.addresses[0])
    assert not wait_until(lambda: meeting.bob.active_peer_channels)[0].trusted


def test_trust_outlives_a_connection_that_is_resumed_with_the_same_key_and_not_the_session(
    networks: Networks, parts_of: PartsOf
) -> None:
    meeting = meet(networks)
    heard = meeting.bob.handlers["data_transmission"] = Recorder()
    meeting.to_alice.trust()
    parts_of(meeting.to_alice).control.detach("cut by the test")
    meeting.to_bob.send(DATA)
    heard.wait_for(1)  # over another connection, whose key is the same
    assert meeting.to_alice.trusted
    meeting.to_bob.close()
    wait_until(lambda: not meeting.bob.active_peer_channels)
    again = meeting.alice.connect(meeting.bob.addresses[0])
    again.send(DATA)
    wait_until(lambda: meeting.bob.counters["refused"] == 1)
    assert len(heard) == 1


def test_a_mere_claim_cannot_be_trusted(networks: Networks) -> None:
    identity = Identity.generate()
    trusting = IncomingPeerTrustPolicy(trusted_identifiers=frozenset({identity.identifier}))
    meeting = meet(networks, alice={"identity": identity}, bob={"policy": trusting}, insecure=True)
    assert not meeting.to_alice.trusted
    with pytest.raises(UnprovenPeerError, match="connect with TLS"):
        meeting.to_alice.trust()
    meeting.bob.trust(identity.identifier)
    assert meeting.bob.trusted_peer_channels == []
    meeting.to_bob.send(DATA)
    wait_until(lambda: meeting.to_alice.counters["refused"] == 1)


def test_a_claim_over_tls_that_the_certificate_does_not_prove_is_refused(networks: Networks) -> None:
    friend = Identity.generate()
    node = networks(policy=IncomingPeerTrustPolicy(trusted_identifiers=frozenset({friend.identifier})))
    impostor = attackers.dial(node.addresses[0])
    impostor.send_hello(identifier=friend.identifier)
    assert impostor.farewell() == "origin_mismatch"
    assert node.active_peer_channels == []
    impostor.leave()


def test_no_packet_changes_who_a_peer_is(networks: Networks) -> None:
    friend, mallory = Identity.generate(), attackers.Credentials.ed25519()
    policy = IncomingPeerTrustPolicy(
        trusted_identifiers=frozenset({friend.identifier}), allow_enhanced_packet_exchange=True
    )
    node = networks(policy=policy)
    attacker = attackers.dial(node.addresses[0], credentials=mallory)
    attacker.greet()
    renaming = IdentifierPacket(message=friend.identifier, listen_addresses=["192.0.2.1:1"])
    attacker.send(identifier=renaming)
    attacker.send(heartbeat=pb.HeartbeatPacket(), request_id=7)
    assert known(attacker.receive()).reply_to == 7
    (channel,) = node.active_peer_channels
    assert channel.peer.listen_addresses == ("192.0.2.1:1",)  # it was handled
    assert (channel.peer.identifier, channel.trusted) == (mallory.identifier, False)
    assert node.channel_to(friend.identifier) is None
    attacker.leave()


def test_a_large_refused_packet_is_neither_parsed_nor_kept(networks: Networks) -> None:
    meeting = meet(networks)
    large = DataTransmissionPacket(data=bytes(900 * 1024))
    received = record(meeting.bob.packet_received)
    tracemalloc.start()
    try:
        for _ in range(8):
            receipt = meeting.to_bob.send(large)
            wait_until(partial(getattr, receipt, "done"))
            assert receipt.reason is Reason.NOT_PERMITTED
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 1_000_000  # of seven million bytes
    assert not received
    assert meeting.to_alice.counters["refused"] == 8


# The gate on who is admitted.


def test_blocking_a_peer_closes_its_channel_and_tells_it(networks: Networks) -> None:
    meeting = meet(networks)
    bystander = networks().connect(meeting.bob.addresses[0])
    removed = record(meeting.bob.peer_removed)
    meeting.bob.policy = meeting.bob.policy.blocking(meeting.alice.identifier)
    assert meeting.to_bob.wait_closed(5)
    assert meeting.to_bob.reason is Reason.BLOCKED
    assert removed.wait_for(1) == [(meeting.to_alice, Reason.BLOCKED)]
    with pytest.raises(RefusedByPeerError) as caught:
        meeting.alice.connect(meeting.bob.addresses[0])
    assert caught.value.reason is Reason.BLOCKED
    assert meeting.bob.counters["blocked"] == 1
    assert bystander.ping() > 0
    meeting.bob.policy = meeting.bob.policy.unblocking(meeting.alice.identifier)
    assert meeting.alice.connect(meeting.bob.addresses[0]).ping() > 0


def test_blocking_a_peer_ends_its_session_even_while_it_has_no_connection(networks: Networks) -> None:
    node, mallory = networks(), attackers.Credentials.ed25519()
    attacker = attackers.dial(node.addresses[0], credentials=mallory)
    session = attacker.greet(session_id=7).session_id
    channel = wait_until(lambda: node.channel_to(mallory.identifier))
    attacker.vanish()
    wait_until(lambda: node.counters["reconnecting"] == 1)
    receipt = channel.send(text("are you there?"))
    node.policy = node.policy.blocking(mallory.identifier)
    assert channel.wait_closed(5)
    assert channel.reason is receipt.reason is Reason.BLOCKED
    again = attackers.dial(node.addresses[0], credentials=mallory)
    again.send_hello(session_id=7, peer_session_id=session)
    assert again.farewell() == "blocked"
    again.leave()


def test_no_packet_of_a_peer_is_taken_once_it_is_blocked(networks: Networks) -> None:
    meeting = meet(networks)
    heard = []

    @meeting.bob.handlers.on("pure_message")
    def block_after_the_third(channel: PeerChannel, packet: Packet) -> None:
        heard.append(packet.pure_message.message)
        if len(heard) == 3:
            meeting.bob.policy = meeting.bob.policy.blocking(channel.peer.identifier)
            gevent.sleep(0)  # the closing happens in a greenlet of its own

    for number in range(100):
        meeting.to_bob.try_send(text(str(number)))
    assert meeting.to_alice.wait_closed(5)
    assert heard == ["0", "1", "2"]


def test_a_blocked_peer_is_not_dialled_either(networks: Networks) -> None:
    bob = networks()
    alice = networks(policy=IncomingPeerTrustPolicy(blocked_identifiers=frozenset({bob.identifier})))
    with pytest.raises(RefusedByPolicyError, match="own rule blocked_identifiers") as caught:
        alice.connect(bob.addresses[0])
    assert caught.value.rule == "blocked_identifiers"
    assert alice.active_peer_channels == []


def test_an_allowlist_admits_nobody_else(networks: Networks) -> None:
    member, stranger = networks(), networks()
    club = networks(policy=IncomingPeerTrustPolicy(allowed_identifiers=frozenset({member.identifier})))
    assert member.connect(club.addresses[0]).ping() > 0
    with pytest.raises(RefusedByPeerError) as caught:
        stranger.connect(club.addresses[0])
    assert caught.value.reason is Reason.NOT_ALLOWED
    club.policy = club.policy.allowing(stranger.identifier)
    assert stranger.connect(club.addresses[0]).ping() > 0
    club.policy = club.policy.disallowing(member.identifier)
    wait_until(lambda: [channel.peer.identifier for channel in club.active_peer_channels] == [stranger.identifier])


def test_an_allowlist_admits_no_mere_claim(networks: Networks) -> None:
    identity = Identity.generate()
    member = networks(identity=identity, insecure=True)
    club = networks(policy=IncomingPeerTrustPolicy(allowed_identifiers=frozenset({identity.identifier})), insecure=True)
    with pytest.raises(RefusedByPeerError) as caught:
        member.connect(club.addresses[0])
    assert caught.value.reason is Reason.NOT_ALLOWED


@pytest.mark.parametrize(
    ("policy", "rule"),
    [
        (IncomingPeerTrustPolicy(blocked_networks=frozenset({"127.0.0.0/8"})), "blocked_networks"),
        (IncomingPeerTrustPolicy(allowed_networks=frozenset({"192.0.2.0/24"})), "allowed_networks"),
    ],
)
def test_an_address_is_refused_before_any_handshake(
    networks: Networks, policy: IncomingPeerTrustPolicy, rule: str
) -> None:
    node = networks(policy=policy)
    attacker = attackers.Attacker(attackers.connect(node.addresses[0]), attackers.Credentials.ed25519())
    assert attacker.is_hung_up_on()  # without having said anything
    assert node.counters[rule] == 1
    assert not node.counters["handshake_failed"]
    attacker.leave()
    with pytest.raises(ConnectError):
        networks(config=config(connect_attempts=1)).connect(node.addresses[0])


def test_blocking_a_network_closes_the_channels_from_it(networks: Networks) -> None:
    meeting = meet(networks)
    meeting.bob.policy = meeting.bob.policy.blocking("127.0.0.1")
    assert meeting.to_bob.wait_closed(5)
    assert meeting.to_bob.reason is Reason.BLOCKED


# The trust protocol.


def test_the_trust_protocol_runs_in_its_own_greenlet_and_may_talk_to_the_peer(networks: Networks) -> None:
    alice, bob = networks(), networks()

    def password(channel: PeerChannel) -> None:
        answered = Flag()

        @channel.handlers.on("pure_message")
        def listen(channel: PeerChannel, packet: Packet) -> None:
            if packet.pure_message.message == "swordfish":
                answered.set()

        channel.send(text("password?"))
        channel.ping()  # would wait for itself in a callback
        if answered.wait(5):
            channel.trust()

    bob.default_trust_protocol = password
    alice.handlers["pure_message"] = lambda channel, packet: channel.send(text("swordfish"))
    alice.connect(bob.addresses[0])
    assert wait_until(lambda: bob.trusted_peer_channels)[0].peer.identifier == alice.identifier


def test_the_policy_can_leave_the_trust_protocol_out(networks: Networks) -> None:
    alice, bob = networks(), networks(policy=IncomingPeerTrustPolicy(run_default_trust_protocol=False))
    bob.default_trust_protocol = asked = Recorder()
    assert alice.connect(bob.addresses[0]).ping() > 0
    assert not asked


async def coroutine(channel: PeerChannel) -> None: ...


@pytest.mark.parametrize("protocol", [coroutine, lambda: None, lambda channel, packet: None, "password"])
def test_a_trust_protocol_that_cannot_be_called_is_refused_where_it_is_set(protocol: Any) -> None:
    network = PeerNetwork()
    with pytest.raises(ConfigurationError, match=r"^the default trust protocol (must be|is called with 1 positional)"):
        network.default_trust_protocol = protocol
    assert network.default_trust_protocol is None


def test_a_trust_protocol_that_raises_leaves_the_peer_untrusted(
    networks: Networks, caplog: pytest.LogCaptureFixture
) -> None:
    alice, bob = networks(), networks()

    def fail(channel: PeerChannel) -> None:
        raise RuntimeError("no idea")

    bob.default_trust_protocol = fail
    assert alice.connect(bob.addresses[0]).ping() > 0
    assert bob.trusted_peer_channels == []
    assert "no idea" in caplog.text


def test_nobody_becomes_trusted_by_what_it_says(networks: Networks) -> None:
    """As in the original, where three texts "Ping from" made anybody trusted."""
    meeting = meet(networks)
    for _ in range(5):
        meeting.to_bob.send(text("Ping from alice"))
    meeting.to_bob.ping()
    assert not meeting.to_alice.trusted


# Callbacks.


def test_the_callbacks_of_a_channel_go_before_those_of_the_network(networks: Networks) -> None:
    bob = networks(handlers=PacketHandleProtocol())
    common = bob.handlers["pure_message"] = Recorder()
    special = Recorder()
    first, second = networks(), networks()
    channels = [network.connect(bob.addresses[0]) for network in (first, second)]
    wait_until(lambda: len(bob.active_peer_channels) == 2)
    known(bob.channel_to(first.identifier)).handlers["pure_message"] = special
    for channel in channels:
        channel.send(text("hello"))
    special.wait_for(1)
    common.wait_for(1)
    assert special.calls[0][0].peer.identifier == first.identifier
    assert common.calls[0][0].peer.identifier == second.identifier
    del known(bob.channel_to(first.identifier)).handlers["pure_message"]
    channels[0].send(text("again"))
    common.wait_for(2)
    assert len(special) == 1


def test_a_kind_that_nobody_handles_is_counted(networks: Networks) -> None:
    meeting = meet(networks)
    meeting.to_alice.trust()
    received = record(meeting.bob.packet_received)
    meeting.to_bob.send(DATA)
    meeting.to_bob.ping()
    assert meeting.to_alice.counters["unhandled"] == meeting.bob.counters["unhandled"] == 1
    assert len(received) == 1  # whoever wants to know everything is told


def test_a_callback_that_raises_is_counted_and_logged_once_and_the_channel_lives(
    networks: Networks, caplog: pytest.LogCaptureFixture
) -> None:
    meeting = meet(networks)
    heard = Recorder()

    @meeting.bob.handlers.on("pure_message")
    def fail_often(channel: PeerChannel, packet: Packet) -> None:
        heard(channel, packet)
        if packet.pure_message.message != "last":
            raise RuntimeError("a broken callback")

    for _ in range(100):
        meeting.to_bob.send(text("hello"))
    meeting.to_bob.send(text("last"))
    heard.wait_for(101)
    assert meeting.to_alice.counters["callback_failed"] == meeting.bob.counters["callback_failed"] == 100
    assert [record.message for record in caplog.records if "callback" in record.message] == [
        f"the callback for pure_message failed (1 so far on {meeting.to_alice!r})"
    ]
    assert "a broken callback" in caplog.text
    assert meeting.to_bob.ping() > 0


def test_a_callback_that_is_killed_ends_its_channel_and_no_other(networks: Networks) -> None:
    meeting = meet(networks)
    bystander = networks().connect(meeting.bob.addresses[0])

    @meeting.bob.handlers.on("pure_message")
    def be_killed(channel: PeerChannel, packet: object) -> None:
        current = gevent.getcurrent()
        gevent.spawn(gevent.kill, current)
        stay()

    meeting.to_bob.send(text("hello"))
    assert meeting.to_bob.wait_closed(5)
    assert bystander.ping() > 0


def test_a_callback_that_only_says_that_it_is_killed_is_a_failure_like_others(networks: Networks) -> None:
    meeting = meet(networks)

    @meeting.bob.handlers.on("pure_message")
    def give_up(channel: PeerChannel, packet: object) -> None:
        raise gevent.GreenletExit

    meeting.to_bob.send(text("hello"))
    assert meeting.to_bob.ping() > 0
    assert meeting.to_alice.counters["callback_failed"] == 1


def test_a_timeout_that_a_callback_lets_through_is_a_failure_like_others(networks: Networks) -> None:
    meeting = meet(networks)

    @meeting.bob.handlers.on("pure_message")
    def wait_too_long(channel: PeerChannel, packet: object) -> None:
        with gevent.Timeout(0.01):
            stay()

    meeting.to_bob.send(text("hello"))
    assert meeting.to_bob.ping() > 0
    assert meeting.to_alice.counters["callback_failed"] == 1


def test_packet_received_is_told_before_the_callback(networks: Networks) -> None:
    meeting = meet(networks)
    story: list[str] = []
    meeting.bob.packet_received.add(lambda channel, packet: story.append("event"))
    meeting.bob.handlers["pure_message"] = lambda channel, packet: story.append("callback")
    meeting.to_bob.send(PureMessagePacket(message="hello"))
    meeting.to_bob.ping()
    assert story == ["event", "callback"]


def test_what_a_peer_says_of_its_addresses_is_kept_as_a_hint_and_bounded(networks: Networks) -> None:
    meeting = meet(networks)
    meeting.to_alice.trust()
    meeting.to_bob.send(IdentifierPacket(listen_addresses=[f"192.0.2.{number}:1" for number in range(50)]))
    meeting.to_bob.ping()
    assert meeting.to_alice.peer.listen_addresses == tuple(f"192.0.2.{number}:1" for number in range(8))
    assert known(meeting.bob.known_peers.get(meeting.alice.identifier)).addresses == []
