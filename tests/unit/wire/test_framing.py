from __future__ import annotations

import contextlib
import itertools
import sys
from collections.abc import Callable, Iterable, Iterator

import pytest
from google.protobuf.wrappers_pb2 import UInt64Value
from hypothesis import given
from hypothesis import strategies as st

from peernet.errors import RemoteProtocolError
from peernet.reasons import Reason
from peernet.wire.framing import (
    MAX_AHEAD,
    MIN_AHEAD,
    MIN_FRAME_RATE,
    FrameDecoder,
    FramePace,
    encode_varint,
    packet_length,
)
from tests.support import known

KIB = 1024
MIB = 1024 * KIB
MAX_FRAME = 2 * MIB

Feed = Callable[[FrameDecoder, Iterable[bytes]], list[bytes]]


def frame(payload: bytes) -> bytes:
    return encode_varint(len(payload)) + payload


def payload_of(size: int) -> bytes:
    """Bytes in which every misplaced one shows."""
    pattern = bytes(range(251))
    return (pattern * (size // len(pattern) + 1))[:size]


def pour(decoder: FrameDecoder, chunk: bytes) -> Iterator[None]:
    """Read a chunk as a channel does: into the decoder's buffer whenever it offers one."""
    while chunk:
        buffer = decoder.get_buffer()
        if buffer is None:
            decoder.receive_data(chunk)
            chunk = b""
        else:
            with buffer:
                count = min(len(buffer), len(chunk))
                buffer[:count] = chunk[:count]
            decoder.buffer_updated(count)
            chunk = chunk[count:]
        yield


def feed(decoder: FrameDecoder, chunks: Iterable[bytes]) -> list[bytes]:
    """All frames in the chunks."""
    return [bytes(one) for chunk in chunks for _ in pour(decoder, chunk) for one in decoder.frames()]


def feed_leaving_after_every_frame(decoder: FrameDecoder, chunks: Iterable[bytes]) -> list[bytes]:
    """All frames in the chunks, each from a call of ``frames()`` of its own."""
    frames = []
    for chunk in chunks:
        for _ in pour(decoder, chunk):
            while (one := next(decoder.frames(), None)) is not None:
                frames.append(bytes(one))
    return frames


FEEDS: list[Feed] = [feed, feed_leaving_after_every_frame]


def whole(data: bytes) -> Iterator[bytes]:
    yield data


def byte_by_byte(data: bytes) -> Iterator[bytes]:
    return (data[position : position + 1] for position in range(len(data)))


def as_reads_of(size: int) -> Callable[[bytes], Iterator[bytes]]:
    def cut(data: bytes) -> Iterator[bytes]:
        return (data[position : position + size] for position in range(0, len(data), size))

    return cut


CUTS = {"whole": whole, "byte by byte": byte_by_byte, "in small reads": as_reads_of(7)}

STREAMS: dict[str, list[int]] = {
    "nothing": [],
    "one empty frame": [0],
    "one byte": [1],
    "empty frames between others": [0, 3, 0, 0, 1, 0],
    "the longest one-byte length": [127],
    "the shortest two-byte length": [128],
    "the longest two-byte length and the shortest three-byte one": [16383, 16384],
    "many small ones": list(range(40)),
}


@pytest.mark.parametrize("take", FEEDS)
@pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS)
@pytest.mark.parametrize("sizes", STREAMS.values(), ids=STREAMS)
def test_frames_come_out_as_they_went_in_however_the_stream_is_cut(
    sizes: list[int], cut: Callable[[bytes], Iterator[bytes]], take: Feed
) -> None:
    payloads = [payload_of(size) for size in sizes]
    decoder = FrameDecoder(MAX_FRAME)
    assert take(decoder, cut(b"".join(map(frame, payloads)))) == payloads
    assert decoder.buffered == 0


LARGE = {
    "just not worth a buffer of its own": MIN_AHEAD,
    "just worth one": MIN_AHEAD + 2,
    "two read-aheads": 2 * MIN_AHEAD + 1,
    "one below the longest read-ahead": MAX_AHEAD - 1,
    "the longest read-ahead": MAX_AHEAD,
    "one above it": MAX_AHEAD + 1,
    "several of them": 3 * MAX_AHEAD + 5,
    "the limit": MAX_FRAME,
}


@pytest.mark.parametrize("take", FEEDS)
@pytest.mark.parametrize("read_size", [1000, 4096, 65536, MAX_FRAME])
@pytest.mark.parametrize("size", LARGE.values(), ids=LARGE)
def test_large_frames_survive_between_small_ones(size: int, read_size: int, take: Feed) -> None:
    payloads = [b"before", payload_of(size), b"", payload_of(size)[::-1], b"after"]
    decoder = FrameDecoder(MAX_FRAME)
    assert take(decoder, as_reads_of(read_size)(b"".join(map(frame, payloads)))) == payloads


@pytest.mark.parametrize("size", [MIN_AHEAD + 2, 2 * MIN_AHEAD + 3])
def test_a_large_frame_arrives_byte_by_byte(size: int) -> None:
    decoder = FrameDecoder(MAX_FRAME)
    assert feed(decoder, byte_by_byte(frame(payload_of(size)))) == [payload_of(size)]


@st.composite
def cut_streams(draw: st.DrawFn) -> tuple[list[bytes], list[bytes]]:
    """Payloads, and their frames in random pieces."""
    sizes = st.one_of(
        st.integers(0, 300),
        st.sampled_from([127, 128, 16383, 16384, MIN_AHEAD + 1, MIN_AHEAD + 2, MAX_AHEAD, MAX_AHEAD + 1]),
    )
    payloads = [payload_of(size) for size in draw(st.lists(sizes, max_size=6))]
    stream = b"".join(map(frame, payloads))
    places = sorted(draw(st.lists(st.integers(0, len(stream)), max_size=20)))
    return payloads, [stream[start:stop] for start, stop in itertools.pairwise([0, *places, len(stream)])]


@pytest.mark.parametrize("take", FEEDS)
@given(cut=cut_streams())
def test_random_cuts_change_nothing(take: Feed, cut: tuple[list[bytes], list[bytes]]) -> None:
    payloads, pieces = cut
    decoder = FrameDecoder(MAX_FRAME)
    assert take(decoder, pieces) == payloads
    assert decoder.buffered == 0


@given(st.lists(st.binary(max_size=40), max_size=30))
def test_garbage_yields_frames_or_a_protocol_error_and_nothing_else(chunks: list[bytes]) -> None:
    decoder = FrameDecoder(64)
    with contextlib.suppress(RemoteProtocolError):
        assert all(len(one) <= 64 for one in feed(decoder, chunks))
        assert decoder.buffered <= 64 + 5


@pytest.mark.parametrize("value", [0, 1, 127, 128, 300, 16383, 16384, 2**21 - 1, 2**28, 2**31, 2**32 - 1, 2**35 - 1])
def test_lengths_are_written_as_protobuf_writes_varints(value: int) -> None:
    behind_the_tag = UInt64Value(value=value).SerializeToString()[1:]
    assert encode_varint(value) == (behind_the_tag or b"\x00")  # it leaves zeros out


@pytest.mark.parametrize("limit", [0, 1, 100, 127, 128, 4096])
def test_a_frame_of_exactly_the_limit_is_taken(limit: int) -> None:
    decoder = FrameDecoder(limit)
    assert feed(decoder, [frame(payload_of(limit))]) == [payload_of(limit)]


TOO_BIG = [101, 128, 65536, MIB + 1, 2**31 - 1, 2**31, 2**32 - 1, 2**35 - 1]


@pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS)
@pytest.mark.parametrize("length", TOO_BIG)
def test_a_frame_longer_than_the_limit_is_refused_before_its_body(
    length: int, cut: Callable[[bytes], Iterator[bytes]]
) -> None:
    decoder = FrameDecoder(100)
    with pytest.raises(RemoteProtocolError, match=f"{length} bytes.*limit is 100") as caught:
        feed(decoder, cut(encode_varint(length)))
    assert caught.value.reason == Reason.FRAME_TOO_BIG


@pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS)
@pytest.mark.parametrize(
    "encoded", [b"\x80\x80\x80\x80\x80", b"\xff\xff\xff\xff\xff", b"\x80\x80\x80\x80\x80\x00", b"\xff" * 9 + b"\x01"]
)
def test_a_length_of_more_than_five_bytes_is_refused(encoded: bytes, cut: Callable[[bytes], Iterator[bytes]]) -> None:
    with pytest.raises(RemoteProtocolError, match="more than 5 bytes") as caught:
        feed(FrameDecoder(MAX_FRAME), cut(encoded))
    assert caught.value.reason == Reason.FRAME_TOO_BIG


@pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS)
@pytest.mark.parametrize("encoded", [b"\x83\x00", b"\x83\x80\x00", b"\x83\x80\x80\x00", b"\x83\x80\x80\x80\x00"])
def test_a_length_padded_to_five_bytes_or_fewer_is_read(
    encoded: bytes, cut: Callable[[bytes], Iterator[bytes]]
) -> None:
    assert feed(FrameDecoder(MAX_FRAME), cut(encoded + b"abc")) == [b"abc"]


def test_what_comes_before_a_frame_that_is_too_big_is_still_delivered() -> None:
    decoder = FrameDecoder(100)
    decoder.receive_data(frame(b"one") + frame(b"two") + encode_varint(101))
    frames = decoder.frames()
    assert [next(frames), next(frames)] == [b"one", b"two"]
    with pytest.raises(RemoteProtocolError):
        next(frames)


def test_a_limit_raised_between_two_frames_holds_for_the_second() -> None:
    decoder = FrameDecoder(3)
    decoder.receive_data(frame(b"abc") + frame(b"abcd"))
    frames = decoder.frames()
    assert next(frames) == b"abc"
    decoder.max_frame = 4
    assert next(frames) == b"abcd"


def test_a_limit_lowered_between_two_frames_holds_for_the_second() -> None:
    decoder = FrameDecoder(4)
    decoder.receive_data(frame(b"abc") + frame(b"abcd"))
    frames = decoder.frames()
    assert next(frames) == b"abc"
    decoder.max_frame = 3
    with pytest.raises(RemoteProtocolError):
        next(frames)


def test_an_incomplete_frame_is_counted_as_buffered() -> None:
    decoder = FrameDecoder(MAX_FRAME)
    decoder.receive_data(frame(b"abc") + b"\x05de")
    assert [bytes(one) for one in decoder.frames()] == [b"abc"]
    assert decoder.buffered == 3
    decoder.receive_data(b"fgh")
    assert [bytes(one) for one in decoder.frames()] == [b"defgh"]
    assert decoder.buffered == 0


def test_a_large_frame_under_way_is_counted_as_buffered() -> None:
    decoder = FrameDecoder(MAX_FRAME)
    decoder.receive_data(encode_varint(MIB) + b"abc")
    assert list(decoder.frames()) == []
    assert decoder.buffered == 3


def test_another_frame_under_way_is_another_generation() -> None:
    decoder = FrameDecoder(MAX_FRAME)
    large = encode_varint(100_000) + bytes(100_000)
    seen = []
    for received in (b"\x03a", b"bc\x03a", b"bc" + large[:50], b"", large[50:] + b"\x03a"):
        if (buffer := decoder.get_buffer()) is None:
            decoder.receive_data(received)
        else:
            buffer.release()
            give(decoder, received)
        list(decoder.frames())
        seen.append(decoder.generation)
    first, second, third, same, last = seen
    assert len({first, second, third, last}) == 4
    assert third == same


def give(decoder: FrameDecoder, data: bytes) -> None:
    """Have a decoder receive data, in whichever way it wants it."""
    while data:
        buffer = decoder.get_buffer()
        if buffer is None:
            decoder.receive_data(data)
            return
        with buffer:
            count = min(len(buffer), len(data))
            buffer[:count] = data[:count]
        decoder.buffer_updated(count)
        data = data[count:]
        list(decoder.frames())


def begin(length: int, received: bytes) -> FrameDecoder:
    decoder = FrameDecoder(length)
    decoder.receive_data(encode_varint(length) + received)
    assert list(decoder.frames()) == []
    return decoder


def allocated(decoder: FrameDecoder) -> int:
    """Bytes that the decoder holds."""
    buffer = decoder.get_buffer()
    if buffer is None:
        return sys.getsizeof(decoder) + sum(
            sys.getsizeof(getattr(decoder, name)) for name in FrameDecoder.__slots__ if name != "max_frame"
        )
    with buffer:
        return sys.getsizeof(buffer.obj)


@pytest.mark.parametrize("received", [b"", b"x"])
def test_a_declared_mebibyte_costs_nothing_until_it_arrives(received: bytes) -> None:
    assert allocated(begin(MIB, received)) <= 32 * KIB


def test_the_buffer_never_runs_far_ahead_of_what_was_received() -> None:
    decoder = begin(MAX_FRAME, b"x")
    received = 1
    while received < MAX_FRAME:
        buffer = decoder.get_buffer()
        assert buffer is not None
        with buffer:
            ahead, held, count = len(buffer), sys.getsizeof(buffer.obj), min(len(buffer), 10_000)
        assert 0 < ahead <= MAX_AHEAD
        # bytearray itself keeps an eighth in hand
        assert held <= (received + MAX_AHEAD) * 9 / 8 + KIB
        assert list(decoder.frames()) == []
        decoder.buffer_updated(count)
        received += count
    assert [len(one) for one in decoder.frames()] == [MAX_FRAME]


def test_a_buffer_never_reaches_into_the_next_frame() -> None:
    decoder = begin(MIN_AHEAD + 10, b"12345")
    buffer = decoder.get_buffer()
    assert buffer is not None
    with buffer:
        assert len(buffer) == MIN_AHEAD
    decoder.buffer_updated(MIN_AHEAD)
    buffer = decoder.get_buffer()
    assert buffer is not None
    with buffer:
        assert len(buffer) == 5
    decoder.buffer_updated(5)
    assert [len(one) for one in decoder.frames()] == [MIN_AHEAD + 10]
    assert decoder.get_buffer() is None


def test_small_frames_ask_for_no_buffer() -> None:
    decoder = FrameDecoder(MAX_FRAME)
    assert decoder.get_buffer() is None
    decoder.receive_data(b"\x64abc")
    assert list(decoder.frames()) == []
    assert decoder.get_buffer() is None


def test_a_large_frame_is_returned_without_another_copy() -> None:
    decoder = begin(MIB, b"x")
    buffer = decoder.get_buffer()
    assert buffer is not None
    with buffer:
        body = buffer.obj
    while decoder.buffered < MIB:
        with known(decoder.get_buffer()) as buffer:
            count = len(buffer)
        decoder.buffer_updated(count)
    assert next(decoder.frames()) is body


def receive_large(decoder: FrameDecoder, frame: bytes) -> tuple[bytes, bytes | bytearray]:
    """Feed a frame the way a link does. Returns a copy of it, and what the decoder gave."""
    decoder.receive_data(frame[:20_000])
    position = 20_000
    while not (bodies := [(bytes(body), body) for body in decoder.frames()]):
        with known(decoder.get_buffer()) as buffer:
            count = min(len(buffer), len(frame) - position)
            buffer[:count] = frame[position : position + count]
        decoder.buffer_updated(count)
        position += count
    return bodies[0]


@pytest.mark.parametrize("second", [100_000, 60_000, 150_000])
def test_the_buffer_of_a_large_frame_serves_the_next_one(second: int) -> None:
    decoder = FrameDecoder(1 << 20)
    frames = [encode_varint(size) + bytes([number]) * size for number, size in enumerate((100_000, second), start=1)]
    first, buffer = receive_large(decoder, frames[0])
    next_one, its_buffer = receive_large(decoder, frames[1])
    assert [first, next_one] == [frames[0][3:], frames[1][3:]]
    assert its_buffer is buffer


def test_the_buffer_of_a_large_frame_is_not_kept_when_small_ones_follow() -> None:
    decoder = FrameDecoder(1 << 20)
    decoder.receive_data(encode_varint(100_000) + bytes(20_000))
    assert list(decoder.frames()) == []
    while decoder.buffered < 100_000:
        with known(decoder.get_buffer()) as buffer:
            count = len(buffer)
        decoder.buffer_updated(count)
    assert [len(frame) for frame in decoder.frames()] == [100_000]
    assert decoder.held >= 100_000
    decoder.receive_data(b"\x01x")
    assert list(decoder.frames()) == [b"x"]
    assert decoder.held < 100


def test_the_memory_that_is_held_is_told_and_the_spare_buffer_can_be_given_up() -> None:
    decoder = FrameDecoder(1 << 20)
    assert decoder.held == 0
    decoder.receive_data(b"\x64abc")
    assert list(decoder.frames()) == []
    assert decoder.held == 4
    decoder = begin(MIB, b"x")
    with decoder.get_buffer():  # type: ignore[union-attr]
        assert decoder.held > 16 * 1024
    decoder = FrameDecoder(1 << 20)
    receive_large(decoder, encode_varint(100_000) + bytes(100_000))
    assert decoder.held == 100_000
    decoder.trim()
    assert decoder.held == 0


# Lengths of frames that lie in two parts.


@pytest.mark.parametrize("size", [0, 1, 127, 128, 16_383, 16_384, 2**21, 2**32])
def test_the_length_of_a_packet_is_read_from_the_beginning_of_its_frame(size: int) -> None:
    assert packet_length(encode_varint(size) + b"what follows") == size


# The pace of a frame.

WINDOW = 30.0


def looks(pace: FramePace, *looked: tuple[float, int, int | None]) -> list[bool]:
    """What is found at the moments, each with the bytes received by then and the frame that is under way."""
    return [pace.dribbles(frame, received, now) for now, received, frame in looked]


def test_a_frame_that_gets_no_byte_for_the_whole_time_dribbles() -> None:
    assert looks(FramePace(WINDOW), (0, 10, 1), (15, 10, 1), (30, 10, 1), (30.1, 10, 1)) == [False, False, False, True]


def test_a_frame_that_comes_at_the_least_rate_may_take_for_ever() -> None:
    seconds = range(0, 600, 5)
    found = looks(FramePace(WINDOW), *((float(now), MIN_FRAME_RATE * now, 1) for now in seconds))
    assert found == [False] * len(seconds)


def test_a_frame_that_comes_a_little_more_slowly_dribbles() -> None:
    pace = FramePace(WINDOW)
    assert any(looks(pace, *((float(now), (MIN_FRAME_RATE - 1) * now, 1) for now in range(0, 40, 5))))


def test_a_link_may_freeze_for_a_while_in_the_middle_of_a_frame() -> None:
    """10 kB/s, nothing for 20 s, and 10 kB/s again: longer than the time in all, and above the rate on average."""
    received = [10_000 * min(now, 10) + 10_000 * max(0, now - 30) for now in range(70)]
    assert not any(looks(FramePace(WINDOW), *((float(now), count, 1) for now, count in enumerate(received))))


def test_every_frame_has_the_time_for_itself() -> None:
    found = looks(FramePace(WINDOW), *((10.0 * number, number, number // 2) for number in range(20)))
    assert found == [False] * 20


def test_a_pause_between_frames_is_no_frame() -> None:
    assert looks(FramePace(WINDOW), (0, 1, 1), (20, 1, None), (80, 1, None), (81, 2, 1), (100, 2, 1)) == [False] * 5


def test_time_in_which_nothing_could_be_read_does_not_count() -> None:
    pace = FramePace(WINDOW)
    assert looks(pace, (0, 1, 1)) == [False]
    pace.forgive(20)
    assert looks(pace, (45, 1, 1), (51, 1, 1)) == [False, True]
