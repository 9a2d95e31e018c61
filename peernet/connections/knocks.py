"""Knocks: who is kept out and comes all the same, so that each of them is told of now and then, and not each time."""

from __future__ import annotations

from collections import OrderedDict

# One line about somebody in so long a time. Seconds.
INTERVAL = 60.0
# As many are remembered, those told of last: what strangers cause must not grow.
MOST = 256


class Knocks:
    """Counts for each of those who knock in vain. Time is passed in, in monotonic seconds."""

    def __init__(self) -> None:
        # who -> when it was told of, and how often it has come since
        self._told: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def note(self, who: str, now: float) -> int | None:
        """Take note of a knock.

        Returns:
            How many knocks there were since somebody was told, if now is the time to tell; otherwise ``None``.
        """
        told_at, count = self._told.get(who, (now - INTERVAL, 0))
        if now - told_at < INTERVAL:
            self._told[who] = (told_at, count + 1)
            return None
        self._told[who] = (now, 0)
        self._told.move_to_end(who)
        if len(self._told) > MOST:
            self._told.popitem(last=False)
        return count + 1
