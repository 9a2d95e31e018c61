"""Attachment: which link a channel is on, and what becomes of the links before it."""

from __future__ import annotations

from gevent.event import Event as Flag

from peernet.channel.link import Link
from peernet.runtime import clock


class Attachment:
    """The links of one channel.

    There are two of them while a callback outlives its connection: the link that it was read from, and
    the next one, which nobody reads yet.

    Args:
        link: the first one.

    Attributes:
        link: the present one, by which packets leave.
        connected_at: monotonic seconds when it was made.
        released: whether :meth:`release` was called.
    """

    __slots__ = ("_held", "_released", "connected_at", "link", "released")

    def __init__(self, link: Link) -> None:
        self.link = self._held = link
        self.connected_at = clock.monotonic()
        self.released = False
        self._released: Flag | None = None  # for whoever waits for that

    def hold(self, link: Link) -> None:
        """The channel's greenlet reads from a link now, and will release it."""
        self._held = link

    def replace(self, link: Link) -> None:
        """Go on over another link."""
        if self.link is not self._held:
            self.link.release()  # nobody has begun to read from it
        self.link = link
        self.connected_at = clock.monotonic()

    def release(self) -> None:
        """Free everything. Only the channel's own greenlet calls this, or nobody runs it."""
        self._held.release()
        self.released = True
        self.link.release()
        if self._released is not None:
            self._released.set()

    def wait_released(self, timeout: float) -> bool:
        """Wait until everything is freed, for ``timeout`` seconds. Returns whether it is, or somebody waits already."""
        if self.released or self._released is not None:
            return True
        self._released = Flag()
        return bool(self._released.wait(timeout))
