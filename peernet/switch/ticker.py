"""Ticker: the regular look at all channels, which knows when this process itself stood still."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from peernet.channel.control import ChannelControl
from peernet.config import NetworkConfig
from peernet.runtime import clock
from peernet.runtime.greenlets import let_others_run
from peernet.runtime.logs import get_logger
from peernet.switch.memory import MemoryGuard

logger = get_logger(__name__)


class Ticker:
    """The liveness routine of a network.

    Args:
        config: the timeouts that are to be noticed in time.
        memory: looked after first.
        controls: those of all channels, the pending ones included.

    Attributes:
        interval: seconds between two looks.
    """

    def __init__(
        self, config: NetworkConfig, memory: MemoryGuard, controls: Callable[[], Iterable[ChannelControl]]
    ) -> None:
        self.interval = config.tick_interval
        self._seconds_per_turn = config.seconds_per_turn
        self._memory = memory
        self._controls = controls
        self._ticked_at = 0.0

    def start(self) -> None:
        """Count from now on."""
        self._ticked_at = clock.monotonic()

    def tick(self) -> None:
        """Look after memory, and let every channel look after its liveness."""
        now = clock.monotonic()
        # How long this process stood still, because a callback blocked it or the system was
        # busy: that much silence is not the peers' fault.
        lag = max(0.0, now - self._ticked_at - self.interval)
        self._ticked_at = now
        self._memory.look_after(now)
        self._look_at_all(now, lag)

    def _look_at_all(self, now: float, lag: float) -> None:
        """It takes some 10 µs for each channel, so others have their turns in between.

        ``now`` stays what it was: if one of them blocks the process, that is not the peers' silence, and the next
        tick knows of it.
        """
        turn_ends = clock.monotonic() + self._seconds_per_turn
        for control in self._controls():
            if clock.monotonic() >= turn_ends:
                let_others_run()
                turn_ends = clock.monotonic() + self._seconds_per_turn
            try:
                control.tick(now, lag)
            except Exception:
                logger.exception("the liveness of %r could not be looked after", control.channel)
