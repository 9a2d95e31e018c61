from __future__ import annotations

import pytest
from google.protobuf.message import EncodeError, Message
from hypothesis import given
from hypothesis import strategies as st

from peernet.errors import LocalProtocolError, PeerNetError, RemoteProtocolError
from peernet.reasons import Reason
from peernet.v1 import packet_pb2 as pb
from peernet.wire.framing import FrameDecoder, encode_varint
from peernet.wire.packets import _BY_CLASS as BODIES_BY_CLASS
from peernet.wire.packets import (
    FIRST_BODY_FIELD,
    KINDS,
    PACKET_ID_SIZE,
    UNKNOWN,
    decode,
    encode_body,
    encode_envelope,
    encode_frame,
    encode_header,
    encode_stored,
    peek,
    peek_numbers,
)
from tests.unit.wire.samples import BODIES, IDENTIFIER, packets

VARINT, FIXED64, BYTES, GROUP, GROUP_END, FIXED32 = range(6)


def tag(field: int, wire_type: int) -> bytes:
    return encode_varint(field << 3 | wire_type)


def field(number: int, content: bytes) -> bytes:
    """A length-delimited field."""
    return tag(number, BYTES) + encode_varint(len(content)) + content


def number(field_number: int, value: int) -> bytes:
    """A varint field."""
    return tag(field_number, VARINT) + encode_varint(value)


TEXT = field(20, field(1, b"hello"))


# Kinds.


def test_every_body_in_the_proto_file_is_a_kind() -> None:
    assert list(KINDS) == [one.name for one in pb.Packet.DESCRIPTOR.oneofs_by_name["body"].fields]


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_a_kind_is_named_numbered_and_typed_as_its_field(kind: object) -> None:
    described = pb.Packet.DESCRIPTOR.fields_by_name[kind.name]  # type: ignore[attr-defined]
    assert kind.field == described.number >= FIRST_BODY_FIELD  # type: ignore[attr-defined]
    assert kind.message.DESCRIPTOR is described.message_type  # type: ignore[attr-defined]


def test_only_connection_keeping_kinds_are_control_and_only_payload_kinds_are_bulk() -> None:
    assert {name for name, kind in KINDS.items() if kind.control} == {"hello", "heartbeat", "acknowledge", "disconnect"}
    assert {name for name, kind in KINDS.items() if kind.bulk} == {"pure_message", "data_transmission"}


def test_no_message_contains_itself_so_that_nesting_is_bounded() -> None:
    def depth(descriptor: object, above: tuple[object, ...] = ()) -> int:
        assert descriptor not in above
        inner = [one.message_type for one in descriptor.fields if one.message_type]  # type: ignore[attr-defined]
        return 1 + max((depth(one, (*above, descriptor)) for one in inner), default=0)

    assert depth(pb.Packet.DESCRIPTOR) <= 16


@pytest.mark.parametrize(("name", "body"), BODIES.items(), ids=BODIES)
def test_a_body_knows_its_kind(name: str, body: Message) -> None:
    assert encode_body(body)[0] is KINDS[name]


@pytest.mark.parametrize("message", [pb.Packet(), pb.PeerEntry(), pb.Refusal()])
@pytest.mark.parametrize("use", [encode_body, encode_frame])
def test_what_is_not_a_body_is_refused_with_the_bodies_that_can_be_sent(use: object, message: Message) -> None:
    with pytest.raises(
        LocalProtocolError, match="is not the body of a packet; send one of PureMessagePacket"
    ) as caught:
        use(message)  # type: ignore[operator]
    assert "HelloPacket" not in str(caught.value)


# Writing.


def parsed(frame: bytes) -> pb.Packet:
    """The one packet in a frame, by protobuf's own parser."""
    decoder = FrameDecoder(2**20)
    decoder.receive_data(frame)
    (content,) = decoder.frames()
    return pb.Packet.FromString(bytes(content))


@pytest.mark.parametrize(("name", "body"), BODIES.items(), ids=BODIES)
def test_a_frame_is_what_protobuf_would_have_written(name: str, body: Message) -> None:
    packet = pb.Packet(sequence=300, **{name: body})  # type: ignore[arg-type]
    content = packet.SerializeToString()
    assert encode_frame(body, encode_envelope(sequence=300)) == encode_varint(len(content)) + content


@given(packets())
def test_any_packet_survives_being_written_and_read(packet: pb.Packet) -> None:
    name = packet.WhichOneof("body")
    assert name is not None
    envelope = pb.Packet()
    envelope.CopyFrom(packet)
    envelope.ClearField(name)
    assert parsed(encode_frame(getattr(packet, name), envelope.SerializeToString())) == packet


def test_a_large_content_is_not_copied_into_its_header() -> None:
    body = encode_body(pb.DataTransmissionPacket(data=bytes(100_000)))
    assert len(encode_header(body)) < 16
    assert parsed(encode_header(body) + body[2]).data_transmission.data == bytes(100_000)


@pytest.mark.parametrize("size", [0, 1, 117, 118, 119, 127, 128, 16_370, 16_384, 70_000])
def test_lengths_of_every_size_are_right(size: int) -> None:
    assert parsed(encode_frame(pb.PureMessagePacket(message="x" * size))).pure_message.message == "x" * size


def test_envelope_fields_that_are_zero_are_left_out() -> None:
    assert encode_envelope() == b""


@pytest.mark.parametrize("name", ["pure_message", "identifier"])
def test_a_stored_body_is_written_as_it_was_behind_its_id(name: str) -> None:
    packet_id = bytes(range(PACKET_ID_SIZE))
    kind, prefix, content = encode_body(BODIES[name])
    stored = encode_stored(kind.name, packet_id, prefix + content)
    packet = parsed(encode_header(stored, encode_envelope(acknowledged=3)) + stored[2])
    assert packet == pb.Packet(acknowledged=3, packet_id=packet_id, **{name: BODIES[name]})  # type: ignore[arg-type]
    assert stored[0] is kind


def test_a_stored_body_of_a_kind_that_this_version_does_not_know_is_sent_all_the_same() -> None:
    body = field(29, b"from the future")
    stored = encode_stored("file_result", bytes(PACKET_ID_SIZE), body)
    assert stored[0] is UNKNOWN
    assert peek(stored[1] + stored[2]) is UNKNOWN


def test_envelope_fields_are_written_under_their_numbers() -> None:
    envelope = encode_envelope(sequence=1, acknowledged=2, request_id=3, reply_to=2**64 - 1)
    assert pb.Packet.FromString(envelope) == pb.Packet(sequence=1, acknowledged=2, request_id=3, reply_to=2**64 - 1)


def test_a_body_that_cannot_be_serialised_is_the_senders_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def SerializeToString(self) -> bytes:
            raise EncodeError("too large")

    monkeypatch.setitem(BODIES_BY_CLASS, Broken, BODIES_BY_CLASS[pb.PureMessagePacket])  # type: ignore[index]
    with pytest.raises(LocalProtocolError, match="Broken cannot be serialised: too large"):
        encode_body(Broken())  # type: ignore[arg-type]


# Reading.


@given(packets())
def test_peek_and_decode_agree_with_protobufs_own_parser(packet: pb.Packet) -> None:
    for frame in (packet.SerializeToString(), bytearray(packet.SerializeToString())):
        assert peek(frame).name == packet.WhichOneof("body")
        assert decode(frame) == packet


FULL_ENVELOPE = [
    number(1, 300),
    number(2, 2**35 - 1),
    number(3, 1),
    number(4, 127),
    field(5, IDENTIFIER.encode()),
    number(6, 128),
]


@given(
    pieces=st.permutations([*FULL_ENVELOPE, TEXT, number(7, 1), field(9, b"junk"), tag(15, FIXED64) + bytes(8)]),
    repeated=st.sampled_from(FULL_ENVELOPE),
)
def test_fields_may_come_in_any_order_and_envelope_fields_twice(pieces: list[bytes], repeated: bytes) -> None:
    frame = b"".join(pieces) + repeated
    assert peek(frame).name == "pure_message"
    packet = decode(frame)
    assert (packet.sequence, packet.source_origin_identifier) == (300, IDENTIFIER)
    assert packet.pure_message.message == "hello"


READABLE: dict[str, bytes] = {
    "as usual": TEXT,
    "an empty body": field(20, b""),
    "an origin that is no identifier": field(5, b"me") + TEXT,
    "a long origin": field(5, b"x" * 300) + TEXT,
    "the body before the envelope": TEXT + number(1, 5),
    "an unknown envelope number": number(8, 5) + TEXT,
    "an unknown envelope text": TEXT + field(15, b"\xff\xfe"),
    "as many fields as may be": number(1, 5) * 63 + TEXT,
    "an unknown fixed64": tag(8, FIXED64) + bytes(8) + TEXT,
    "an unknown fixed32": tag(9, FIXED32) + bytes(4) + TEXT,
    "an unknown high field that is no message": number(99, 1) + TEXT,
    "a fixed64 that would be a broken length": tag(24, FIXED64) + b"\xff" * 8 + number(2**20, 5) + TEXT,
    "an envelope field of another wire type": field(1, b"abc") + TEXT,
    "a number padded to ten bytes": b"\x08" + b"\x81" + b"\x80" * 8 + b"\x00" + TEXT,
    "a padded body length": tag(20, BYTES) + b"\x87\x80\x80\x00" + field(1, b"hello"),
    "a padded body tag": b"\xa2\x81\x00" + TEXT[2:],
    "unknown fields inside the body": field(20, number(77, 1) + field(1, b"hello") + field(78, b"\xff")),
}


@pytest.mark.parametrize("frame", READABLE.values(), ids=READABLE)
def test_a_packet_with_one_known_body_is_of_that_kind(frame: bytes) -> None:
    assert peek(frame).name == "pure_message"
    assert decode(frame).WhichOneof("body") == "pure_message"


FUTURE: dict[str, bytes] = {
    "the first number kept for later": field(24, b"anything"),
    "an empty one": field(31, b""),
    "a two-byte tag beyond the reserved ones": field(32, b""),
    "the largest field number": field(2**29 - 1, b"abc"),
    "with an envelope": number(1, 5) + field(24, b"\xff\xff"),
}


@pytest.mark.parametrize("frame", FUTURE.values(), ids=FUTURE)
def test_a_body_that_only_newer_peers_know_is_unknown_and_not_an_error(frame: bytes) -> None:
    assert peek(frame) is UNKNOWN


# What must be refused by looking at the envelope.
BROKEN: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "no body"),
    "an envelope only": (number(1, 5), "no body"),
    "an unknown envelope field only": (field(15, b"x"), "no body"),
    "an unknown high field that is no message": (number(99, 1), "no body"),
    "two bodies": (TEXT + field(17, b""), "more than one body"),
    "the same body twice": (TEXT + TEXT, "more than one body"),
    "a known and an unknown body": (TEXT + field(24, b""), "more than one body"),
    "an unknown and a known body": (field(24, b"") + TEXT, "more than one body"),
    "two unknown bodies": (field(24, b"") + field(25, b""), "more than one body"),
    "two bodies with an envelope between": (TEXT + number(1, 5) + TEXT, "more than one body"),
    "too many fields": (number(7, 1) * 64 + TEXT, "more than 64 fields"),
    "too many fields after the body": (TEXT + number(1, 5) * 64, "more than 64 fields"),
    "a body as a number": (number(20, 1), "not a message"),
    "a body as a number beside a body": (TEXT + number(17, 1), "not a message"),
    "a body as a fixed64": (tag(20, FIXED64) + bytes(8), "not a message"),
    "a body as a fixed32": (tag(20, FIXED32) + bytes(4), "not a message"),
    "a body as a group": (tag(20, GROUP) + tag(20, GROUP_END), "not a message"),
    "a group in the envelope": (tag(7, GROUP) + tag(7, GROUP_END) + TEXT, "wire type 3"),
    "the end of a group": (tag(7, GROUP_END) + TEXT, "wire type 4"),
    "wire type 6": (tag(7, 6) + TEXT, "wire type 6"),
    "wire type 7": (tag(7, 7) + TEXT, "wire type 7"),
    "a tag cut off": (TEXT + b"\xa2", "broken varint"),
    "a tag without end": (b"\xff" * 12, "broken varint"),
    "a number cut off": (TEXT + tag(1, VARINT) + b"\x80", "broken varint"),
    "a number missing": (TEXT + tag(1, VARINT), "broken varint"),
    "a number of eleven bytes": (tag(1, VARINT) + b"\x80" * 10 + b"\x00" + TEXT, "broken varint"),
    "a length missing": (tag(20, BYTES), "broken varint"),
    "a body cut off": (TEXT[:-1], "beyond the frame"),
    "a body that claims 4 GiB": (tag(20, BYTES) + encode_varint(2**32 - 1), "beyond the frame"),
    "a body that claims 2^63 bytes": (tag(20, BYTES) + b"\xff" * 8 + b"\x7f", "beyond the frame"),
    "a text cut off": (TEXT + field(5, b"abc")[:-1], "beyond the frame"),
    "a fixed64 cut off": (TEXT + tag(8, FIXED64) + bytes(7), "beyond the frame"),
    "a fixed32 cut off": (TEXT + tag(8, FIXED32) + bytes(3), "beyond the frame"),
}


@pytest.mark.parametrize(("frame", "complaint"), BROKEN.values(), ids=BROKEN)
def test_a_broken_envelope_is_refused_before_the_body_is_parsed(frame: bytes, complaint: str) -> None:
    for data in (frame, bytearray(frame)):
        with pytest.raises(RemoteProtocolError, match=complaint) as caught:
            peek(data)
        assert caught.value.reason == Reason.BAD_PACKET


# What looks right from outside and is refused when it is parsed.
UNPARSABLE: dict[str, bytes] = {
    "text that is not UTF-8": field(20, field(1, b"\xff")),
    "half a character": field(20, field(1, "ü".encode()[:1])),
    "a surrogate": field(20, field(1, b"\xed\xa0\x80")),
    "an origin that is not UTF-8": field(5, b"\xff" * 52) + TEXT,
    "a nested field cut off": field(20, field(1, b"hello")[:-1]),
    "a nested length beyond the body": field(20, tag(1, BYTES) + b"\x7f"),
    "a nested message cut off": field(22, field(1, field(1, b"abc")[:-1])),
    "a nested tag cut off": field(20, b"\x80"),
    "a nested group without end": field(20, tag(9, GROUP)),
    "a nested end of a group": field(20, tag(9, GROUP_END)),
    "a nested field number 0": field(20, b"\x02\x00"),
    "a field number 0": b"\x02\x00" + TEXT,
    "random bytes": field(20, bytes(range(255, 205, -1))),
}


@pytest.mark.parametrize("frame", UNPARSABLE.values(), ids=UNPARSABLE)
def test_a_broken_body_is_refused_when_it_is_parsed(frame: bytes) -> None:
    assert peek(frame).name in ("pure_message", "collection_share")
    for data in (frame, bytearray(frame)):
        with pytest.raises(RemoteProtocolError, match="cannot be parsed") as caught:
            decode(data)
        assert caught.value.reason == Reason.BAD_PACKET


@pytest.mark.parametrize(("name", "body"), BODIES.items(), ids=BODIES)
def test_every_cut_of_a_packet_is_refused_or_another_valid_packet(name: str, body: Message) -> None:
    content = pb.Packet(sequence=300, acknowledged=5, **{name: body}).SerializeToString()  # type: ignore[arg-type]
    for length in range(len(content)):
        with pytest.raises(RemoteProtocolError) as caught:
            peek(content[:length])
        assert caught.value.reason == Reason.BAD_PACKET


FRAGMENTS = [*FULL_ENVELOPE, TEXT, field(23, b""), field(24, b""), *(frame for frame, _ in BROKEN.values())]


@given(
    st.one_of(
        st.binary(max_size=60),
        st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.binary(max_size=4)), max_size=6).map(b"".join),
    )
)
def test_whatever_comes_is_a_kind_or_a_protocol_error_and_parsing_never_changes_the_kind(frame: bytes) -> None:
    try:
        kind = peek(frame)
        packet = decode(frame)
    except PeerNetError as error:
        reason = error.reason if isinstance(error, RemoteProtocolError) else None
    else:
        reason = None
        assert packet.WhichOneof("body") == (None if kind is UNKNOWN else kind.name)
    assert reason in (None, Reason.BAD_PACKET)


@pytest.mark.parametrize(("sequence", "acknowledged"), [(0, 0), (7, 0), (0, 300), (2**64 - 1, 1)])
def test_the_numbers_of_a_packet_are_read_without_its_body(sequence: int, acknowledged: int) -> None:
    packet = pb.Packet(sequence=sequence, acknowledged=acknowledged, request_id=5, source_origin_identifier="x")
    packet.data_transmission.data = b"\x08\x01\x10\x02"
    assert peek_numbers(packet.SerializeToString()) == (sequence, acknowledged)
