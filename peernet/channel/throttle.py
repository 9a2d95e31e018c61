"""Throttle: delays the reading from a peer that sends more than its share."""

from __future__ import annotations

from collections.abc import Callable

import gevent

from peernet.config import NetworkConfig
from peernet.runtime import clock
from peernet.runtime.token_bucket import TokenBucket

# A packet of the protocol's own needs less than this; each time as much again in one of them counts as a frame more,
# because its parts are looked at one by one: 1024 refusals cost as much as 300 small packets (measured). Bytes.
CONTROL_PER_FRAME = 64
# What is read counts as a frame more for each of this: large frames cost by their bytes. With the default rate a
# stranger may send 2 MiB/s. Bytes.
BYTES_PER_FRAME = 1024
# The longest pause in which a link that has ended is not noticed. Seconds.
LONGEST = 0.1


class Throttle:
    """One peer's share of frames. What comes too early is not refused but waits where it is: in the sockets.

    Args:
        config: the limits; ``untrusted_frame_rate`` must not be 0.
        count: told ``throttled`` for each pause.
    """

    __slots__ = ("_bucket", "_count", "_more")

    def __init__(self, config: NetworkConfig, count: Callable[[str], None]) -> None:
        self._bucket = TokenBucket(config.untrusted_frame_rate, config.untrusted_frame_burst, clock.monotonic())
        self._count = count
        self._more = 0  # frames that what was read counts besides

    def charge(self, size: int) -> None:
        """Note that a control packet of so many bytes was among the frames of which :meth:`pace` will be told."""
        self._more += size // CONTROL_PER_FRAME

    def pace(self, frames: int, size: int, goes_on: Callable[[], bool]) -> None:
        """Note how much was read, and wait if it is too much.

        Args:
            frames: how many since the last call.
            size: bytes since the last call, those of frames that are not complete among them.
            goes_on: asked while it waits; there is no point in waiting if it says no.
        """
        count, self._more = frames + self._more + size / BYTES_PER_FRAME, 0
        ends = self._bucket.spend(now := clock.monotonic(), count) + now
        if ends > now:
            self._count("throttled")
        # In pieces of LONGEST at most: what makes the wait pointless is noticed soon.
        while now < ends and goes_on():
            gevent.sleep(min(ends - now, LONGEST))
            now = clock.monotonic()


def throttle_of(config: NetworkConfig, count: Callable[[str], None]) -> Throttle | None:
    """A throttle as the configuration wants it; ``None`` if it wants none."""
    return Throttle(config, count) if config.untrusted_frame_rate else None
