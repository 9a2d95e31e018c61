from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.message import DecodeError, EncodeError, Message
from google.protobuf.unknown_fields import UnknownFieldSet
from hypothesis import given
from hypothesis import strategies as st

from peernet.errors import LocalProtocolError, PeerNetError, RemoteProtocolError
from peernet.reasons import Reason
from peernet.v1 import packet_pb2 as pb
from peernet.wire.framing import FrameDecoder, encode_varint
from peernet.wire.packets import _BY_CLASS as BODIES_BY_CLASS
from peernet.wire.packets import (
    ASKS,
    FIRST_BODY_FIELD,
    KINDS,
    MAX_FIELDS,
    PACKET_ID_SIZE,
    UNKNOWN,
    WITHDRAWN_FRAME,
    Kind,
    decode,
    encode_body,
    encode_envelope,
    encode_frame,
    encode_header,
    encode_reply,
    encode_stored,
    peek,
    peek_any,
    peek_bare,
    peek_numbers,
)
from tests.unit.wire.frames import (
    BROKEN,
    BYTES,
    FIXED32,
    FIXED64,
    FULL_ENVELOPE,
    FUTURE,
    GROUP,
    READABLE,
    TEXT,
    UNPARSABLE,
    VARINT,
    Sample,
    field,
    number,
    tag,
)
from tests.unit.wire.samples import BODIES, IDENTIFIER, packets

# Kinds.


def test_every_body_in_the_proto_file_is_a_kind() -> None:
    assert list(KINDS) == [one.name for one in pb.Packet.DESCRIPTOR.oneofs_by_name["body"].fields]
    assert all(16 <= kind.field < 2048 for kind in KINDS.values()), "peek_bare() expects tags of two bytes"


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_a_kind_is_named_numbered_and_typed_as_its_field(kind: object) -> None:
    described = pb.Packet.DESCRIPTOR.fields_by_name[kind.name]  # type: ignore[attr-defined]
    assert kind.field == described.number >= FIRST_BODY_FIELD  # type: ignore[attr-defined]
    assert kind.message.DESCRIPTOR is described.message_type  # type: ignore[attr-defined]


CONNECTION_KEEPING = {"hello", "heartbeat", "acknowledge", "disconnect"}


def test_only_connection_keeping_kinds_are_not_numbered_and_only_payload_kinds_are_bulk() -> None:
    assert {name for name, kind in KINDS.items() if not kind.numbered} == CONNECTION_KEEPING
    assert {name for name, kind in KINDS.items() if kind.bulk} == {"pure_message", "data_transmission"}


def test_the_protocol_keeps_to_itself_what_is_not_numbered_and_what_was_withdrawn() -> None:
    assert {name for name, kind in KINDS.items() if kind.control} == CONNECTION_KEEPING | {"withdrawn"}
    assert (UNKNOWN.control, UNKNOWN.numbered) == (False, True)


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


def frames_of(stream: bytes) -> list[bytes]:
    """What is in the frames of a stream."""
    decoder = FrameDecoder(2**20)
    decoder.receive_data(stream)
    return list(map(bytes, decoder.frames()))


def parsed(frame: bytes) -> pb.Packet:
    """The one packet in a frame, by protobuf's own parser."""
    (content,) = frames_of(frame)
    return pb.Packet.FromString(content)


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


@pytest.mark.parametrize("name", ["pure_message", "data_transmission"])
def test_an_answer_is_a_body_behind_the_number_that_it_answers(name: str) -> None:
    kind, prefix, content = encode_reply(BODIES[name], 7)
    packet = parsed(encode_header((kind, prefix, content), encode_envelope(acknowledged=3)) + content)
    assert packet == pb.Packet(acknowledged=3, reply_to=7, **{name: BODIES[name]})  # type: ignore[arg-type]
    assert encode_reply(BODIES[name], 0) == encode_body(BODIES[name])


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


def test_an_older_peer_skips_what_stands_for_a_withdrawn_packet() -> None:
    (content,) = frames_of(WITHDRAWN_FRAME)
    assert peek(content) is peek_bare(content) is KINDS["withdrawn"]
    assert decode(content) == pb.Packet(withdrawn=pb.WithdrawnPacket())
    assert content == field(27, b"")


def test_envelope_fields_are_written_under_their_numbers() -> None:
    envelope = encode_envelope(sequence=1, acknowledged=2, request_id=3, reply_to=2**64 - 1)
    assert pb.Packet.FromString(envelope) == pb.Packet(sequence=1, acknowledged=2, request_id=3, reply_to=2**64 - 1)


def test_a_body_that_cannot_be_serialised_is_the_senders_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def SerializeToString(self) -> bytes:
            raise EncodeError("too large")

    monkeypatch.setitem(BODIES_BY_CLASS, Broken, BODIES_BY_CLASS[pb.PureMessagePacket])
    with pytest.raises(LocalProtocolError, match="Broken cannot be serialised: too large"):
        encode_body(Broken())  # type: ignore[arg-type]


# Reading.


@given(packets())
def test_peek_and_decode_agree_with_protobufs_own_parser(packet: pb.Packet) -> None:
    for frame in (packet.SerializeToString(), bytearray(packet.SerializeToString())):
        assert peek(frame).name == packet.WhichOneof("body")
        assert decode(frame) == packet


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


@pytest.mark.parametrize("sample", READABLE.values(), ids=READABLE)
def test_a_packet_with_one_known_body_is_of_that_kind(sample: Sample) -> None:
    assert peek(sample.content).name == "pure_message"
    assert decode(sample.content).WhichOneof("body") == "pure_message"


@pytest.mark.parametrize("sample", FUTURE.values(), ids=FUTURE)
def test_a_body_that_only_newer_peers_know_is_unknown_and_not_an_error(sample: Sample) -> None:
    assert peek(sample.content) is UNKNOWN


@pytest.mark.parametrize("sample", BROKEN.values(), ids=BROKEN)
def test_a_broken_envelope_is_refused_before_the_body_is_parsed(sample: Sample) -> None:
    for data in (sample.content, bytearray(sample.content)):
        with pytest.raises(RemoteProtocolError, match=sample.complaint) as caught:
            peek(data)
        assert caught.value.reason == Reason.BAD_PACKET


@pytest.mark.parametrize("sample", UNPARSABLE.values(), ids=UNPARSABLE)
def test_a_broken_body_is_refused_when_it_is_parsed(sample: Sample) -> None:
    assert peek(sample.content).name in ("pure_message", "collection_share")
    for data in (sample.content, bytearray(sample.content)):
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


SAMPLES = [sample.content for samples in (READABLE, FUTURE, BROKEN, UNPARSABLE) for sample in samples.values()]
FRAGMENTS = [*FULL_ENVELOPE, TEXT, field(23, b""), field(24, b""), *SAMPLES]


@st.composite
def varints(draw: st.DrawFn) -> bytes:
    """Any varint of up to eleven bytes, minimal or not."""
    *groups, last = draw(st.lists(st.integers(0, 127), min_size=1, max_size=11))
    return bytes([*(group | 0x80 for group in groups), last])


@st.composite
def fields(draw: st.DrawFn) -> bytes:
    """A field as no usual encoder writes it: any number, any wire type, varints of any length."""
    wire_type = draw(st.integers(0, 7))
    tags = st.builds(
        tag,
        st.one_of(st.integers(0, 40), st.sampled_from([2047, 2048, 2**29 - 1, 2**29, 2**29 + 20, 2**32 + 20])),
        st.just(wire_type),
        st.integers(0, 11),
    )
    content = draw(st.binary(max_size=8))
    values = {
        VARINT: varints(),
        FIXED64: st.binary(min_size=8, max_size=8),
        FIXED32: st.binary(min_size=4, max_size=4),
        BYTES: st.one_of(
            st.builds(lambda size: encode_varint(len(content))[:-1] + size + content, st.just(bytes([len(content)]))),
            st.builds(lambda padding: bytes([len(content) | 0x80, *padding, 0]) + content, st.lists(st.just(0x80))),
        ),
    }
    return draw(st.one_of(tags, varints())) + draw(values.get(wire_type, st.just(b"")))


frames = st.one_of(
    st.binary(max_size=60),
    st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.binary(max_size=4)), max_size=6).map(b"".join),
    st.lists(fields(), min_size=1, max_size=4).map(b"".join),
    st.tuples(st.lists(fields(), max_size=2).map(b"".join), st.just(TEXT), fields()).map(b"".join),
)


@given(frames)
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


def kind_or_none(read: object, frame: bytes | bytearray) -> Kind | None:
    """The kind that one of the peeks finds; ``None`` if it refuses the packet."""
    try:
        return read(frame)  # type: ignore[operator, no-any-return]
    except RemoteProtocolError:
        return None


@given(st.one_of(frames, packets().map(pb.Packet.SerializeToString)))
def test_the_short_cuts_of_peek_find_what_reading_field_by_field_finds(frame: bytes) -> None:
    kind = kind_or_none(peek_any, frame)
    assert kind_or_none(peek, frame) is kind_or_none(peek, bytearray(frame)) is kind
    bare = kind_or_none(peek_bare, frame)
    assert bare in (None, kind)
    if bare is not None:
        assert peek_numbers(frame) == (0, 0, False)


@pytest.mark.parametrize("number_size", range(1, 13))
@pytest.mark.parametrize("body", [TEXT, bytes(20), b"\x82\x02" + bytes(20), TEXT[:-1], TEXT + TEXT])
def test_an_acknowledgement_of_any_length_is_read_as_field_by_field(number_size: int, body: bytes) -> None:
    frame = b"\x10" + b"\x80" * (number_size - 1) + b"\x01" + body
    assert kind_or_none(peek, frame) is kind_or_none(peek_any, frame)


@given(st.one_of(frames, packets().map(pb.Packet.SerializeToString)))
def test_peek_finds_the_fields_that_protobufs_parser_finds_and_fails_where_it_fails(frame: bytes) -> None:
    kind = kind_or_none(peek_any, frame)
    try:
        # A message without fields knows none, so that all of them can be looked at, number 0 (a mistake) included.
        unknown: Any = UnknownFieldSet(pb.HeartbeatPacket.FromString(frame))
        found = list(unknown)
    except DecodeError:
        assert kind is None
        return
    bodies = [(one.field_number, one.wire_type) for one in found if one.field_number >= FIRST_BODY_FIELD]
    allowed = len(found) <= MAX_FIELDS and all(one.wire_type != GROUP and one.field_number for one in found)
    if allowed and [wire_type for _, wire_type in bodies] == [BYTES]:
        by_field = {kind.field: kind for kind in KINDS.values()}
        assert kind is by_field.get(bodies[0][0], UNKNOWN)
    else:
        assert kind is None


@given(packets())
def test_the_numbers_of_any_packet_are_those_that_protobuf_reads(packet: pb.Packet) -> None:
    numbers = packet.sequence, packet.acknowledged, packet.acknowledge_now
    assert peek_numbers(packet.SerializeToString()) == numbers


@pytest.mark.parametrize(("sequence", "acknowledged"), [(0, 0), (7, 0), (0, 300), (2**64 - 1, 1)])
def test_the_numbers_of_a_packet_are_read_without_its_body(sequence: int, acknowledged: int) -> None:
    packet = pb.Packet(sequence=sequence, acknowledged=acknowledged, request_id=5, source_origin_identifier="x")
    packet.data_transmission.data = b"\x08\x01\x10\x02"
    assert peek_numbers(packet.SerializeToString()) == (sequence, acknowledged, False)
    packet.acknowledge_now = True
    assert peek_numbers(packet.SerializeToString()) == (sequence, acknowledged, True)


def test_the_field_that_asks_stands_behind_the_others_and_its_last_value_counts() -> None:
    frame = encode_envelope(acknowledged=300) + ASKS + TEXT
    assert decode(frame) == pb.Packet(
        acknowledged=300, acknowledge_now=True, pure_message=pb.PureMessagePacket(message="hello")
    )
    assert peek_numbers(frame + number(8, 0)) == (0, 300, False)
    assert peek_numbers(number(8, 0) + frame) == (0, 300, True)
