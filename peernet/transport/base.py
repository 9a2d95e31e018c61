"""What a channel needs of the bytes under it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

# One read takes this much at most: many small frames per system call, and little
# enough that a thousand connections reading at once stay cheap.
READ_SIZE = 64 * 1024
RECORD_SIZE = 16 * 1024
"""The most content that one TLS record carries (RFC 8446 5.1)."""


class Transport(Protocol):
    """A connected stream of bytes.

    Reading waits, writing never does. Only one greenlet may read, and it is the one
    that calls :meth:`close`, after its last read: a file descriptor closed under a
    reader could be somebody else's by the time it is used again.
    """

    @property
    def remote(self) -> tuple[str, int]:
        """Host and port of the other end; if it was dialled, where it can be dialled again."""

    @property
    def identifier(self) -> str | None:
        """The identifier that the other end has proven; ``None`` on plain transports."""

    @property
    def drained(self) -> bool:
        """Whether the last read seems to have taken all that had arrived."""

    def recv(self) -> bytes:
        """The next bytes; waits for them. Empty at the end of the stream.

        Raises:
            TransportError: the connection broke.
        """

    def recv_into(self, buffer: memoryview) -> int:
        """As :meth:`recv`, into a buffer. Returns how many bytes; 0 at the end of the stream."""

    def send(self, data: bytes | memoryview) -> int:
        """Write what can be written now. Returns how many bytes; 0 if none.

        After 0, call again with the same bytes in front.

        Raises:
            TransportError: the connection broke.
        """

    def unread(self) -> int:
        """Bytes that have arrived and were not read; a sign of life while nobody reads. 0 if not known."""

    def crowded(self) -> bool:
        """Whether so much is unread that the other end may not be able to send more. ``True`` if not known."""

    def ended(self) -> bool:
        """Whether the other end has gone, without reading. May be ``False`` while unread bytes hide it."""

    def when_writable(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` once, from the hub, when :meth:`send` may take bytes again."""

    def finish_writing(self) -> None:
        """Tell the other end that no more bytes follow. Reading goes on."""

    def abort(self) -> None:
        """End the connection now, from any greenlet: the reader sees the end of the stream."""

    def close(self) -> None:
        """Release everything. Idempotent."""


class Security(Protocol):
    """Proves to the two ends of a connection who is at the other."""

    def wrap(self, raw: Any, /, *, dialled: bool) -> Transport:
        """A transport with an identifier over a connected one; waits, so bound it from outside.

        Raises:
            TransportError: the other side does not take part, or left.
            IdentityError: its key is of a type that peers do not use.
        """
