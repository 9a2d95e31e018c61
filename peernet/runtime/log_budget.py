"""LogSites: how much each place in the code may still log, so that no peer can fill a disk."""

from __future__ import annotations

from collections.abc import Callable, Iterable

# What one place may log within an hour (Bitcoin Core allows the same). Bytes.
BYTES_PER_HOUR = 1024 * 1024
HOUR = 3600.0  # seconds
# More places than peernet has. Whatever comes beyond shares one budget, so the table cannot grow.
MAX_SITES = 1024

# The logger, the level, the file and the line.
Site = tuple[str, int, str, int]
OTHERS: Site = ("peernet", 30, "other places", 0)


class _Hour:
    """What one place has logged since ``began``."""

    __slots__ = ("began", "dropped", "spent")

    def __init__(self, began: float) -> None:
        self.began = began
        self.spent = 0
        self.dropped = 0


class LogSites:
    """A budget of bytes per hour for every place that logs.

    The hour of a place begins with its first message. There is no lock: threads that
    log at the same moment may be off by a message, and none has to wait for another.

    Args:
        bytes_per_hour: the budget of each.
        max_sites: how many places are told apart.
    """

    def __init__(self, bytes_per_hour: int = BYTES_PER_HOUR, max_sites: int = MAX_SITES) -> None:
        self._bytes_per_hour = bytes_per_hour
        self._max_sites = max_sites
        self._hours: dict[Site, _Hour] = {}
        self._due = float("inf")  # when the first hour ends in which something was dropped

    def __len__(self) -> int:
        return len(self._hours)

    def admit(self, site: Site, now: float, measure: Callable[[], int]) -> int:
        """Ask whether a message may be logged.

        Args:
            site: where it comes from.
            now: monotonic seconds.
            measure: its size in bytes; called only if there may be room for it.

        Returns:
            0 if it may; else how many have been dropped in this hour, this one included.
        """
        hour = self._hour(site, now)
        if not hour.dropped:
            size = measure()
            if hour.spent + size <= self._bytes_per_hour:
                hour.spent += size
                return 0
            self._due = min(self._due, hour.began + HOUR)
        hour.dropped += 1
        return hour.dropped

    def seconds_left(self, site: Site, now: float) -> float:
        """When the next hour of a place begins."""
        return self._hour(site, now).began + HOUR - now

    def settle(self, now: float) -> Iterable[tuple[Site, int]]:
        """The places whose hour is over and how many messages each has dropped; each is told of once."""
        if now < self._due:
            return ()
        over = [(site, hour.dropped) for site, hour in list(self._hours.items()) if hour.dropped and _ended(hour, now)]
        for site, _ in over:
            self._hours.pop(site, None)
        self._due = min(
            (hour.began + HOUR for hour in list(self._hours.values()) if hour.dropped), default=float("inf")
        )
        return over

    def _hour(self, site: Site, now: float) -> _Hour:
        hour = self._hours.get(site)
        if hour is None and len(self._hours) >= self._max_sites:
            site = OTHERS
            hour = self._hours.get(site)
        if hour is None or _ended(hour, now):
            hour = self._hours[site] = _Hour(now)
        return hour


def _ended(hour: _Hour, now: float) -> bool:
    return now >= hour.began + HOUR
