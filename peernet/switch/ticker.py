"""Ticker: the regular look at all channels, which knows when this process itself stood still."""

from __future__ import annotations

from collections.abc import Callable

from peernet.config import NetworkConfig
from peernet.runtime import clock


class Ticker:
    """The liveness routine of a network.

    Args:
        config: the timeouts that are to be noticed in time.
        look: called with the monotonic seconds and those in which this process could not run.

    Attributes:
        interval: seconds between two looks.
    """

    def __init__(self, config: NetworkConfig, look: Callable[[float, float], object]) -> None:
        self.interval = config.tick_interval
        self._look = look
        self._ticked_at = 0.0

    def start(self) -> None:
        """Count from now on."""
        self._ticked_at = clock.monotonic()

    def tick(self) -> None:
        """Look."""
        now = clock.monotonic()
        # How long this process stood still, because a callback blocked it or the system was
        # busy: that much silence is not the peers' fault.
        lag = max(0.0, now - self._ticked_at - self.interval)
        self._ticked_at = now
        self._look(now, lag)
