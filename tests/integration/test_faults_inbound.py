"""Strangers who get the handshake wrong, and an honest peer who does not notice."""

from __future__ import annotations

import ssl as standard_ssl
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
from gevent import ssl

from peernet import ChannelState, PeerNetwork, Reason
from peernet.v1 import packet_pb2 as pb
from tests.integration import attackers
from tests.integration.attackers import Attacker, Credentials, dial
from tests.integration.meetings import Networks, node_in_use
from tests.support import Recorder, known, wait_until

HANDSHAKE_TIMEOUT = 0.3


@pytest.fixture(params=[False, True], ids=["tls", "plain"])
def node(networks: Networks, request: pytest.FixtureRequest) -> Iterator[PeerNetwork]:
    """A node that serves an honest peer all the time."""
    with node_in_use(networks, options={"insecure": request.param}, handshake_timeout=HANDSHAKE_TIMEOUT) as node:
        yield node


@pytest.fixture
def tls_node(networks: Networks) -> Iterator[PeerNetwork]:
    """As ``node``, with TLS in any case."""
    with node_in_use(networks, handshake_timeout=HANDSHAKE_TIMEOUT) as node:
        yield node


def _stranger(node: PeerNetwork, credentials: Credentials | None = None) -> Attacker:
    return dial(node.addresses[0], plain=node.insecure, credentials=credentials)


def _counts(node: PeerNetwork, reason: str, number: int = 1) -> None:
    wait_until(lambda: node.counters[reason] >= number, what=f"{reason} in {node.counters}")
    assert node.counters[reason] == number
    assert len(node.active_peer_channels) == 1  # the honest peer's


# Hellos.


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        pytest.param({"network_name": "other"}, "wrong_network", id="another network"),
        pytest.param({"network_name": ""}, "wrong_network", id="no network"),
        pytest.param({"network_name": "TEST"}, "wrong_network", id="another case"),
        pytest.param({"protocol_min": 2, "protocol_max": 9}, "wrong_version", id="newer versions"),
        pytest.param({"protocol_min": 0, "protocol_max": 0}, "wrong_version", id="no version"),
        pytest.param({"protocol_min": 2, "protocol_max": 1}, "wrong_version", id="an empty range"),
        pytest.param({"protocol_min": 2, "network_name": "other"}, "wrong_version", id="version before network"),
        pytest.param({"agent": "x" * 4096}, "frame_too_big", id="too much to say"),
    ],
)
def test_a_hello_that_does_not_fit_is_answered_with_the_reason(
    node: PeerNetwork, changes: dict[str, object], reason: str
) -> None:
    stranger = _stranger(node)
    stranger.send_hello(**changes)
    assert stranger.farewell() == reason
    _counts(node, reason)
    stranger.leave()


@pytest.mark.parametrize("identifier", ["", "nobody", "A" * 52, "a" * 51, "a" * 53])
def test_without_tls_a_hello_needs_an_identifier(networks: Networks, identifier: str) -> None:
    with node_in_use(networks, options={"insecure": True}) as node:
        stranger = _stranger(node)
        stranger.send_hello(identifier=identifier)
        assert stranger.farewell() == "bad_packet"
        _counts(node, "bad_packet")
        stranger.leave()


def test_over_tls_a_hello_needs_no_identifier(tls_node: PeerNetwork) -> None:
    stranger = _stranger(tls_node)
    assert stranger.greet(identifier="").network_name == "test"
    wait_until(lambda: tls_node.channel_to(stranger.credentials.identifier))
    stranger.leave()


def test_what_the_node_says_in_its_hello_is_what_the_specification_promises(node: PeerNetwork) -> None:
    stranger = _stranger(node)
    hello = stranger.greet()
    assert (hello.protocol_min, hello.protocol_max, hello.network_name) == (1, 1, "test")
    assert hello.agent.startswith("peernet/")
    assert hello.max_frame == 1024 * 1024
    assert hello.heartbeat_interval_ms == 15_000
    assert hello.session_id != 0
    assert hello.peer_session_id == hello.last_sequence_received == hello.last_acknowledgement_received == 0
    assert hello.identifier in ("", node.identifier)
    assert node.addresses[0].endswith(hello.listen_addresses[0])
    host, port = stranger.sock.getsockname()
    assert hello.observed_address == f"{host}:{port}"
    stranger.leave()


def test_a_hello_from_a_later_version_with_fields_unknown_here_is_welcome(node: PeerNetwork) -> None:
    stranger = _stranger(node)
    hello = pb.HelloPacket(
        protocol_min=1,
        protocol_max=7,
        network_name="test",
        capabilities=["time-travel"],
        identifier=stranger.credentials.identifier,
    )
    content = hello.SerializeToString() + b"\xa2\x06\x03new"  # a field 100
    stranger.send_frame(b"\x38\x01" + b"\x82\x01" + attackers.varint(len(content)) + content)  # and a field 7
    assert known(stranger.receive()).HasField("hello")
    stranger.leave()


def test_a_hello_may_come_byte_by_byte(node: PeerNetwork) -> None:
    stranger = _stranger(node)
    hello = pb.HelloPacket(
        protocol_min=1, protocol_max=1, network_name="test", identifier=stranger.credentials.identifier
    )
    content = pb.Packet(hello=hello).SerializeToString()
    for byte in attackers.varint(len(content)) + content:
        stranger.send_bytes(bytes([byte]))
    assert known(stranger.receive()).HasField("hello")
    stranger.leave()


def test_packets_may_follow_the_hello_without_waiting_for_the_answer(node: PeerNetwork) -> None:
    stranger = _stranger(node)
    stranger.send_hello()
    stranger.say("in a hurry")
    assert known(stranger.receive()).HasField("hello")
    assert known(stranger.receive()).pure_message.message == "in a hurry"
    stranger.leave()


# Something else than a hello.


@pytest.mark.parametrize(
    ("first", "reason"),
    [
        pytest.param({"pure_message": pb.PureMessagePacket(message="hi")}, "unexpected_packet", id="a message"),
        pytest.param({"heartbeat": pb.HeartbeatPacket()}, "unexpected_packet", id="a heartbeat"),
        pytest.param({"acknowledge": pb.AcknowledgePacket()}, "unexpected_packet", id="an acknowledge"),
        pytest.param({}, "bad_packet", id="no body"),
    ],
)
def test_a_packet_before_hello_is_an_error(node: PeerNetwork, first: dict[str, object], reason: str) -> None:
    stranger = _stranger(node)
    stranger.send(**first)
    assert stranger.farewell() == reason
    _counts(node, reason)
    stranger.leave()


def test_a_stranger_may_leave_with_a_goodbye_instead_of_a_hello(node: PeerNetwork) -> None:
    stranger = _stranger(node)
    stranger.send(disconnect=pb.DisconnectPacket(reason=pb.DISCONNECT_REASON_SHUTDOWN))
    assert stranger.is_hung_up_on()
    _counts(node, "shutdown")
    stranger.leave()


@pytest.mark.parametrize(
    ("garbage", "reason"),
    [
        pytest.param(b"\xff" * 100, "frame_too_big", id="an endless length"),
        pytest.param(b"\x81\x20" + b"x" * 100, "frame_too_big", id="one byte over the limit"),
        pytest.param(b"\xff\xff\xff\xff\x0f", "frame_too_big", id="4 GiB"),
        pytest.param(b"\x05hello", "bad_packet", id="a text"),
        pytest.param(b"\x00", "bad_packet", id="an empty frame"),
        pytest.param(b"\x04\x82\x01\x7f\x08", "bad_packet", id="a hello that is longer than its frame"),
        pytest.param(b"\x05\x82\x01\x02\xff\xff", "bad_packet", id="a hello of garbage"),
    ],
)
def test_garbage_instead_of_a_hello_is_an_error(node: PeerNetwork, garbage: bytes, reason: str) -> None:
    stranger = _stranger(node)
    stranger.send_bytes(garbage)
    assert stranger.farewell() == reason
    _counts(node, reason)
    stranger.leave()


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n",
        b"\x16\x03\x01\xff\xff" + b"\x00" * 100,
        bytes(range(256)) * 64,
        b"SSH-2.0-OpenSSH_9.7\r\n",
    ],
)
def test_garbage_instead_of_tls_is_an_error(tls_node: PeerNetwork, garbage: bytes) -> None:
    stranger = Attacker(attackers.connect(tls_node.addresses[0]), Credentials.ed25519())
    stranger.send_bytes(garbage)
    stranger.sock.shutdown(1)
    with suppress(Exception):  # an alert may come, which is no frame
        stranger.receive_all()
    _counts(tls_node, "handshake_failed")
    stranger.leave()


# Leaving and staying silent.


@pytest.mark.parametrize("leave", [Attacker.leave, Attacker.vanish])
@pytest.mark.parametrize("said", [b"", b"\x50\x82\x01\x4dhalf a hello"])
def test_a_stranger_who_leaves_in_the_handshake_is_forgotten(
    node: PeerNetwork, leave: Callable[[Attacker], None], said: bytes
) -> None:
    stranger = _stranger(node)
    stranger.send_bytes(said)
    leave(stranger)
    _counts(node, "handshake_failed")


def test_a_scanner_that_only_connects_is_forgotten(node: PeerNetwork) -> None:
    for leave in (Attacker.leave, Attacker.vanish):
        leave(Attacker(attackers.connect(node.addresses[0]), Credentials.ed25519()))
    _counts(node, "handshake_failed", 2)


def test_a_silent_connection_is_closed_at_the_handshake_timeout(node: PeerNetwork) -> None:
    strangers = [
        Attacker(attackers.connect(node.addresses[0]), Credentials.ed25519()),  # silent before TLS
        _stranger(node),  # silent after it
    ]
    for stranger in strangers:
        assert not [packet for packet in stranger.receive_all() if packet.HasField("hello")]
        stranger.leave()
    _counts(node, "handshake_timeout", 2)


def test_the_handshake_timeout_is_absolute(node: PeerNetwork) -> None:
    """One byte now and then does not buy more time."""
    stranger = _stranger(node)
    trickle = iter(b"\xff\x0f" + bytes(4000))

    def is_over() -> bool:
        with suppress(OSError):
            stranger.send_bytes(bytes([next(trickle)]))
        return node.counters["handshake_timeout"] == 1

    wait_until(is_over)
    stranger.leave()


def test_a_stranger_who_does_not_read_the_answer_is_closed_at_the_handshake_timeout(tls_node: PeerNetwork) -> None:
    """TLS 1.3 lets a client stop in the middle: the server waits for its certificate."""
    context = attackers.client_context(Credentials.ed25519())
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    half = standard_ssl.SSLContext.wrap_bio(context, incoming, outgoing)
    with suppress(standard_ssl.SSLWantReadError):
        half.do_handshake()
    stranger = Attacker(attackers.connect(tls_node.addresses[0]), Credentials.ed25519())
    stranger.send_bytes(outgoing.read())
    _counts(tls_node, "handshake_timeout")
    stranger.leave()


# Certificates.


def test_a_p256_key_is_as_good_as_ed25519(tls_node: PeerNetwork) -> None:
    stranger = _stranger(tls_node, Credentials.p256())
    stranger.greet()
    channel = wait_until(lambda: tls_node.channel_to(stranger.credentials.identifier))
    assert channel.peer.proven
    stranger.leave()


def test_an_rsa_key_is_refused(tls_node: PeerNetwork) -> None:
    _is_refused_by_tls(tls_node, attackers.client_context(Credentials.rsa()))


def test_a_client_without_a_certificate_is_refused(tls_node: PeerNetwork) -> None:
    _is_refused_by_tls(tls_node, attackers.client_context(None))


def test_tls_1_2_is_refused(tls_node: PeerNetwork) -> None:
    context = attackers.client_context(Credentials.p256())
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
    _is_refused_by_tls(tls_node, context)


def test_a_client_that_refuses_the_nodes_certificate_is_forgotten(tls_node: PeerNetwork) -> None:
    with attackers.connect(tls_node.addresses[0]) as sock, pytest.raises(ssl.SSLError):
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).wrap_socket(sock, server_hostname="example.org")
    _counts(tls_node, "handshake_failed")


def _is_refused_by_tls(node: PeerNetwork, context: ssl.SSLContext) -> None:
    sock = attackers.connect(node.addresses[0])
    try:
        sock = context.wrap_socket(sock)  # a TLS 1.3 client thinks it is done before the server has judged it
        attacker = Attacker(sock, Credentials.ed25519())
        attacker.send_hello()
        assert attacker.is_hung_up_on()
    except (ssl.SSLError, ConnectionError):
        pass  # it was told in the handshake already
    finally:
        sock.close()
    _counts(node, "handshake_failed")


# Room.


def test_who_finds_no_room_is_told_to_come_back_later(networks: Networks) -> None:
    with node_in_use(networks, max_inbound=1) as node:
        stranger = _stranger(node)
        stranger.send_hello()
        answer = known(stranger.receive())
        assert answer.disconnect.reason == pb.DISCONNECT_REASON_BUSY
        assert answer.disconnect.retry_after_ms == 5_000
        assert stranger.receive() is None
        _counts(node, "busy")
        stranger.leave()


def test_room_that_becomes_free_can_be_used_again(networks: Networks) -> None:
    with node_in_use(networks, max_inbound=2) as node:
        for _ in range(3):
            stranger = _stranger(node)
            stranger.greet()
            wait_until(lambda: len(node.active_peer_channels) == 2)
            stranger.leave()
            wait_until(lambda: len(node.active_peer_channels) == 1)


def test_more_handshakes_than_allowed_are_refused_and_the_limit_is_not_used_up_for_ever(networks: Networks) -> None:
    with node_in_use(networks, max_handshakes=3, handshake_timeout=30, handshake_grace=30) as node:
        silent = [_silent(node) for _ in range(3)]
        late = _silent(node)
        assert late.is_hung_up_on()
        assert node.counters["refused_too_many_strangers"] == 1
        for stranger in silent:
            stranger.leave()
        _counts(node, "handshake_failed", 3)
        guest = _stranger(node)
        guest.greet()
        for stranger in (late, guest):
            stranger.leave()


def test_a_hundred_silent_strangers_hold_up_nobody(networks: Networks) -> None:
    with node_in_use(networks, max_handshakes=128, early_drop_from=128, handshake_timeout=60) as node:
        strangers = [_silent(node) for _ in range(100)]
        guest = networks(listen=[])
        heard = guest.handlers["pure_message"] = Recorder()
        channel = guest.connect(node.addresses[0])
        channel.send(pb.PureMessagePacket(message="hello"))
        heard.wait_for(1)
        for stranger in strangers:
            stranger.vanish()
        wait_until(lambda: node.counters["handshake_failed"] == 100)


def _silent(node: PeerNetwork) -> Attacker:
    return Attacker(attackers.connect(node.addresses[0]), Credentials.ed25519())


def _leave_a_session(node: PeerNetwork, credentials: Credentials) -> str:
    """Begin a session with a key, and hang up."""
    stranger = _stranger(node, credentials)
    stranger.greet(session_id=7)
    wait_until(lambda: node.channel_to(credentials.identifier))
    stranger.leave()
    wait_until(lambda: _state(node, credentials) is ChannelState.RECONNECTING)
    return credentials.identifier


def _state(node: PeerNetwork, credentials: Credentials) -> ChannelState | None:
    channel = node.channel_to(credentials.identifier)
    return None if channel is None else channel.state


def test_sessions_of_those_who_have_left_give_way_oldest_first_and_the_trusted_last(networks: Networks) -> None:
    with node_in_use(networks, max_inbound=6) as node:
        keys = [Credentials.ed25519() for _ in range(5)]
        left = [_leave_a_session(node, key) for key in keys]
        friend = known(node.channel_to(left[0]))
        friend.trust()
        guests = []
        for gone in (left[1], left[2], left[3], left[4], left[0]):
            guests.append(_stranger(node))
            guests[-1].greet(session_id=7)
            wait_until(lambda: _state(node, guests[-1].credentials) is ChannelState.OPEN)
            assert node.channel_to(gone) is None
            assert len(node.active_peer_channels) == 6
        assert friend.reason is Reason.EXPIRED
        late = _stranger(node)
        late.send_hello(session_id=7)
        assert late.farewell() == "busy"
        for guest in [*guests, late]:
            guest.leave()


def test_a_session_that_waits_is_resumed_while_there_is_room(networks: Networks) -> None:
    with node_in_use(networks, max_inbound=2) as node:
        credentials = Credentials.ed25519()
        stranger = _stranger(node, credentials)
        session = stranger.greet(session_id=7).session_id
        wait_until(lambda: node.channel_to(credentials.identifier))
        stranger.leave()
        wait_until(lambda: _state(node, credentials) is ChannelState.RECONNECTING)
        again = _stranger(node, credentials)
        assert again.greet(session_id=7, peer_session_id=session).peer_session_id == 7
        wait_until(lambda: _state(node, credentials) is ChannelState.OPEN)
        again.leave()
