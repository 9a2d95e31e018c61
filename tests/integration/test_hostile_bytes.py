"""Bytes made to cost memory or time: what they declare is not reserved, and what they hold is not waited for."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from peernet import IncomingPeerTrustPolicy
from peernet.v1 import packet_pb2 as pb
from peernet.wire.framing import encode_varint
from tests.integration.attackers import Attacker, dial, varint
from tests.integration.meetings import Networks, node_in_use
from tests.support import Parts, PartsOf, Recorder, wait_until

KIB, MIB = 1024, 1024 * 1024
CONTROL = 64 * KIB
OPEN_TO_ALL = IncomingPeerTrustPolicy(allow_enhanced_packet_exchange=True)

# Lengths that nobody follows up with bytes -> how the node takes them, in and before the handshake.
WAITED_FOR = [varint(1), varint(4096), b"\x81\x80\x80\x80\x00"]
TOO_BIG = [varint(4097), varint(2**31), varint(2**32 - 1), varint(2**35 - 1), b"\x80" * 5, b"\xff" * 10]


@contextmanager
def allocations() -> Iterator[list[int]]:
    """The most bytes that Python has held at once beyond what it held before."""
    measured: list[int] = []
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        yield measured
        measured.append(tracemalloc.get_traced_memory()[1] - before)
    finally:
        tracemalloc.stop()


def filled(kind: str, piece: bytes, size: int = CONTROL) -> bytes:
    """A packet of a kind whose body is one piece after the other, of about ``size`` bytes."""
    body = piece * ((size - 8) // len(piece))
    tag = pb.Packet.DESCRIPTOR.fields_by_name[kind].number << 3 | 2
    return encode_varint(tag) + varint(len(body)) + body


def stranger_after(node: object, data: bytes) -> Attacker:
    attacker = dial(node.addresses[0], plain=True)  # type: ignore[attr-defined]
    attacker.send_bytes(data)
    return attacker


def buffered(parts: Parts) -> int:
    """Bytes of a frame that is not complete."""
    return parts.link.connection.decoder.buffered


def guest_of(node: object) -> Attacker:
    attacker = dial(node.addresses[0], plain=True)  # type: ignore[attr-defined]
    attacker.greet()
    return attacker


@pytest.mark.parametrize("length", TOO_BIG, ids=bytes.hex)
def test_a_stranger_who_declares_too_much_is_refused_at_once(networks: Networks, length: bytes) -> None:
    with node_in_use(networks, options={"insecure": True}) as node:
        attacker = stranger_after(node, length)
        assert attacker.farewell() == "frame_too_big"
        attacker.leave()


@pytest.mark.parametrize("length", WAITED_FOR, ids=bytes.hex)
def test_a_stranger_who_declares_what_is_allowed_has_the_time_of_the_handshake(
    networks: Networks, length: bytes
) -> None:
    with node_in_use(networks, options={"insecure": True}, handshake_timeout=0.3) as node:
        attacker = stranger_after(node, length)
        assert attacker.farewell() == "handshake_timeout"
        attacker.leave()


def test_a_stranger_who_declares_nothing_has_sent_a_broken_packet(networks: Networks) -> None:
    with node_in_use(networks, options={"insecure": True}) as node:
        attacker = stranger_after(node, varint(0))
        assert attacker.farewell() == "bad_packet"
        attacker.leave()


def test_fifty_peers_who_declare_the_most_cost_what_they_have_sent(networks: Networks, parts_of: PartsOf) -> None:
    with node_in_use(networks, options={"insecure": True}) as node:
        attackers = [guest_of(node) for _ in range(50)]
        wait_until(lambda: len(node.active_peer_channels) == 51)
        with allocations() as measured:
            for attacker in attackers:
                attacker.send_bytes(varint(MIB) + b"\xa2")
            wait_until(lambda: sum(buffered(parts_of(channel)) == 1 for channel in node.active_peer_channels) == 50)
        for attacker in attackers:
            attacker.leave()
    assert measured[0] < 50 * 33 * KIB  # a first buffer of 16 KiB each, and change


# Packets that are legal, or nearly, and made to be expensive.

EMPTY = {
    "empty peers": filled("collection_share", b"\x0a\x00"),
    "peers of empty addresses": filled("collection_share", b"\x0a\x04\x12\x00\x12\x00"),
    "empty addresses": filled("identifier", b"\x12\x00"),
    "unknown numbers": filled("identifier", b"\x50\x00"),
    "unknown groups": filled("identifier", b"\x53\x54"),
    "as many refusals as may be": filled("acknowledge", b"\x0a\x00", KIB // 2),
}
BROKEN = {
    "envelope fields without end": b"\x38\x00" * (MIB // 2 - 2) + b"\xa2\x01\x00",
    "groups in groups": filled("identifier", b"\x53"),
    "groups in groups that end": filled("identifier", b"\x53" * 20_000 + b"\x54" * 20_000),
    "addresses that are no text": filled("identifier", b"\x12\x01\xff"),
    "refusals without end": filled("acknowledge", b"\x0a\x00"),
}


@pytest.fixture
def guest(networks: Networks) -> Iterator[Attacker]:
    """Of a node that takes every kind of packet, and serves an honest peer all the time."""
    with node_in_use(networks, options={"policy": OPEN_TO_ALL}) as node:
        attacker = dial(node.addresses[0])
        attacker.greet(session_id=1)
        attacker.node = node  # type: ignore[attr-defined]
        yield attacker
        attacker.leave()


@pytest.mark.parametrize("packet", EMPTY.values(), ids=EMPTY)
def test_a_packet_of_nothing_but_empty_parts_is_taken(guest: Attacker, packet: bytes) -> None:
    for _ in range(5):
        guest.send_frame(packet)
    guest.send(heartbeat={}, request_id=9)
    while (answer := guest.receive()) is not None and not answer.reply_to:
        pass  # acknowledgements
    assert answer is not None
    assert answer.reply_to == 9


@pytest.mark.parametrize("packet", BROKEN.values(), ids=BROKEN)
def test_a_packet_that_would_cost_more_than_it_says_is_broken(guest: Attacker, packet: bytes) -> None:
    guest.send_frame(packet)
    assert guest.farewell() == "bad_packet"


@pytest.mark.parametrize("kind", ["hello", "disconnect", "acknowledge", "identifier"])
def test_the_size_of_a_packet_is_judged_before_its_content(guest: Attacker, kind: str) -> None:
    """Not one of these bodies could be parsed."""
    guest.send_frame(filled(kind, b"\xff", CONTROL + 100))
    assert guest.farewell() == "frame_too_big"


def test_what_a_newer_peer_adds_to_a_body_is_kept_for_the_callback_and_costs_no_more(guest: Attacker) -> None:
    """Parsing keeps unknown fields as they came: as many bytes, and not an object for each."""
    heard = Recorder()
    guest.node.handlers["identifier"] = heard  # type: ignore[attr-defined]
    body = filled("identifier", b"\x50\x00")
    guest.send_frame(body)
    packet = heard.wait_for(1)[0][1]
    assert packet.ByteSize() == len(body)
