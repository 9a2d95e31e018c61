"""How fuzz targets feed bytes to the decoder, and what they take for a documented outcome."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import cycle

from peernet.errors import RemoteProtocolError
from peernet.reasons import Reason
from peernet.wire import framing
from peernet.wire.framing import FrameDecoder

# With buffers this small an input of a hundred bytes goes the ways of a large frame.
SMALL = {"MIN_AHEAD": 16, "MAX_AHEAD": 64, "MAX_SPARE": 128}

# Sizes of the pieces in which a stream arrives, over and over.
CUTS = ((1,), (2, 3), (7,), (1, 40), (16, 17), (5, 1, 1), (64,), (100, 3), (1000,))

PEERS_FAULTS = frozenset(
    {Reason.BAD_PACKET, Reason.FRAME_TOO_BIG, Reason.UNEXPECTED_PACKET, Reason.ORIGIN_MISMATCH},
)
"""Why a peer may be blamed by what reads its bytes."""


@contextmanager
def small_buffers() -> Iterator[None]:
    """Let the decoder take its special ways for small frames already."""
    kept = {name: getattr(framing, name) for name in SMALL}
    try:
        for name, value in SMALL.items():
            setattr(framing, name, value)
        yield
    finally:
        for name, value in kept.items():
            setattr(framing, name, value)


def cut(stream: bytes, choice: int) -> Iterator[bytes]:
    """The stream in pieces; ``choice`` says of which sizes."""
    sizes = cycle(CUTS[choice % len(CUTS)])
    position = 0
    while position < len(stream):
        size = next(sizes)
        yield stream[position : position + size]
        position += size


def pour(decoder: FrameDecoder, pieces: Iterable[bytes]) -> Iterator[None]:
    """Give the pieces to the decoder as a link does; pauses whenever frames may be complete."""
    for piece in pieces:
        while piece:
            buffer = decoder.get_buffer()
            if buffer is None:
                decoder.receive_data(piece)
                piece = b""
            else:
                with buffer:
                    count = min(len(buffer), len(piece))
                    assert 0 < len(buffer) <= max(framing.MAX_AHEAD, framing.MAX_SPARE), "far ahead of the bytes"
                    buffer[:count] = piece[:count]
                decoder.buffer_updated(count)
                piece = piece[count:]
            yield


def blamed(error: RemoteProtocolError) -> str:
    """The reason of an error, which must be one of those that a peer can cause."""
    assert error.reason in PEERS_FAULTS, f"{error.reason} is no fault of a peer"
    assert str(error)
    return str(error.reason)
