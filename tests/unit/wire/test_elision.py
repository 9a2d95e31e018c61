"""Large packets that nobody wants are dropped as they come, and judged as if they had been kept."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peernet.errors import RemoteProtocolError
from peernet.reasons import Reason
from peernet.v1 import packet_pb2 as pb
from peernet.wire.elision import Elided, Elision, PacketFilter, find_kind
from peernet.wire.framing import MIN_AHEAD, SCRATCH, FrameDecoder, encode_varint
from peernet.wire.packets import KINDS, MAX_FIELDS, UNKNOWN, peek_any, peek_bare, peek_numbers

SIZE = 1024 * 1024
NONE_PERMITTED: frozenset[str] = frozenset()


def large(size: int = SIZE, **envelope: int) -> bytes:
    """A packet with data, which strangers may not send."""
    body = pb.DataTransmissionPacket(data=bytes(size))
    return pb.Packet(data_transmission=body, **envelope).SerializeToString()  # type: ignore[arg-type]  # numbers


def filtering(permitted: frozenset[str] | None = NONE_PERMITTED) -> FrameDecoder:
    """A decoder for a peer that may send some kinds."""
    packet_filter = PacketFilter(64 * 1024)
    packet_filter.permitted = permitted
    return FrameDecoder(64 * SIZE, packet_filter)


def pour(decoder: FrameDecoder, stream: bytes, chunk: int = 16 * 1024) -> tuple[list[bytes | bytearray], int]:
    """The frames in a stream that comes in pieces, and the most memory that was held in between."""
    frames, most, position = list[bytes | bytearray](), 0, 0
    while position < len(stream):
        buffer = decoder.get_buffer()
        piece = stream[position : position + (chunk if buffer is None else min(chunk, len(buffer)))]
        position += len(piece)
        if buffer is None:
            decoder.receive_data(piece)
        else:
            buffer[: len(piece)] = piece
            buffer.release()
            decoder.buffer_updated(len(piece))
        frames.extend(bytes(frame) if type(frame) is bytearray else frame for frame in decoder.frames())
        most = max(most, decoder.held)
    return frames, most


def framed(*packets: bytes) -> bytes:
    return b"".join(encode_varint(len(packet)) + packet for packet in packets)


@pytest.mark.parametrize("chunk", [1, 100, 16 * 1024, 256 * 1024])
def test_what_is_not_permitted_is_not_held_and_its_kind_and_numbers_are_known(chunk: int) -> None:
    size = 40_000 if chunk == 1 else SIZE
    frames, most = pour(
        filtering(), framed(large(size, sequence=7, acknowledged=9, acknowledge_now=1), large(10)), chunk
    )
    assert [type(frame) for frame in frames] == [Elided, bytes]
    assert peek_bare(frames[0]) is None
    assert peek_any(frames[0]) is KINDS["data_transmission"]
    assert peek_numbers(frames[0]) == (7, 9, True)
    assert frames[1] == large(10)
    assert most <= max(chunk, SCRATCH) + MIN_AHEAD


def test_what_is_permitted_is_kept() -> None:
    packet = large()
    frames, _ = pour(filtering(frozenset({"data_transmission"})), framed(packet))
    assert frames == [packet]


def test_everything_is_kept_until_it_is_known_what_is_permitted() -> None:
    packet = large()
    assert pour(filtering(None), framed(packet))[0] == [packet]


def test_a_kind_that_only_newer_peers_know_is_not_held() -> None:
    packet = encode_varint(1000 << 3 | 2) + encode_varint(SIZE) + bytes(SIZE)
    (frame,), most = pour(filtering(frozenset(KINDS)), framed(packet))
    assert peek_any(frame) is UNKNOWN
    assert most <= SCRATCH + MIN_AHEAD


def test_numbers_behind_the_body_count_too() -> None:
    (frame,), _ = pour(filtering(), framed(large() + b"\x08\x05\x10\x06\x08\x07\x40\x01"))
    assert peek_numbers(frame) == (7, 6, True)


def test_buffers_are_used_for_frames_that_are_kept_afterwards() -> None:
    wanted = pb.Packet(pure_message=pb.PureMessagePacket(message="x" * SIZE)).SerializeToString()
    decoder = filtering(frozenset({"pure_message"}))
    frames, _ = pour(decoder, framed(wanted, large(), wanted, large(), large()))
    assert [len(frame) for frame in frames[0::2]] == [len(wanted), len(wanted), len(frames[4])]
    assert frames[0] == frames[2] == wanted
    assert [type(frame) for frame in frames] == [bytes, Elided, bytes, Elided, Elided]


@pytest.mark.parametrize("kind", [kind for kind in KINDS.values() if not kind.bulk], ids=lambda kind: kind.name)
def test_a_kind_that_is_never_large_is_refused_when_its_size_is_known(kind: object) -> None:
    tag = encode_varint(kind.field << 3 | 2)  # type: ignore[attr-defined]
    packet = tag + encode_varint(SIZE) + bytes(SIZE)
    with pytest.raises(RemoteProtocolError) as caught:
        pour(filtering(), framed(packet)[:40_000])
    assert caught.value.reason is Reason.FRAME_TOO_BIG


BROKEN = {
    "no body": b"\x08\x01\x3a" + encode_varint(SIZE) + bytes(SIZE),
    "a body that is not a message": b"\x80\x01" + bytes(SIZE),
    "more than one body": large() + large(0),
    "a body that is not a message behind one": large() + b"\x80\x01\x00",
    "a body that reaches beyond the frame": large()[:-1],
    "a field that reaches beyond the frame": b"\x3a" + encode_varint(SIZE) + bytes(SIZE - 1),
    "a field of wire type 3": b"\x0b" + bytes(SIZE),
    "a field of wire type 7 behind the body": large() + b"\x0f",
    "a field of number 0": bytes(SIZE),
    "a field of number 0 behind the body": large() + b"\x00",
    "a broken varint": large() + b"\x08\x80",
    "a number of eleven bytes": large() + b"\x08" + b"\x80" * 10 + b"\x00",
    "too many fields": b"\x48\x00" * (MAX_FIELDS + 1) + large(),
    "too many fields behind the body": large() + b"\x48\x00" * MAX_FIELDS,
    "too many small fields": b"\x48\x00" * (SIZE // 2),
}


@pytest.mark.parametrize("packet", BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize("chunk", [100, 16 * 1024])
def test_what_is_broken_is_refused(packet: bytes, chunk: int) -> None:
    with pytest.raises(RemoteProtocolError) as expected:
        peek_any(packet)

    def receive() -> None:
        for frame in pour(filtering(), framed(packet), chunk)[0]:
            peek_any(frame)

    with pytest.raises(RemoteProtocolError) as caught:
        receive()
    assert caught.value.reason is expected.value.reason is Reason.BAD_PACKET


FIELDS = st.one_of(
    st.builds(
        lambda field, value: encode_varint(field << 3) + encode_varint(value), st.integers(0, 20), st.integers(0)
    ),
    st.builds(
        lambda field, value: encode_varint(field << 3 | 2) + encode_varint(len(value)) + value,
        st.sampled_from([5, 7, 16, 23, 24, 25, 1000]),
        st.binary(max_size=100),
    ),
    st.builds(lambda field: encode_varint(field << 3 | 5) + bytes(4), st.integers(1, 20)),
    st.builds(lambda field: encode_varint(field << 3 | 1) + bytes(8), st.integers(1, 20)),
    st.binary(max_size=3),
)


def as_peeked(packet: bytes) -> tuple[str, int, int, bool] | Reason:
    try:
        return peek_any(packet).name, *peek_numbers(packet)
    except RemoteProtocolError as error:
        return Reason(error.reason)


def as_elided(packet: bytes, sizes: list[int]) -> tuple[str, int, int, bool] | Reason:
    try:
        elision, position = Elision(len(packet)), 0
        for size in [*sizes, len(packet)]:
            piece = packet[position : position + size]
            elision.feed(piece + b"garbage", len(piece))
            position += len(piece)
        return as_peeked(elision.finish())
    except RemoteProtocolError as error:
        return Reason(error.reason)


@given(st.lists(FIELDS, max_size=6).map(b"".join), st.lists(st.integers(0, 40), max_size=8))
def test_what_is_dropped_is_judged_as_what_is_kept_however_it_comes(packet: bytes, sizes: list[int]) -> None:
    assert as_elided(packet, sizes) == as_peeked(packet)


@given(st.lists(FIELDS, max_size=6).map(b"".join))
def test_the_kind_is_found_at_the_beginning_or_not_known_yet(packet: bytes) -> None:
    try:
        kind = find_kind(bytearray(packet), len(packet), len(packet))
    except RemoteProtocolError:
        with pytest.raises(RemoteProtocolError):
            peek_any(packet)
        return
    judged = as_peeked(packet)
    assert kind is None or judged is Reason.BAD_PACKET or judged[0] == kind.name
