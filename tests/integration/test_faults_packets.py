"""Peers that break the protocol once they are in, and an honest peer who does not notice."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from peernet import PeerChannel, PeerNetwork, Reason
from peernet.v1 import packet_pb2 as pb
from tests.integration.attackers import Attacker, dial, varint
from tests.integration.meetings import Networks, node_in_use
from tests.support import Recorder, known, record, wait_until

MIB = 1024 * 1024
BODY = pb.Packet(pure_message=pb.PureMessagePacket(message="hi")).SerializeToString()
HEARTBEAT = b"\x8a\x01\x00"


class Intruder:
    """An attacker that is in, and the channel that the node has to it."""

    def __init__(self, node: PeerNetwork) -> None:
        self.node = node
        self.attacker = dial(node.addresses[0], plain=node.insecure)
        self.attacker.greet()
        self.channel: PeerChannel = wait_until(lambda: node.channel_to(self.attacker.credentials.identifier))
        self.heard = self.channel.handlers["pure_message"] = Recorder()
        self.removed = record(node.peer_removed)

    def lives(self) -> None:
        """Fail unless the node still takes packets from it."""
        before = len(self.heard)
        self.attacker.say("still here")
        self.heard.wait_for(before + 1)
        assert self.channel.reason is None

    def is_thrown_out(self, reason: str) -> None:
        """Fail unless the node ends the channel and says why."""
        assert self.attacker.farewell() == reason
        self.attacker.leave()
        assert self.removed.wait_for(1) == [(self.channel, Reason(reason))]
        assert self.node.counters[reason] == 1
        assert not self.channel.ended_by_peer

    def is_lost(self) -> None:
        """Fail unless the node notices that it has gone."""
        assert self.removed.wait_for(1) == [(self.channel, Reason.CONNECTION_LOST)]


@pytest.fixture(params=[False, True], ids=["tls", "plain"])
def intruder(networks: Networks, request: pytest.FixtureRequest) -> Iterator[Intruder]:
    """In a node that serves an honest peer all the time."""
    with node_in_use(networks, options={"insecure": request.param}) as node:
        intruder = Intruder(node)
        yield intruder
        intruder.attacker.leave()
        wait_until(lambda: len(node.active_peer_channels) == 1)


# Frames.


@pytest.mark.parametrize("length", [MIB + 1, 2**31, 2**35 - 1])
def test_a_frame_over_the_limit_is_refused_before_its_body_comes(intruder: Intruder, length: int) -> None:
    intruder.attacker.send_bytes(varint(length))
    intruder.is_thrown_out("frame_too_big")


def test_a_length_that_does_not_end_is_refused(intruder: Intruder) -> None:
    intruder.attacker.send_bytes(b"\x80" * 5)
    intruder.is_thrown_out("frame_too_big")


def test_a_frame_of_the_limit_is_taken(intruder: Intruder) -> None:
    size = MIB - 3 - 4 - 2 - 4 + 5
    message = pb.PureMessagePacket(message="x" * size)
    content = pb.Packet(pure_message=message).SerializeToString()
    message.message = "x" * (size - (len(content) - MIB))
    content = pb.Packet(pure_message=message).SerializeToString()
    assert len(content) == MIB
    intruder.attacker.send_frame(content)
    assert intruder.heard.wait_for(1)[0][1].pure_message == message


@pytest.mark.parametrize("leave", [Attacker.leave, Attacker.vanish])
@pytest.mark.parametrize(
    "beginning",
    [
        pytest.param(b"", id="between frames"),
        pytest.param(b"\x80", id="in the length"),
        pytest.param(b"\x50" + BODY, id="in a small frame"),
        pytest.param(varint(MIB) + b"\xa2\x01" + bytes(200_000), id="in a large frame"),
    ],
)
def test_a_peer_that_vanishes_is_noticed(
    intruder: Intruder, beginning: bytes, leave: Callable[[Attacker], None]
) -> None:
    intruder.attacker.send_bytes(beginning)
    leave(intruder.attacker)
    intruder.is_lost()
    assert not intruder.heard


def test_what_came_whole_before_a_truncated_frame_is_handled(intruder: Intruder) -> None:
    intruder.attacker.say("whole")
    intruder.attacker.send_bytes(b"\x50trunca")
    intruder.attacker.leave()
    intruder.is_lost()
    assert [packet.pure_message.message for packet in intruder.heard.packets] == ["whole"]


def test_packets_may_come_in_any_pieces(intruder: Intruder) -> None:
    stream = b"".join(varint(len(BODY)) + BODY for _ in range(40))
    position = 0
    for number in range(len(stream)):
        size = 1 + number % 7
        intruder.attacker.send_bytes(stream[position : position + size])
        position += size
    intruder.heard.wait_for(40)
    intruder.lives()


def test_lengths_need_not_be_as_short_as_they_could(intruder: Intruder) -> None:
    """protobuf's readers accept that too."""
    assert len(BODY) < 0x80
    intruder.attacker.send_bytes(bytes([len(BODY) | 0x80, 0x80, 0x00]) + BODY)
    intruder.heard.wait_for(1)


# Packets.


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="an empty frame"),
        pytest.param(b"\x30\x01", id="an envelope without a body"),
        pytest.param(BODY + BODY, id="the same body twice"),
        pytest.param(BODY + HEARTBEAT, id="two bodies"),
        pytest.param(BODY + b"\xc2\x01\x00", id="a body and an unknown one"),
        pytest.param(b"\xa0\x01\x05", id="a body that is a number"),
        pytest.param(b"\xa2\x01\x05\x0a\x03\xff\xfe\xfd", id="text that is not UTF-8"),
        pytest.param(b"\xa2\x01\x03\x0a\x7f\x41", id="a text longer than its packet"),
        pytest.param(b"\xa2\x01\x7f\x0a", id="a body longer than its frame"),
        pytest.param(b"\xa3\x01" + BODY, id="a group"),
        pytest.param(b"\xff" * 12, id="a tag that does not end"),
        pytest.param(b"\xff", id="half a tag"),
        pytest.param(bytes(64), id="zeroes"),
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", id="another protocol"),
    ],
)
def test_a_packet_that_cannot_be_understood_ends_the_channel(intruder: Intruder, content: bytes) -> None:
    intruder.attacker.send_frame(content)
    intruder.is_thrown_out("bad_packet")
    assert not intruder.heard


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"\xc2\x01\x03new", id="field 24"),
        pytest.param(b"\xfa\xff\xff\xff\x0f\x00", id="the last field there is"),
        pytest.param(b"\x30\x01\xc2\x01" + varint(300_000) + bytes(300_000), id="a large one with an envelope"),
    ],
)
def test_a_kind_from_the_future_is_counted_and_skipped(intruder: Intruder, content: bytes) -> None:
    intruder.attacker.send_frame(content)
    intruder.lives()
    assert intruder.channel.counters["unknown_kind"] == intruder.node.counters["unknown_kind"] == 1


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"\x08\x01\x10\x02\x30\x05" + BODY, id="all of the envelope"),
        pytest.param(b"\x38\x07" + BODY, id="a field of the envelope that is unknown"),
        pytest.param(b"\x7a\x03new" + BODY, id="a longer one"),
        pytest.param(BODY + b"\x30\x05", id="the envelope after the body"),
        pytest.param(b"\x30\x01\x30\x02" + BODY, id="a field of the envelope twice"),
        pytest.param(b"\xa2\x01\x09\x0a\x02hi\xa2\x06\x02xx", id="an unknown field in the body"),
    ],
)
def test_what_is_unusual_and_legal_is_taken(intruder: Intruder, content: bytes) -> None:
    intruder.attacker.send_frame(content)
    assert intruder.heard.wait_for(1)[0][1].pure_message.message == "hi"
    intruder.lives()


def test_more_refusals_than_a_packet_may_hold_end_the_channel(networks: Networks) -> None:
    with node_in_use(networks) as node:
        attacker = dial(node.addresses[0])
        attacker.greet(session_id=7)
        channel = wait_until(lambda: node.channel_to(attacker.credentials.identifier))
        attacker.send(acknowledge={"refusals": [{}] * 256})
        attacker.send(heartbeat={}, request_id=1)
        assert known(attacker.receive()).reply_to == 1
        attacker.send(acknowledge={"refusals": [{}] * 257})
        assert attacker.farewell() == "bad_packet"
        assert channel.wait_closed(5)
        attacker.leave()


def test_a_second_hello_is_an_error(intruder: Intruder) -> None:
    intruder.attacker.send_hello()
    intruder.is_thrown_out("unexpected_packet")


@pytest.mark.parametrize("kind", ["identifier", "collection_share", "heartbeat", "acknowledge"])
def test_a_packet_that_is_not_bulk_must_not_exceed_64_kib(intruder: Intruder, kind: str) -> None:
    limit = 65_536
    envelope = pb.Packet(source_origin_time=1).SerializeToString()
    packet = pb.Packet()
    getattr(packet, kind).SetInParent()
    body = packet.SerializeToString()[:2]

    def padded(size: int) -> bytes:
        filling = size - len(envelope) - len(body) - 3  # the length of the body takes three bytes
        padding = b"\x7a" + varint(filling - 4) + bytes(filling - 4)  # an unknown field
        content = envelope + body + varint(filling) + padding
        assert len(content) == size
        return content

    intruder.attacker.send_frame(padded(limit))
    intruder.lives()
    intruder.attacker.send_frame(padded(limit + 1))
    intruder.is_thrown_out("frame_too_big")


def test_a_packet_in_the_name_of_somebody_else_is_an_error(intruder: Intruder) -> None:
    intruder.attacker.send(pure_message={"message": "hi"}, source_origin_identifier=intruder.node.identifier)
    intruder.is_thrown_out("origin_mismatch")
    assert not intruder.heard


def test_a_packet_in_ones_own_name_is_fine(intruder: Intruder) -> None:
    own = intruder.attacker.credentials.identifier
    intruder.attacker.send(pure_message={"message": "hi"}, source_origin_identifier=own, source_origin_time=1)
    packet = intruder.heard.wait_for(1)[0][1]
    assert (packet.source_origin_identifier, packet.source_origin_time) == (own, 1)


def test_a_goodbye_in_the_name_of_somebody_else_ends_the_channel_all_the_same(intruder: Intruder) -> None:
    intruder.attacker.send(disconnect={"reason": 1}, source_origin_identifier=intruder.node.identifier)
    assert intruder.removed.wait_for(1)[0][0] is intruder.channel


def test_heartbeats_that_ask_are_answered_and_others_are_not(intruder: Intruder) -> None:
    intruder.attacker.send(heartbeat={})
    intruder.attacker.send(acknowledge={"refusals": [{"sequence": 3, "reason": 1}]})
    intruder.attacker.send(heartbeat={}, reply_to=99)
    intruder.attacker.send(heartbeat={}, request_id=2**64 - 1)
    answer = known(intruder.attacker.receive())
    assert answer.HasField("heartbeat")
    assert (answer.reply_to, answer.request_id) == (2**64 - 1, 0)
    intruder.lives()


def test_packets_after_a_goodbye_are_not_looked_at(intruder: Intruder) -> None:
    goodbye = pb.Packet(disconnect=pb.DisconnectPacket(reason=pb.DISCONNECT_REASON_CLOSED)).SerializeToString()
    intruder.attacker.send_bytes(varint(len(goodbye)) + goodbye + varint(len(BODY)) + BODY + b"\xff" * 50)
    assert intruder.removed.wait_for(1) == [(intruder.channel, Reason.CLOSED)]
    assert not intruder.heard
    assert not intruder.node.counters["frame_too_big"]


def test_who_is_thrown_out_may_come_back(intruder: Intruder) -> None:
    intruder.attacker.send_frame(b"")
    intruder.is_thrown_out("bad_packet")
    again = dial(intruder.node.addresses[0], plain=intruder.node.insecure, credentials=intruder.attacker.credentials)
    again.greet()
    again.leave()
