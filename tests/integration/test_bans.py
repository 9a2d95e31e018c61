"""Who misbehaves is kept out for a while, and nobody else is."""

from __future__ import annotations

from typing import Any

import pytest

from peernet import Identity, IncomingPeerMode, IncomingPeerTrustPolicy, PeerNetwork, Reason
from peernet.errors import ConnectError, RefusedByPeerError
from peernet.peers.ip_networks import IpNetworks
from peernet.trust import bans
from tests.integration import attackers
from tests.integration.meetings import Networks, config, meet, text, undisturbed
from tests.support import known, record, wait_until

DAY, QUARTER = 86_400.0, 900.0


def strict(networks: Networks, **options: Any) -> PeerNetwork:
    """A node to which its own machine is like any other."""
    node = networks(config=config(), **options)
    node.bans.exempt_networks = IpNetworks([])
    return node


def misbehave(node: PeerNetwork, credentials: attackers.Credentials, *, plain: bool = False) -> None:
    """Get in, and send what is no packet."""
    attacker = attackers.dial(node.addresses[0], plain=plain, credentials=credentials)
    attacker.greet()
    attacker.send_frame(b"\xff")
    assert attacker.farewell() == "bad_packet"
    attacker.leave()


def who(node: PeerNetwork) -> list[str]:
    return [ban.who for ban in node.bans]


def test_a_peer_that_breaks_the_protocol_is_refused_for_a_day_and_nobody_else_is(networks: Networks) -> None:
    node = strict(networks)
    told = record(node.peer_banned)
    mallory = attackers.Credentials.ed25519()
    with undisturbed(networks, node):
        misbehave(node, mallory)
        ban = told.wait_for(1)[0][0]
        assert (ban.who, ban.reason, ban.score, ban.expires - ban.since) == (mallory.identifier, "bad_packet", 100, DAY)
        again = attackers.dial(node.addresses[0], credentials=mallory)
        again.send_hello()
        goodbye = known(again.receive()).disconnect
        assert goodbye.reason == Reason.BANNED.number
        assert 0 < goodbye.retry_after_ms <= DAY * 1000
        again.leave()
        assert node.counters["banned"] == 1
        assert networks().connect(node.addresses[0]).ping() > 0  # another one from the same address
    assert node.bans.unban(mallory.identifier)
    once_more = attackers.dial(node.addresses[0], credentials=mallory)
    once_more.greet()
    once_more.leave()


def test_local_peers_are_disconnected_and_not_banned(networks: Networks) -> None:
    node, mallory = networks(config=config()), attackers.Credentials.ed25519()
    for _ in range(3):
        misbehave(node, mallory)
    wait_until(lambda: node.counters["bad_packet"] == 3)
    assert who(node) == []


@pytest.mark.parametrize("name", ["trusted_identifiers", "allowed_identifiers"])
def test_a_listed_peer_is_disconnected_and_not_banned(networks: Networks, name: str) -> None:
    friend = attackers.Credentials.ed25519()
    node = strict(networks, policy=IncomingPeerTrustPolicy().adding(**{name: friend.identifier}))
    for _ in range(2):
        misbehave(node, friend)
    wait_until(lambda: node.counters["bad_packet"] == 2)
    assert who(node) == []


def test_a_bad_hello_bans_the_one_whom_tls_has_proven_to_say_it(networks: Networks) -> None:
    node = strict(networks)
    mallory, friend = attackers.Credentials.ed25519(), Identity.generate()
    impostor = attackers.dial(node.addresses[0], credentials=mallory)
    impostor.send_hello(identifier=friend.identifier)
    assert impostor.farewell() == "origin_mismatch"
    impostor.leave()
    wait_until(lambda: who(node) == [mallory.identifier])
    assert networks(identity=friend).connect(node.addresses[0]).ping() > 0


def test_a_peer_that_lies_when_it_resumes_a_session_is_banned(networks: Networks) -> None:
    node, mallory = strict(networks), attackers.Credentials.ed25519()
    first = attackers.dial(node.addresses[0], credentials=mallory)
    session = first.greet(session_id=7).session_id
    first.vanish()
    wait_until(lambda: node.counters["reconnecting"] == 1)
    liar = attackers.dial(node.addresses[0], credentials=mallory)
    liar.send_hello(session_id=7, peer_session_id=session, last_sequence_received=1000)
    liar.receive_all()
    liar.leave()
    wait_until(lambda: who(node) == [mallory.identifier])


def test_without_tls_the_address_is_banned_for_less_time_and_nobody_by_name(networks: Networks) -> None:
    node, mallory = strict(networks, insecure=True), attackers.Credentials.ed25519()
    misbehave(node, mallory, plain=True)
    (ban,) = wait_until(lambda: list(node.bans))
    assert (ban.who, round(ban.expires - ban.since)) == ("127.0.0.1", QUARTER)
    refused = attackers.dial(node.addresses[0], plain=True)
    assert refused.is_hung_up_on()  # at the first gate
    refused.leave()
    assert node.counters["banned"] == 1


def test_an_address_that_does_not_speak_tls_is_banned_only_for_going_on_with_it(
    networks: Networks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bans, "ADDRESS_INTERVAL", 0.0)
    node = strict(networks)
    for _ in range(11):  # of ten times ten points a little has worn off by then
        assert who(node) == []
        scanner = attackers.Attacker(attackers.connect(node.addresses[0]), attackers.Credentials.ed25519())
        scanner.send_bytes(b"GET / HTTP/1.0\r\n\r\n")
        scanner.receive_all()
        scanner.leave()
    wait_until(lambda: who(node) == ["127.0.0.1"])
    with pytest.raises(ConnectError):
        networks(config=config(connect_attempts=1)).connect(node.addresses[0])
    assert node.bans.unban("127.0.0.1")
    assert networks().connect(node.addresses[0]).ping() > 0


def test_whoever_only_looks_whether_somebody_listens_is_not_blamed(
    networks: Networks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bans, "ADDRESS_INTERVAL", 0.0)
    node = strict(networks)
    for _ in range(20):
        attackers.connect(node.addresses[0]).close()
    wait_until(lambda: node.counters["handshake_failed"] == 20)
    assert who(node) == []


def test_a_peer_that_this_node_has_dialled_is_not_banned_whoever_dials_next(networks: Networks) -> None:
    node, mallory = strict(networks), attackers.Credentials.ed25519()

    def answer_with_nonsense(attacker: attackers.Attacker) -> None:
        attacker.receive()
        attacker.send_hello()
        attacker.send_frame(b"\xff")
        attacker.receive_all()

    with attackers.serving(answer_with_nonsense, credentials=mallory) as address:
        channel = node.connect(address)
        assert channel.wait_closed(5)
    assert channel.reason is Reason.BAD_PACKET
    for _ in range(2):
        misbehave(node, mallory)
    assert who(node) == []


def test_what_the_operator_bans_is_told_and_gone_and_does_not_come_back(networks: Networks) -> None:
    meeting = meet(networks)
    meeting.bob.bans.ban(meeting.alice.identifier, 60)
    assert meeting.to_bob.wait_closed(5)
    assert (meeting.to_bob.reason, meeting.to_bob.retry_after) == (Reason.BANNED, 60)
    with pytest.raises(RefusedByPeerError) as caught:
        meeting.alice.connect(meeting.bob.addresses[0])
    assert caught.value.reason is Reason.BANNED
    assert 0 < caught.value.retry_after <= 60
    meeting.bob.bans.unban(meeting.alice.identifier)
    assert meeting.alice.connect(meeting.bob.addresses[0]).ping() > 0


def test_a_pending_peer_that_is_banned_is_refused(networks: Networks) -> None:
    queue = IncomingPeerTrustPolicy(incoming_peer_placement=IncomingPeerMode.QUEUE_BASED)
    alice, bob = networks(), networks(policy=queue)
    channel = alice.connect(bob.addresses[0])
    wait_until(lambda: alice.identifier in bob.inbound_connecting_peers)
    bob.bans.ban(alice.identifier)
    assert channel.wait_closed(5)
    assert channel.reason is Reason.BANNED
    assert bob.counters["banned"] == 1


def test_a_peer_that_is_banned_while_it_is_decided_about_is_refused(networks: Networks) -> None:
    alice, bob = networks(), networks()

    @bob.incoming_peer_connection_attempt.add
    def ban_and_accept(attempt: Any) -> None:
        bob.bans.ban(attempt.peer.identifier)
        attempt.accept()

    channel = alice.connect(bob.addresses[0])
    assert channel.wait_closed(5)
    assert channel.reason is Reason.BANNED


def test_a_ban_ends_a_session_that_waits_for_another_connection(networks: Networks) -> None:
    node, mallory = strict(networks), attackers.Credentials.ed25519()
    attacker = attackers.dial(node.addresses[0], credentials=mallory)
    attacker.greet(session_id=7)
    channel = wait_until(lambda: node.channel_to(mallory.identifier))
    attacker.vanish()
    wait_until(lambda: node.counters["reconnecting"] == 1)
    receipt = channel.send(text("are you there?"))
    node.bans.ban(mallory.identifier)
    assert channel.wait_closed(5)
    assert channel.reason is receipt.reason is Reason.BANNED
