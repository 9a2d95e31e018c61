"""Frames: each is a varint with the length of the packet, then the packet.

The varint is protobuf's (base 128, least significant group first), at most five
bytes long: what ``writeDelimitedTo`` of the protobuf libraries writes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from peernet.errors import RemoteProtocolError
from peernet.reasons import Reason

MAX_VARINT = 5
# A frame that still lacks more than the first number of bytes gets a buffer of its
# own, so that a large packet is received where it stays. The buffer runs ahead of
# the bytes received by at least the first number, so that a read is worth its
# system call, and by at most the second, so that a declared length costs nothing
# until bytes arrive (CVE-2015-3641 was a buffer per header).
MIN_AHEAD = 16 * 1024
MAX_AHEAD = 256 * 1024
MAX_SPARE = 2 * MAX_AHEAD  # a buffer up to this size is kept for the next large frame
# A large frame that is not kept is received into a buffer of this size, again and again. Bytes.
SCRATCH = 32 * 1024
# A frame that was begun holds its buffer, so it has to come on. A link of 10 kB/s that freezes for 20 s is ten times
# as fast as this. Bytes a second.
MIN_FRAME_RATE = 1024


SHORT_VARINTS = [bytes([value]) for value in range(0x80)]
"""The varints of one byte, for those who cannot afford a call."""


def encode_varint(value: int) -> bytes:
    """The varint of a value that is not negative."""
    if value < 0x80:
        return SHORT_VARINTS[value]
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


class FrameSink(Protocol):
    """Takes a large frame that is not kept."""

    def feed(self, buffer: bytes | bytearray, count: int) -> None:
        """Take the next bytes: the first ``count`` in a buffer, which is used again."""

    def finish(self) -> bytes:
        """What stands for the frame, now that it is complete."""


class FrameFilter(Protocol):
    """Says which large frames are kept; see :class:`~peernet.wire.elision.PacketFilter`."""

    def judge(self, frame: bytearray, end: int, length: int) -> FrameSink | bool:
        """Whether to keep a frame of which ``end`` of ``length`` bytes are there: a sink takes it if it is not kept.

        ``False`` means that it is not known yet.
        """


class FrameDecoder:
    """Cuts a stream of bytes into frames.

    Feed it with :meth:`receive_data`, or read into :meth:`get_buffer` and call
    :meth:`buffer_updated`; then take what is complete from :meth:`frames`.

    Args:
        max_frame: longest frame accepted, in bytes; may be changed at any time and
            holds from the next frame on.
        frame_filter: says which large frames are not kept; all are, if not given.

    Attributes:
        generation: another number whenever another frame is under way, though not one for each frame.
    """

    __slots__ = (
        "_body",
        "_filled",
        "_filter",
        "_judged",
        "_length",
        "_position",
        "_rest",
        "_sink",
        "_spare",
        "generation",
        "max_frame",
    )

    def __init__(self, max_frame: int, frame_filter: FrameFilter | None = None) -> None:
        self.max_frame = max_frame
        self._filter = frame_filter
        self._judged = True  # whether it is known what becomes of the large frame under way
        self._sink: FrameSink | None = None  # takes it, if it is not kept
        self.generation = 0
        self._rest = b""  # received; what lies before _position was returned
        self._position = 0
        self._body: bytearray | None = None  # the large frame under way
        self._filled = 0  # how much of it is there
        self._length = 0  # how much of it there will be
        self._spare: bytearray | None = None  # the buffer of the one before, to be used again

    @property
    def buffered(self) -> int:
        """Bytes received of frames not yet returned."""
        return len(self._rest) - self._position + self._filled

    @property
    def held(self) -> int:
        """Bytes of memory in use: what is received, the buffer of a large frame, and one kept for the next."""
        return len(self._rest) + len(self._body or b"") + len(self._spare or b"")

    def trim(self) -> None:
        """Keep no buffer for the next large frame."""
        self._spare = None

    def receive_data(self, data: bytes) -> None:
        """Take the next bytes of the stream. Only while :meth:`get_buffer` returns ``None``."""
        rest = self._rest
        self._rest = rest[self._position :] + data if rest else data
        self._position = 0

    def get_buffer(self) -> memoryview | None:
        """Where the next bytes of a large frame belong; ``None`` while no large frame is under way.

        You must release the view before calling anything else.
        """
        if self._body is None:
            return None
        if self._sink is not None:
            return memoryview(self._body)[: self._length - self._filled]
        if self._filled == len(self._body):
            ahead = min(max(4 * self._filled, MIN_AHEAD), MAX_AHEAD, self._length - self._filled)
            self._body.extend(bytes(ahead))
        return memoryview(self._body)[self._filled :]

    def buffer_updated(self, count: int) -> None:
        """Say that ``count`` bytes were written to the start of what :meth:`get_buffer` gave.

        Raises:
            RemoteProtocolError: of a frame that is not kept, as whoever takes it says.
        """
        self._filled += count
        if self._sink is not None:
            assert self._body is not None
            self._sink.feed(self._body, count)
        elif not self._judged:
            self._judge()

    def frames(self) -> Iterator[bytes | bytearray]:
        """The frames that are complete, each exactly once. May be left and called again.

        A frame that is a ``bytearray`` is yours only until you ask for the next one.

        Raises:
            RemoteProtocolError: ``frame_too_big``, as soon as the length is known.
        """
        data = self._rest
        # What was read is often one short frame; a generator for it alone would cost more than all else here.
        if 1 < len(data) <= 0x80 and data[0] + 1 == len(data) <= self.max_frame and not self._position:
            self._rest = b""
            self.generation += 1
            self._spare = None
            return iter((data[1:],))
        return self._frames()

    def _frames(self) -> Iterator[bytes | bytearray]:
        """:meth:`frames` for everything."""
        if self._body is not None:
            if self._filled < self._length:
                return
            sink, body = self._sink, self._take_body()
            yield body if sink is None else sink.finish()
            if len(body) <= MAX_SPARE:
                self._spare = body
        data, position = self._rest, self._position
        end = len(data)
        while position < end:
            length, start = data[position], position + 1
            if length >= 0x80:
                length, start = _long_length(data, position)
                if not start:
                    break
            if length > self.max_frame:
                raise RemoteProtocolError(
                    f"a frame of {length} bytes was announced; the limit is {self.max_frame}", Reason.FRAME_TOO_BIG
                )
            stop = start + length
            if stop > end:
                if end > start and stop - end > MIN_AHEAD:
                    self._begin_body(data[start:], length)
                    return
                break
            self._position = position = stop
            yield data[start:stop]
        if position:
            self.generation += 1
            self._spare = None  # small frames have followed: the large ones seem to be over
        self._rest, self._position = data[position:], 0

    def _begin_body(self, received: bytes, length: int) -> None:
        self._filled, self._length = len(received), length
        self.generation += 1
        spare, self._spare = self._spare, None
        if spare is None or len(spare) < len(received):
            self._body = bytearray(received)
        else:  # it was paid for with bytes received before
            del spare[length:]
            spare[: len(received)] = received
            self._body = spare
        self._rest, self._position = b"", 0
        if self._filter is not None:
            self._judge()

    def _judge(self) -> None:
        """Find out whether the large frame under way is kept."""
        assert self._body is not None
        assert self._filter is not None
        verdict = self._filter.judge(self._body, self._filled, self._length)
        self._judged = verdict is not False
        if not isinstance(verdict, bool):
            self._sink = verdict
            verdict.feed(self._body, self._filled)
            del self._body[SCRATCH:]
            self._body.extend(bytes(SCRATCH - len(self._body)))

    def _take_body(self) -> bytearray:
        body = self._body
        assert body is not None
        self._body, self._filled, self._length = None, 0, 0
        self._sink, self._judged = None, True
        self.generation += 1
        return body


class FramePace:
    """Whether the frame under way comes as fast as it must: :data:`MIN_FRAME_RATE`, averaged over a time.

    Args:
        seconds: the time.
    """

    __slots__ = ("_frame", "_received", "_seconds", "_since")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._frame: int | None = None
        self._since = 0.0
        self._received = 0

    def dribbles(self, frame: int | None, received: int, now: float) -> bool:
        """Look, as should be done regularly. Returns whether the frame has come too slowly since an earlier look.

        Args:
            frame: :attr:`FrameDecoder.generation`; ``None`` while no frame is under way.
            received: bytes received on the connection in all.
            now: monotonic seconds.
        """
        passed = now - self._since
        if frame is not None and frame == self._frame and passed <= self._seconds:
            return False
        slow = frame is not None and frame == self._frame and received - self._received < MIN_FRAME_RATE * passed
        self._frame, self._since, self._received = frame, now, received
        return slow

    def forgive(self, seconds: float) -> None:
        """Do not count that many seconds, in which this process itself was not able to read."""
        self._since += seconds


def packet_length(frame: bytes) -> int:
    """The length of the packet in a frame of this side, from its beginning: what ``max_frame`` limits."""
    length = frame[0]
    return length if length < 0x80 else _long_length(frame, 0)[0]


def _long_length(data: bytes, position: int) -> tuple[int, int]:
    """The length that starts at ``position`` and where its frame starts; a start of 0 means incomplete.

    Ends after at most MAX_VARINT bytes, whatever they are.
    """
    length = 0
    for index, byte in enumerate(data[position : position + MAX_VARINT]):
        length |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return length, position + index + 1
    if len(data) - position >= MAX_VARINT:
        raise RemoteProtocolError(f"a frame length of more than {MAX_VARINT} bytes was announced", Reason.FRAME_TOO_BIG)
    return 0, 0
