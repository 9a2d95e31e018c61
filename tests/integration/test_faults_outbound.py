"""Dialling those who are not there, not who they should be, or not able to speak."""

from __future__ import annotations

import socket as standard_socket
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import pytest
from gevent import socket, ssl

from peernet import Identity, PeerAddress, PeerNetwork, Reason
from peernet.errors import (
    ConfigurationError,
    ConnectError,
    ConnectTimeout,
    IdentityMismatchError,
    RefusedByPeerError,
    RefusedByPolicyError,
    SelfConnectionError,
)
from peernet.v1 import packet_pb2 as pb
from tests.integration import attackers
from tests.integration.attackers import Attacker, Credentials, serving
from tests.integration.meetings import Networks, config, node_in_use
from tests.support import known, record, scaled, stay, wait_until


@pytest.fixture(params=[False, True], ids=["tls", "plain"])
def node(networks: Networks, request: pytest.FixtureRequest) -> Iterator[PeerNetwork]:
    """A node that serves an honest peer while it dials others. It tries once and gives up soon."""
    with node_in_use(networks, options={"insecure": request.param}, connect_attempts=1, connect_timeout=5) as node:
        yield node
        assert len(node.active_peer_channels) == 1


@pytest.fixture
def tls_node(networks: Networks) -> Iterator[PeerNetwork]:
    """As ``node``, with TLS in any case."""
    with node_in_use(networks, connect_attempts=1, connect_timeout=5) as node:
        yield node
        assert len(node.active_peer_channels) == 1


Handle = Callable[[Attacker], None]


def _answer_with(*packets: pb.Packet, after_hello: bool = True) -> Handle:
    def answer(attacker: Attacker) -> None:
        if after_hello:
            assert known(attacker.receive()).HasField("hello")
        for packet in packets:
            attacker.send_frame(packet.SerializeToString())
        attacker.receive_all()

    return answer


def _hello(**changes: object) -> pb.Packet:
    fields: dict[str, Any] = {"protocol_min": 1, "protocol_max": 1, "network_name": "test", "identifier": "a" * 52}
    return pb.Packet(hello=pb.HelloPacket(**(fields | changes)))


def _disconnect(name: str, **fields: Any) -> pb.Packet:
    reason = pb.DisconnectReason.Value(f"DISCONNECT_REASON_{name}")
    return pb.Packet(disconnect=pb.DisconnectPacket(reason=reason, **fields))


# Nobody there.


def test_a_closed_port_says_that_nobody_listens(node: PeerNetwork) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    with pytest.raises(ConnectError, match=f"cannot reach 127.0.0.1:{port}: nobody listens there; check the port"):
        node.connect(f"127.0.0.1:{port}")


def test_a_name_that_nobody_knows_is_a_connect_error(node: PeerNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*args: object, **options: object) -> None:
        raise standard_socket.gaierror(standard_socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(type(gevent.get_hub().resolver), "getaddrinfo", unknown)
    with pytest.raises(ConnectError, match=r"cannot reach no-such-host\.invalid:1: Name or service not known"):
        node.connect("no-such-host.invalid:1")


def test_who_accepts_and_stays_silent_is_a_timeout(node: PeerNetwork) -> None:
    with (
        serving(stay, plain=True) as address,
        pytest.raises(ConnectTimeout, match="in time"),
    ):
        node.connect(address, timeout=0.2)


def test_who_is_silent_after_tls_is_a_timeout(tls_node: PeerNetwork) -> None:
    with serving(stay) as address, pytest.raises(ConnectTimeout, match="in time"):
        tls_node.connect(address, timeout=0.3)


def test_a_backlog_that_is_full_is_a_timeout(node: PeerNetwork) -> None:
    """Nobody accepts, so the system itself does not answer any more."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen(0)
        where = sock.getsockname()
        fillers = [socket.socket() for _ in range(3)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(where)
        with pytest.raises(ConnectTimeout):
            node.connect("{}:{}".format(*where), timeout=0.2)
        for filler in fillers:
            filler.close()


def test_the_time_to_connect_is_that_of_the_configuration_if_none_is_given(networks: Networks) -> None:
    node = networks(config=config(connect_timeout=0.1))
    with serving(stay, plain=True) as address, pytest.raises(ConnectTimeout):
        node.connect(address)


def test_a_dial_that_is_killed_leaves_nothing(node: PeerNetwork) -> None:
    with serving(stay, plain=True) as address:
        dialling = gevent.spawn(node.connect, address)
        gevent.sleep(0.01)
        dialling.kill()


# Not who it should be.


def test_who_is_not_the_peer_that_the_address_names_is_refused_before_anything_is_said(tls_node: PeerNetwork) -> None:
    heard = []
    wanted = Identity.generate().identifier
    with serving(lambda attacker: heard.extend(attacker.receive_all())) as address:
        with pytest.raises(IdentityMismatchError, match=f"the address names {wanted}, but .{{52}} answered"):
            tls_node.connect(f"peer://{wanted}@{address}")
        gevent.sleep(0)
    assert heard == []


def test_two_real_nodes_that_swapped_their_addresses_are_noticed(networks: Networks) -> None:
    alice, bob, carol = networks(), networks(), networks()
    where_carol_is = PeerAddress.parse(carol.addresses[0]).endpoint
    with pytest.raises(IdentityMismatchError, match=carol.identifier):
        alice.connect(f"peer://{bob.identifier}@{where_carol_is}")
    wait_until(lambda: carol.counters["handshake_failed"] == 1)
    assert carol.active_peer_channels == alice.active_peer_channels == []


def test_without_tls_the_claim_is_compared_with_the_address(networks: Networks) -> None:
    alice, bob = networks(insecure=True), networks(insecure=True)
    somebody = Identity.generate().identifier
    where = PeerAddress.parse(bob.addresses[0]).endpoint
    with pytest.raises(IdentityMismatchError):
        alice.connect(f"peer://{somebody}@{where}")
    assert alice.active_peer_channels == []
    assert alice.connect(f"peer://{bob.identifier}@{where}").ping() > 0


def test_who_claims_another_identifier_than_the_certificate_proves_is_refused(tls_node: PeerNetwork) -> None:
    with (
        serving(_answer_with(_hello(identifier="b" * 52))) as address,
        pytest.raises(RefusedByPolicyError, match="origin_mismatch"),
    ):
        tls_node.connect(address)


# Not able to speak.


@pytest.mark.parametrize(
    ("packets", "message"),
    [
        pytest.param([pb.Packet(pure_message=pb.PureMessagePacket(message="hi"))], "hello_sent", id="a message"),
        pytest.param([pb.Packet()], "no body", id="no body"),
        pytest.param([_hello(agent="x" * 5_000)], "limit is 4096", id="a hello that is too big"),
    ],
)
def test_who_answers_something_else_than_a_hello_is_no_peer(
    node: PeerNetwork, packets: list[pb.Packet], message: str
) -> None:
    with serving(_answer_with(*packets), plain=node.insecure) as address, pytest.raises(ConnectError, match=message):
        node.connect(address)


@pytest.mark.parametrize(
    ("changes", "rule"),
    [({"network_name": "other"}, "wrong_network"), ({"protocol_min": 5, "protocol_max": 6}, "wrong_version")],
)
def test_a_listener_whose_hello_does_not_fit_is_refused_and_told(
    node: PeerNetwork, changes: dict[str, object], rule: str
) -> None:
    told: list[str | None] = []

    def answer(attacker: Attacker) -> None:
        attacker.receive()
        attacker.send_hello(**changes)
        told.append(attacker.farewell())

    with serving(answer, plain=node.insecure) as address:
        with pytest.raises(RefusedByPolicyError) as caught:
            node.connect(address)
        assert caught.value.rule == rule
        wait_until(lambda: told == [rule])


@pytest.mark.parametrize(
    "garbage", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\xff" * 64, b"220 mail.example.org ESMTP\r\n"]
)
def test_a_server_of_another_kind_is_no_peer(tls_node: PeerNetwork, garbage: bytes) -> None:
    def answer(attacker: Attacker) -> None:
        attacker.send_bytes(garbage)
        stay()

    with serving(answer, plain=True) as address, pytest.raises(ConnectError, match="TLS handshake failed"):
        tls_node.connect(address)


@pytest.mark.parametrize("leave", [Attacker.leave, Attacker.vanish])
def test_who_hangs_up_in_the_handshake_is_a_connect_error(node: PeerNetwork, leave: Handle) -> None:
    def answer(attacker: Attacker) -> None:
        attacker.receive()
        leave(attacker)

    with serving(answer, plain=node.insecure) as address, pytest.raises(ConnectError, match="no connection to"):
        node.connect(address)


def test_a_secure_node_and_an_insecure_one_do_not_understand_each_other(networks: Networks) -> None:
    brisk = config(connect_attempts=1, connect_timeout=1, handshake_timeout=0.3)
    secure, insecure = networks(config=brisk), networks(config=brisk, insecure=True)
    with pytest.raises(ConnectError, match="does not speak TLS: it is not peernet, or runs with --insecure"):
        secure.connect(PeerAddress.parse(insecure.addresses[0]).endpoint)
    with pytest.raises(ConnectError, match=r"TLS.*leave out --insecure"):
        insecure.connect(PeerAddress.parse(secure.addresses[0]).endpoint)


FOREIGN = {
    "web server": (b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", "speaks HTTP, and is not peernet"),
    "Python's web server": (b"<!DOCTYPE HTML>\n<html lang='en'>\n" + b"x" * 500, "speaks HTTP, and is not peernet"),
    "SSH": (b"SSH-2.0-OpenSSH_9.6\r\n", "speaks SSH, and is not peernet"),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_what_was_met_instead_of_a_peer_is_named(node: PeerNetwork, kind: str) -> None:
    greeting, name = FOREIGN[kind]

    def answer(attacker: Attacker) -> None:
        attacker.send_bytes(greeting)
        stay(0.1)

    with serving(answer, plain=True) as address, pytest.raises(ConnectError, match=name):
        node.connect(address)


def test_a_web_server_behind_tls_is_named(tls_node: PeerNetwork) -> None:
    def answer(attacker: Attacker) -> None:
        attacker.send_bytes(FOREIGN["web server"][0])
        stay(0.1)

    with (
        serving(answer, credentials=Credentials.p256()) as address,
        pytest.raises(ConnectError, match="speaks HTTP, and is not peernet"),
    ):
        tls_node.connect(address)


@pytest.mark.parametrize("answer_of_tls", [b"\x15\x03\x01\x00\x02\x02\x46", b""], ids=["an alert", "nothing"])
def test_without_tls_a_server_that_expects_it_is_named(networks: Networks, answer_of_tls: bytes) -> None:
    def answer(attacker: Attacker) -> None:
        attacker.send_bytes(answer_of_tls)
        attacker.leave()

    node = networks(insecure=True, config=config(connect_attempts=1))
    with serving(answer, plain=True) as address, pytest.raises(ConnectError, match=r"TLS.*leave out --insecure"):
        node.connect(address)


def test_a_node_with_a_copy_of_the_key_is_named(networks: Networks) -> None:
    key = Identity.generate()
    original, copy = networks(identity=key), networks(identity=key, config=config(connect_attempts=1))
    with pytest.raises((SelfConnectionError, RefusedByPeerError), match="same key"):
        copy.connect(PeerAddress.parse(original.addresses[0]).endpoint)


def test_a_listener_with_an_rsa_key_is_refused(tls_node: PeerNetwork) -> None:
    with (
        serving(_answer_with(_hello()), credentials=Credentials.rsa()) as address,
        pytest.raises(ConnectError, match="TLS handshake failed"),
    ):
        tls_node.connect(address)


def test_a_listener_with_a_p256_key_is_welcome(networks: Networks) -> None:
    node, credentials = networks(), Credentials.p256()
    with serving(_answer_with(_hello(identifier="")), credentials=credentials) as address:
        channel = node.connect(address)
        assert channel.peer.identifier == credentials.identifier
        assert channel.peer.proven
        channel.close(timeout=0)


def test_a_listener_that_knows_only_tls_1_2_is_refused(tls_node: PeerNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    def old(credentials: Credentials) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        credentials.load_into(context)
        return context

    monkeypatch.setattr(attackers, "server_context", old)
    with (
        serving(_answer_with(_hello()), credentials=Credentials.p256()) as address,
        pytest.raises(ConnectError, match="TLS handshake failed"),
    ):
        tls_node.connect(address)


# A peer that says no, and when to try again.


def test_a_refusal_tells_the_reason_and_when_to_come_back(node: PeerNetwork) -> None:
    refusal = _disconnect("NOT_ALLOWED", message="members\x1b[31m only", retry_after_ms=2_500, do_not_redial=True)
    with (
        serving(_answer_with(refusal), plain=node.insecure) as address,
        pytest.raises(RefusedByPeerError, match=r"allowlist. \(members\\x1b\[31m only\)") as caught,
    ):
        node.connect(address)
    assert caught.value.reason is Reason.NOT_ALLOWED
    assert caught.value.retry_after == 2.5
    assert caught.value.do_not_redial


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [("one", "two"), ("tes", "test"), ("test", "test ")],
)
def test_two_real_nodes_of_different_networks_part_with_the_reason(networks: Networks, ours: str, theirs: str) -> None:
    alice, bob = networks(network_name=ours), networks(network_name=theirs)
    with pytest.raises(RefusedByPeerError, match="compare their network names") as caught:
        alice.connect(bob.addresses[0])
    assert caught.value.reason is Reason.WRONG_NETWORK
    assert bob.counters["wrong_network"] == 1


class _Moody:
    """A server that behaves differently each time, in the given order."""

    def __init__(self, *moods: Handle) -> None:
        self.moods = list(moods)
        self.asked = 0

    def __call__(self, attacker: Attacker) -> None:
        mood = self.moods[self.asked]
        self.asked += 1
        mood(attacker)


def test_failures_that_may_pass_are_tried_again(networks: Networks) -> None:
    node = networks(config=config(connect_attempts=4))
    server = _Moody(
        Attacker.vanish, _answer_with(_disconnect("BUSY")), Attacker.leave, _answer_with(_hello(identifier=""))
    )
    with serving(server) as address:
        channel = node.connect(address)
        channel.close(timeout=0)
    assert server.asked == 4


def test_no_more_attempts_are_made_than_asked_for(networks: Networks) -> None:
    node = networks(config=config(connect_attempts=2))
    server = _Moody(*[Attacker.leave] * 9)
    with serving(server) as address:
        for attempts, made in ((None, 2), (1, 3), (3, 6)):
            with pytest.raises(ConnectError):
                node.connect(address, attempts=attempts)
            assert server.asked == made


@pytest.mark.parametrize(
    "refusal", [_disconnect("BLOCKED"), _disconnect("WRONG_NETWORK"), _disconnect("BUSY", do_not_redial=True)]
)
def test_failures_that_will_not_pass_are_not_tried_again(networks: Networks, refusal: pb.Packet) -> None:
    node = networks(config=config(connect_attempts=5))
    server = _Moody(*[_answer_with(refusal)] * 5)
    with serving(server) as address, pytest.raises(RefusedByPeerError):
        node.connect(address)
    assert server.asked == 1


def test_a_busy_peer_is_not_asked_again_before_it_wants_to_be(networks: Networks) -> None:
    node = networks(config=config(connect_attempts=5))
    server = _Moody(*[_answer_with(_disconnect("BUSY", retry_after_ms=3_600_000))] * 5)
    with serving(server) as address, gevent.Timeout(scaled(5)), pytest.raises(RefusedByPeerError) as caught:
        node.connect(address, timeout=60)
    assert caught.value.reason is Reason.BUSY
    assert server.asked == 1


def test_dialling_needs_a_network_that_runs() -> None:
    with pytest.raises(ConfigurationError, match=r"call start\(\) first"):
        PeerNetwork().connect("127.0.0.1:1")


def test_a_failed_dial_adds_and_removes_nobody(node: PeerNetwork) -> None:
    added, removed = record(node.peer_added), record(node.peer_removed)
    with serving(_answer_with(_disconnect("BUSY")), plain=node.insecure) as address, pytest.raises(ConnectError):
        node.connect(address)
    assert not added
    assert not removed
    assert len(node.known_peers) == 1


@pytest.mark.parametrize("pinned", [True, False])
def test_a_port_at_which_nobody_listens_is_reported_at_once(networks: Networks, pinned: bool) -> None:
    other = networks()
    (address,) = other.addresses
    other.stop()
    node = networks(config=config(backoff_base=60.0, backoff_cap=60.0, connect_timeout=600.0))
    with gevent.Timeout(scaled(5)), pytest.raises(ConnectError, match="nobody listens there; check the port"):
        node.connect(address if pinned else address.split("@")[1])


def test_a_port_at_which_somebody_listens_a_moment_later_is_reached_by_more_attempts(networks: Networks) -> None:
    other = networks()
    (address,) = other.addresses
    other.stop()
    port = address.rpartition(":")[2]
    node = networks(config=config(backoff_base=0.1, backoff_cap=0.1))
    late = gevent.spawn_later(0.3, networks, listen=[f"127.0.0.1:{port}"], identity=other.identity)
    assert node.connect(address, attempts=100).identifier == other.identifier
    late.get(timeout=scaled(5))
