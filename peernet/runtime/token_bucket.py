"""Token buckets: a rate with a burst. Time is passed in, so that nothing here needs a clock."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable


class TokenBucket:
    """Holds up to ``burst`` tokens, and gains ``rate`` of them a second. It begins full.

    Args:
        rate: tokens a second, more than 0.
        burst: the most tokens it holds.
        now: seconds, of the clock that all calls use.
    """

    __slots__ = ("_at", "_burst", "_rate", "_tokens")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._at = now

    def take(self, now: float) -> bool:
        """Take one token. Returns whether there was one; if not, nothing is taken."""
        self._gain(now)
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def give_back(self, now: float) -> None:
        """Undo :meth:`take`."""
        self._gain(now)
        self._tokens = min(self._burst, self._tokens + 1)

    def spend(self, now: float, count: float) -> float:
        """Take tokens for what has happened already, into debt if need be.

        Returns:
            Seconds until the debt is paid; 0 if there is none.
        """
        self._gain(now)
        self._tokens -= count
        return max(0.0, -self._tokens / self._rate)

    def _gain(self, now: float) -> None:
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now


class TokenBuckets:
    """One bucket for each source, of which as many are remembered as the table holds.

    The source that was not seen for longest is forgotten first. One that was not seen for
    ``burst / rate`` seconds loses nothing by that: its bucket would be full again.

    Args:
        rate: tokens a second.
        burst: the most tokens a source can save.
        size: how many sources are remembered.
    """

    def __init__(self, rate: float, burst: float, size: int) -> None:
        self._rate = rate
        self._burst = burst
        self._size = size
        self._buckets: OrderedDict[Hashable, TokenBucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, source: Hashable, now: float) -> bool:
        """Take one of a source's tokens. Returns whether there was one. Costs the same however many there are."""
        bucket = self._buckets.get(source)
        if bucket is None:
            bucket = self._buckets[source] = TokenBucket(self._rate, self._burst, now)
            if len(self._buckets) > self._size:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(source)
        return bucket.take(now)

    def give_back(self, source: Hashable, now: float) -> None:
        """Undo :meth:`take`, if the source is still remembered."""
        bucket = self._buckets.get(source)
        if bucket is not None:
            bucket.give_back(now)
