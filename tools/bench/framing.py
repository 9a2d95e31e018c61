"""Varint length-delimited frames for the systems that bring no framing of their own.

The same bytes that peernet puts on the wire, without sessions, gates or limits: what
a careful program would write by hand for one known, friendly peer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

# Read at once. Frames larger than this are received into a buffer of their own size.
CHUNK = 64 * 1024
# Written at once: small frames are collected until this much waits.
COALESCE = 64 * 1024


def varint(number: int) -> bytes:
    if number < 0x80:
        return bytes((number,))
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """The number at this offset and the offset behind it; (-1, at) when it is incomplete."""
    number = shift = 0
    for index in range(at, len(data)):
        byte = data[index]
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, index + 1
        shift += 7
    return -1, at


def split(data: bytes) -> tuple[list[bytes], int]:
    """All complete frames in the data and the offset of what is left."""
    frames, at, end = [], 0, len(data)
    while at < end:
        size, start = data[at], at + 1
        if size >= 0x80:
            size, start = read_varint(data, at)
        stop = start + size
        if size < 0 or stop > end:
            break
        frames.append(data[start:stop])
        at = stop
    return frames, at


def read_batches(
    recv: Callable[[int], bytes], recv_into: Callable[[memoryview], int]
) -> Iterator[list[bytes | memoryview]]:
    """Lists of frames until the end of the stream; a frame is valid until the next list.

    The buffer for large frames is used again and again: parsing copies what it keeps.
    """
    rest, large = b"", bytearray()
    while data := recv(CHUNK):
        data = rest + data if rest else data
        frames, at = split(data)
        if frames:
            yield frames
        rest = data[at:]
        size, start = read_varint(rest, 0)
        if size > CHUNK:
            large = large if len(large) >= size else bytearray(size)
            yield [_fill(memoryview(large)[:size], rest[start:], recv_into)]
            rest = b""


def _fill(frame: memoryview, head: bytes, recv_into: Callable[[memoryview], int]) -> memoryview:
    """Put the head there and receive the remainder straight behind it: no second copy."""
    frame[: len(head)] = head
    at = len(head)
    while at < len(frame):
        got = recv_into(frame[at:])
        if not got:
            raise EOFError("the stream ended inside a frame")
        at += got
    return frame


class CoalescingWriter:
    """Collects small frames and writes them together; large ones go out at once."""

    def __init__(self, sendall: Callable[[bytes], object]) -> None:
        self._sendall = sendall
        self._waiting: list[bytes] = []
        self._size = 0

    def write(self, payload: bytes) -> None:
        self._waiting += (varint(len(payload)), payload)
        self._size += len(payload)
        if self._size >= COALESCE:
            self.flush()

    def flush(self) -> None:
        waiting, self._waiting, self._size = self._waiting, [], 0
        if waiting and len(waiting[-1]) >= COALESCE:
            # Not worth a copy: the large frame follows in a call of its own.
            large = waiting.pop()
            self._sendall(b"".join(waiting))
            self._sendall(large)
        else:
            self._sendall(b"".join(waiting))
