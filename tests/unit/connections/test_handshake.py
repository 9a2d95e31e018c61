from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import gevent
import pytest
from google.protobuf.message import Message

from peernet.config import KIB, NetworkConfig
from peernet.connections.handshake import PROTOCOL_VERSION, Handshake, HandshakeResult, shake_hands
from peernet.connections.refusal import Refusal
from peernet.errors import (
    IdentityMismatchError,
    RefusedByPeerError,
    RemoteProtocolError,
    TransportError,
)
from peernet.peers.peer import GenericPeer
from peernet.reasons import Reason
from peernet.transport.memory import MemoryTransport, memory_pair
from peernet.transport.tls import TlsContext
from peernet.v1 import packet_pb2 as pb
from peernet.wire.connection import ConnectionState
from peernet.wire.disconnect import refusal_packet
from peernet.wire.framing import FrameDecoder, encode_varint
from peernet.wire.packets import decode, encode_frame, peek
from tests.support import scaled, wait_until
from tests.unit.sample_peers import ALICE, BOB, CAROL
from tests.unit.transport import pairs


def hello(**changes: Any) -> pb.HelloPacket:
    """What a well-behaved peer says."""
    values: dict[str, Any] = {"protocol_min": 1, "protocol_max": 1, "network_name": "test", "agent": "other/1.0"}
    return pb.HelloPacket(**(values | changes))


def welcome(peer: GenericPeer) -> None:
    """A gate that is open."""


def refuse(peer: GenericPeer) -> None:
    raise Refusal(Reason.BLOCKED, rule="blocked_identifiers", retry_after=1.5)


@dataclass
class Stage:
    """One side in its handshake as ``role``; the test plays the other one over ``far``."""

    role: str
    far: MemoryTransport
    near: MemoryTransport
    decoder: FrameDecoder = field(default_factory=lambda: FrameDecoder(100_000))
    running: Any = None

    def begin(
        self,
        *,
        pinned: str | None = None,
        admit: Callable[[GenericPeer], None] = welcome,
        config: NetworkConfig | None = None,
        own: pb.HelloPacket | None = None,
    ) -> None:
        handshake = Handshake(self.near, config or NetworkConfig(), own or hello(agent="me/1.0"))
        if self.role == "dialler":
            self.running = gevent.spawn(handshake.as_dialler, pinned, admit)
        else:
            self.running = gevent.spawn(handshake.as_listener, admit)

    def say(self, *what: bytes | Message) -> None:
        for one in what:
            pairs.send_all(self.far, one if isinstance(one, bytes) else encode_frame(one))

    def hear(self) -> pb.Packet:
        """The next packet of the side under test."""
        with gevent.Timeout(scaled(5)):
            while (frame := next(self.decoder.frames(), None)) is None:
                data = self.far.recv()
                assert data, "the stream ended"
                self.decoder.receive_data(data)
        return decode(frame)

    def result(self) -> HandshakeResult:
        introduced: HandshakeResult = self.running.get(timeout=scaled(5))
        return introduced

    def goodbye(self) -> pb.DisconnectPacket:
        """How the side under test ends the connection; nothing but its hello may come before."""
        packet = self.hear()
        if packet.WhichOneof("body") == "hello":
            assert self.role == "dialler"
            packet = self.hear()
        assert packet.WhichOneof("body") == "disconnect"
        assert pairs.receive_rest(self.far) == b""
        return packet.disconnect


def stage_for(role: str, *, identifier: str | None = BOB) -> Stage:
    """A stage on which the other side has proven to be ``identifier``, or nothing."""
    dialling, listening = memory_pair(dialler=identifier, listener=identifier)
    return Stage(role, listening, dialling) if role == "dialler" else Stage(role, dialling, listening)


@pytest.fixture(params=["dialler", "listener"])
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    made = stage_for(request.param)
    yield made
    made.far.close()
    made.near.close()


@pytest.fixture(params=["dialler", "listener"])
def insecure(request: pytest.FixtureRequest) -> Iterator[Stage]:
    made = stage_for(request.param, identifier=None)
    yield made
    made.far.close()
    made.near.close()


# When all goes well.


def test_two_sides_introduce_each_other() -> None:
    dialling, listening = memory_pair(dialler=ALICE, listener=BOB)
    config = NetworkConfig()
    listener = gevent.spawn(Handshake(listening, config, hello(agent="bob/1.0")).as_listener, welcome)
    dialler = gevent.spawn(Handshake(dialling, config, hello(agent="alice/1.0")).as_dialler, BOB, welcome)
    bob, alice = dialler.get(timeout=scaled(5)), listener.get(timeout=scaled(5))
    assert (bob.peer.identifier, bob.peer.agent, bob.peer.proven) == (BOB, "bob/1.0", True)
    assert (alice.peer.identifier, alice.peer.agent, alice.peer.proven) == (ALICE, "alice/1.0", True)
    assert bob.transport is dialling
    for introduced in (bob, alice):
        assert introduced.connection.state is ConnectionState.OPEN
        assert introduced.connection.decoder.max_frame == config.max_frame


def test_the_dialler_speaks_first_and_the_listener_waits(stage: Stage) -> None:
    stage.begin()
    if stage.role == "dialler":
        assert stage.hear().hello.agent == "me/1.0"
        stage.say(hello())
    else:
        gevent.sleep(0.01)
        assert stage.far.unread() == 0
        stage.say(hello())
        assert stage.hear().hello.agent == "me/1.0"
    assert stage.result().hello == hello()


@pytest.mark.parametrize("size", [1, 3])
def test_a_hello_may_come_in_pieces(stage: Stage, size: int) -> None:
    stage.begin()
    frame = encode_frame(hello())
    for position in range(0, len(frame), size):
        stage.say(frame[position : position + size])
        gevent.sleep(0)
    assert stage.result().peer.identifier == BOB


def test_what_comes_with_the_hello_is_kept_for_the_channel(stage: Stage) -> None:
    stage.begin()
    stage.say(encode_frame(hello()) + encode_frame(pb.PureMessagePacket(message="already")) + b"\x05par")
    decoder = stage.result().connection.decoder
    assert [decode(frame).pure_message.message for frame in decoder.frames()] == ["already"]
    assert decoder.buffered == 4


def test_what_a_peer_says_of_itself_is_cleaned_and_bounded(stage: Stage) -> None:
    stage.begin()
    stage.say(hello(agent="\x1b[31m" + "x" * 1000, listen_addresses=[f"192.0.2.1:{port}" for port in range(100)]))
    peer = stage.result().peer
    assert peer.agent.startswith("\\x1b[31mxxx")
    assert len(peer.agent) < 150
    assert len(peer.listen_addresses) == 8


def test_a_hello_of_the_longest_allowed_size_is_read(stage: Stage) -> None:
    config = NetworkConfig(max_handshake_frame=16 * KIB)
    body = hello()
    body.agent += "x" * (16 * KIB - len(encode_frame(body)) - 10)
    stage.begin(config=config)
    stage.say(body)
    assert stage.result().hello == body


def test_no_more_is_read_than_a_hello_may_have(stage: Stage) -> None:
    stage.begin()
    stage.say(hello(), bytes(100 * KIB))
    introduced = stage.result()
    assert introduced.connection.decoder.buffered <= 5 + 4 * KIB
    assert introduced.transport.unread() >= 96 * KIB


@pytest.mark.parametrize("versions", [(1, 1), (0, 1), (1, 9), (0, 2**32 - 1)])
def test_a_range_that_contains_our_version_will_do(stage: Stage, versions: tuple[int, int]) -> None:
    assert PROTOCOL_VERSION == 1
    stage.begin()
    stage.say(hello(protocol_min=versions[0], protocol_max=versions[1]))
    assert stage.result().peer.identifier == BOB


def test_unknown_fields_and_capabilities_in_a_hello_are_ignored(stage: Stage) -> None:
    content = hello(capabilities=["time travel"]).SerializeToString() + b"\xf8\x07\x01"
    packet = b"\x82\x01" + encode_varint(len(content)) + content
    stage.begin()
    stage.say(encode_varint(len(packet)) + packet)
    assert stage.result().peer.identifier == BOB


# When a hello does not fit.

MISFITS: dict[str, tuple[dict[str, Any], Reason, str]] = {
    "only older versions": (
        {"protocol_min": 0, "protocol_max": 0},
        Reason.WRONG_VERSION,
        "version 1, the other 0 to 0",
    ),
    "only newer versions": (
        {"protocol_min": 2, "protocol_max": 3},
        Reason.WRONG_VERSION,
        "version 1, the other 2 to 3",
    ),
    "no range at all": ({"protocol_min": 3, "protocol_max": 0}, Reason.WRONG_VERSION, "version 1"),
    "another network": ({"network_name": "prod"}, Reason.WRONG_NETWORK, "different networks"),
    "no network": ({"network_name": ""}, Reason.WRONG_NETWORK, "different networks"),
    "the same network in capitals": ({"network_name": "TEST"}, Reason.WRONG_NETWORK, "different networks"),
    "another identifier": ({"identifier": CAROL}, Reason.ORIGIN_MISMATCH, "another identifier than the certificate"),
    "a version and a network that do not fit": (
        {"protocol_max": 0, "network_name": "prod"},
        Reason.WRONG_VERSION,
        "version 1",
    ),
}


@pytest.mark.parametrize(("changes", "reason", "text"), MISFITS.values(), ids=MISFITS)
def test_a_hello_that_does_not_fit_is_refused_and_told_why(
    stage: Stage, changes: dict[str, Any], reason: Reason, text: str
) -> None:
    stage.begin()
    stage.say(hello(**changes))
    goodbye = stage.goodbye()
    assert goodbye.reason == reason.number
    assert text in goodbye.message
    with pytest.raises(Refusal, match=text) as caught:
        stage.result()
    assert (caught.value.reason, caught.value.rule) == (reason, reason.value)


def test_a_hello_may_repeat_the_proven_identifier(stage: Stage) -> None:
    stage.begin()
    stage.say(hello(identifier=BOB))
    assert stage.result().peer.identifier == BOB


def test_the_gate_is_asked_last_and_its_refusal_is_told(stage: Stage) -> None:
    stage.begin(admit=refuse)
    stage.say(hello())
    goodbye = stage.goodbye()
    assert (goodbye.reason, goodbye.retry_after_ms) == (Reason.BLOCKED.number, 1500)
    assert goodbye.message == Reason.BLOCKED.sentence
    with pytest.raises(Refusal) as caught:
        stage.result()
    assert (caught.value.identifier, caught.value.rule) == (BOB, "blocked_identifiers")


def test_the_gate_is_not_asked_about_a_hello_that_does_not_fit(stage: Stage) -> None:
    asked: list[GenericPeer] = []
    stage.begin(admit=asked.append)
    stage.say(hello(network_name="prod"))
    with pytest.raises(Refusal):
        stage.result()
    assert asked == []


def test_a_dialler_asks_before_it_says_a_word_to_whom_tls_has_named() -> None:
    asked: list[GenericPeer] = []
    near, far = memory_pair(listener=BOB)
    dialling = gevent.spawn(Handshake(near, NetworkConfig(), hello()).as_dialler, None, welcome, asked.append)
    with gevent.Timeout(scaled(5)):
        far.recv()
    assert [(peer.identifier, peer.agent) for peer in asked] == [(BOB, "")]
    far.close()
    with pytest.raises(TransportError):
        dialling.get()


def test_a_peer_that_reaches_itself_is_refused_by_the_gate(stage: Stage) -> None:
    def admit(peer: GenericPeer) -> None:
        if peer.identifier == BOB:
            raise Refusal(Reason.SELF_CONNECTION)

    stage.begin(admit=admit)
    stage.say(hello())
    assert stage.goodbye().reason == Reason.SELF_CONNECTION.number
    with pytest.raises(Refusal, match="The node reached itself"):
        stage.result()


# When something else than a hello comes.

HELLO = encode_frame(hello())


def with_a_body(content: bytes) -> bytes:
    """A frame around anything."""
    return encode_varint(len(content)) + content


BREACHES: dict[str, tuple[bytes, Reason]] = {
    "a message": (encode_frame(pb.PureMessagePacket(message="hi")), Reason.UNEXPECTED_PACKET),
    "a message before the hello": (encode_frame(pb.PureMessagePacket()) + HELLO, Reason.UNEXPECTED_PACKET),
    "a heartbeat": (encode_frame(pb.HeartbeatPacket()), Reason.UNEXPECTED_PACKET),
    "data": (encode_frame(pb.DataTransmissionPacket(data=b"x")), Reason.UNEXPECTED_PACKET),
    "a kind from the future": (with_a_body(b"\xc2\x01\x00"), Reason.UNEXPECTED_PACKET),
    "an empty frame": (b"\x00", Reason.BAD_PACKET),
    "two bodies": (with_a_body(b"\x82\x01\x00\x82\x01\x00"), Reason.BAD_PACKET),
    "a hello that cannot be parsed": (with_a_body(b"\x82\x01\x03\x1a\x01\xff"), Reason.BAD_PACKET),
    "a hello that leaves no room for control packets": (encode_frame(hello(max_frame=4095)), Reason.BAD_PACKET),
    "HTTP": (b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n" + b"x" * 100, Reason.BAD_PACKET),
    "an oversized hello": (encode_frame(hello(agent="x" * 5000)), Reason.FRAME_TOO_BIG),
    "an oversized frame's length only": (encode_varint(4097), Reason.FRAME_TOO_BIG),
    "a gigantic frame's length": (b"\xff\xff\xff\xff\x0f", Reason.FRAME_TOO_BIG),
    "a length without end": (b"\xff" * 20, Reason.FRAME_TOO_BIG),
}


@pytest.mark.parametrize("cut", [1, 100_000], ids=["byte by byte", "whole"])
@pytest.mark.parametrize(("content", "reason"), BREACHES.values(), ids=BREACHES)
def test_anything_but_a_hello_is_refused_and_told_why(stage: Stage, content: bytes, reason: Reason, cut: int) -> None:
    stage.begin()
    for position in range(0, len(content), cut):
        if not stage.running.dead:
            stage.say(content[position : position + cut])
            gevent.sleep(0)
    goodbye = stage.goodbye()
    assert goodbye.reason == reason.number
    assert 0 < len(goodbye.message) <= 128
    with pytest.raises(RemoteProtocolError) as caught:
        stage.result()
    assert caught.value.reason == reason


def test_random_garbage_never_gets_past_the_handshake(stage: Stage) -> None:
    stage.begin()
    stage.say(b"\x7f" + os.urandom(127))
    with pytest.raises(RemoteProtocolError):
        stage.result()


def test_a_second_hello_breaks_the_protocol(stage: Stage) -> None:
    stage.begin()
    stage.say(hello(), hello())
    connection = stage.result().connection
    (frame,) = connection.decoder.frames()
    with pytest.raises(RemoteProtocolError, match=r"hello .*open") as caught:
        connection.received(peek(frame), len(frame))
    assert caught.value.reason == Reason.UNEXPECTED_PACKET


def test_a_disconnect_instead_of_a_hello_is_the_peers_refusal(stage: Stage) -> None:
    stage.begin()
    stage.say(
        pb.DisconnectPacket(
            reason=pb.DISCONNECT_REASON_BUSY, message="no \x1b room", retry_after_ms=5000, do_not_redial=True
        )
    )
    with pytest.raises(RefusedByPeerError, match=r"no room for another connection.*\(no \\x1b room\)") as caught:
        stage.result()
    error = caught.value
    assert (error.reason, error.retry_after, error.do_not_redial, error.identifier) == (Reason.BUSY, 5.0, True, BOB)


def test_a_refusal_that_only_says_its_reason_in_words_is_not_told_twice(stage: Stage) -> None:
    stage.begin()
    stage.say(refusal_packet(Reason.BUSY))
    with pytest.raises(RefusedByPeerError, match=r"refused the connection: The node has no room [^(]*$"):
        stage.result()


@pytest.mark.parametrize("number", [0, 999])
def test_a_refusal_without_a_known_reason_is_unspecified(stage: Stage, number: int) -> None:
    stage.begin()
    stage.say(pb.DisconnectPacket(reason=number))  # type: ignore[arg-type]
    with pytest.raises(RefusedByPeerError, match=r"The peer gave no reason\.$") as caught:
        stage.result()
    assert caught.value.reason == Reason.UNSPECIFIED


@pytest.mark.parametrize("content", [b"", HELLO[:1], HELLO[:-1]], ids=["at once", "in the length", "in the hello"])
def test_a_peer_that_leaves_during_the_handshake_is_a_transport_error(stage: Stage, content: bytes) -> None:
    stage.begin()
    stage.say(content)
    stage.far.finish_writing()
    with pytest.raises(TransportError, match="hung up during the handshake"):
        stage.result()


def test_a_peer_that_is_gone_when_it_is_refused_changes_nothing(stage: Stage) -> None:
    def break_and_refuse(peer: GenericPeer) -> None:
        stage.near.abort()
        refuse(peer)

    stage.begin(admit=break_and_refuse)
    stage.say(hello())
    with pytest.raises(Refusal):
        stage.result()


def test_a_peer_that_reads_slowly_is_waited_for(stage: Stage) -> None:
    filled = pairs.fill(stage.near)
    stage.begin()
    stage.say(hello())
    gevent.sleep(0.01)
    assert not stage.running.dead
    pairs.receive(stage.far, filled)
    assert stage.hear().hello.agent == "me/1.0"
    assert stage.result().peer.identifier == BOB


def test_a_peer_that_says_nothing_is_told_when_its_time_is_over(stage: Stage) -> None:
    handshake = Handshake(stage.near, NetworkConfig(), hello())

    def bounded() -> None:
        with gevent.Timeout(0.01):
            if stage.role == "dialler":
                handshake.as_dialler(None, welcome)
            else:
                handshake.as_listener(welcome)

    stage.running = gevent.spawn(bounded)
    goodbye = stage.goodbye()
    assert goodbye.reason == Reason.HANDSHAKE_TIMEOUT.number
    assert goodbye.message == Reason.HANDSHAKE_TIMEOUT.sentence
    with pytest.raises(gevent.Timeout):
        stage.running.get(timeout=scaled(5))


def from_origin(identifier: str, body: pb.HelloPacket) -> bytes:
    """A frame with a hello whose envelope names an origin."""
    return encode_frame(body, pb.Packet(source_origin_identifier=identifier).SerializeToString())


@pytest.mark.parametrize("identifier", [CAROL, "me", "\x1b[31m"])
def test_a_hello_from_another_origin_is_refused(stage: Stage, identifier: str) -> None:
    stage.begin()
    stage.say(from_origin(identifier, hello()))
    assert stage.goodbye().reason == Reason.ORIGIN_MISMATCH.number
    with pytest.raises(RemoteProtocolError, match="claims to be from") as caught:
        stage.result()
    assert caught.value.reason == Reason.ORIGIN_MISMATCH
    assert str(caught.value).isprintable()


def test_a_hello_may_name_its_sender_as_origin(stage: Stage) -> None:
    stage.begin()
    stage.say(from_origin(BOB, hello()))
    assert stage.result().peer.identifier == BOB


def test_without_tls_the_origin_is_compared_with_the_claim(insecure: Stage) -> None:
    insecure.begin()
    insecure.say(from_origin(BOB, hello(identifier=CAROL)))
    assert insecure.goodbye().reason == Reason.ORIGIN_MISMATCH.number


# Pins.


def test_a_dialler_says_nothing_to_somebody_else_than_it_wanted() -> None:
    stage = stage_for("dialler")
    stage.begin(pinned=CAROL)
    with pytest.raises(IdentityMismatchError, match=f"names {CAROL}, but {BOB} answered"):
        stage.result()
    assert stage.far.unread() == 0


def test_a_dialler_is_content_with_whom_it_wanted() -> None:
    stage = stage_for("dialler")
    stage.begin(pinned=BOB)
    stage.say(hello())
    assert stage.result().peer.identifier == BOB


# Without TLS.


def test_without_tls_a_peer_is_whom_it_claims_to_be_and_unproven(insecure: Stage) -> None:
    insecure.begin()
    insecure.say(hello(identifier=CAROL))
    peer = insecure.result().peer
    assert (peer.identifier, peer.proven) == (CAROL, False)


@pytest.mark.parametrize("identifier", ["", "me", CAROL.upper(), CAROL + "a"])
def test_without_tls_a_hello_must_carry_an_identifier(insecure: Stage, identifier: str) -> None:
    insecure.begin()
    insecure.say(hello(identifier=identifier))
    assert insecure.goodbye().reason == Reason.BAD_PACKET.number
    with pytest.raises(Refusal, match="without TLS a hello must carry an identifier"):
        insecure.result()


@pytest.mark.parametrize(("pinned", "fits"), [(CAROL, True), (BOB, False)])
def test_without_tls_the_claim_is_compared_with_the_pin(pinned: str, fits: bool) -> None:
    stage = stage_for("dialler", identifier=None)
    stage.begin(pinned=pinned)
    stage.say(hello(identifier=CAROL))
    if fits:
        assert stage.result().peer.identifier == CAROL
        return
    with pytest.raises(IdentityMismatchError, match=f"names {BOB}, but {CAROL} answered"):
        stage.result()


# The whole of it, over sockets.


@pytest.mark.parametrize("secure", [True, False], ids=["TLS", "plain"])
def test_introduce_does_the_whole_handshake_over_a_socket(secure: bool) -> None:
    one, other = pairs.tcp_pair()
    own = [hello(identifier="" if secure else identity.identifier) for identity in (pairs.ALICE, pairs.BOB)]
    contexts = [TlsContext(identity) if secure else None for identity in (pairs.ALICE, pairs.BOB)]
    config = NetworkConfig()
    dialling = gevent.spawn(
        shake_hands, one, contexts[0], config, own[0], welcome, dialled=True, pinned=pairs.BOB.identifier
    )
    alice = shake_hands(other, contexts[1], config, own[1], welcome, dialled=False)
    bob = dialling.get(timeout=scaled(5))
    assert (alice.peer.identifier, bob.peer.identifier) == (pairs.ALICE.identifier, pairs.BOB.identifier)
    assert alice.peer.proven is bob.peer.proven is secure
    assert alice.peer.endpoint.startswith("127.0.0.1:")
    for introduced in (alice, bob):
        introduced.transport.close()


def test_somebody_with_another_key_than_the_pinned_one_hears_no_hello() -> None:
    one, other = pairs.tcp_pair()
    config = NetworkConfig()
    dialling = gevent.spawn(
        shake_hands, one, TlsContext(pairs.ALICE), config, hello(), welcome, dialled=True, pinned=CAROL
    )
    listening = TlsContext(pairs.BOB).wrap(other, dialled=False)
    with pytest.raises(IdentityMismatchError):
        dialling.get(timeout=scaled(5))
    one.abort()
    assert pairs.receive_rest(listening) == b""
    one.close()
    listening.close()
    wait_until(lambda: one.closed)
