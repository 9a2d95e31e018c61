"""Any stream, in any pieces, gives the frames and the error that the specification says.

Input: a byte that chooses limits, a byte that chooses pieces, and the stream.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from peernet.errors import RemoteProtocolError
from peernet.wire.framing import FrameDecoder
from tests.fuzz.feeding import blamed, cut, pour, small_buffers

# The limit for the first frame, and for those that follow: as a hello changes it.
LIMITS = ((40, 300), (300, 40), (0, 127), (128, 128), (4096, 2**20), (1, 1), (2**35, 2**35), (17, 65))

Outcome = tuple[list[bytes], str | None]
"""The frames, and the reason for which the stream was given up."""


def fuzz(data: bytes) -> None:
    if len(data) < 2:
        return
    limits, stream = LIMITS[data[0] % len(LIMITS)], data[2:]
    expected, rest = specified(stream, limits)
    assert received([stream], limits, rest) == expected
    with small_buffers():
        assert received([stream], limits, rest) == expected
        assert received(cut(stream, data[1]), limits, rest) == expected


def specified(stream: bytes, limits: tuple[int, int]) -> tuple[Outcome, int]:
    """What docs/protocol.rst says about a stream, and how many bytes of it no frame has taken."""
    frames: list[bytes] = []
    position = 0
    while True:
        length, start = 0, position
        for shift in range(0, 36, 7):
            if shift == 35:
                return (frames, "frame_too_big"), 0
            if start == len(stream):
                return (frames, None), len(stream) - position
            byte = stream[start]
            start += 1
            length |= (byte & 0x7F) << shift
            if not byte & 0x80:
                break
        if length > limits[bool(frames)]:
            return (frames, "frame_too_big"), 0
        if start + length > len(stream):
            return (frames, None), len(stream) - position
        frames.append(stream[start : start + length])
        position = start + length


def received(pieces: Iterable[bytes], limits: tuple[int, int], rest: int) -> Outcome:
    """What the decoder makes of the pieces."""
    decoder = FrameDecoder(limits[0])
    frames: list[bytes] = []
    under_way: dict[int, int] = {}  # by generation: how many frames came before
    try:
        for _ in pour(decoder, pieces):
            for frame in decoder.frames():
                frames.append(bytes(frame))
                decoder.max_frame = limits[1]
            if decoder.buffered:
                before = under_way.setdefault(decoder.generation, len(frames))
                assert before == len(frames), "a frame passes for the one before it"
    except RemoteProtocolError as error:
        return frames, blamed(error)
    assert max(Counter(under_way.values()).values(), default=0) <= 2, "a frame passes for several"
    assert rest - 5 <= decoder.buffered <= rest, "bytes are lost, or kept for ever"  # a length has up to five
    return frames, None
