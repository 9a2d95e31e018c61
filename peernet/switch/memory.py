"""Buffers: what all channels of a network hold in memory, held against its budget."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from peernet.channel.control import ChannelControl
from peernet.config import NetworkConfig
from peernet.runtime import clock
from peernet.runtime.logs import get_logger
from peernet.switch.budget import Budget, Holding, Verdict

logger = get_logger(__name__)

EXCEEDED = "buffers_exceeded"
CLOSED = "closed_for_buffers"
# A sender who finds no room makes us count again, though not more often than this, nor for more than a part
# of the time. Seconds.
COUNT_EVERY = 0.1
PART = 0.05


class MemoryGuard:
    """Counts what the channels hold, and acts when it is too much.

    A sender asks for leave each time its channel holds 64 KiB more, so a burst stops at the limit
    although the channels are counted only now and then.

    Args:
        config: ``buffer_budget``.
        counters: those of the network.
        channels: all channels.
    """

    def __init__(
        self, config: NetworkConfig, counters: Counter[str], channels: Callable[[], Iterable[ChannelControl]]
    ) -> None:
        self._budget = Budget(config.buffer_budget)
        self._counters = counters
        self._channels = channels
        self._count_again_at = float("-inf")
        self._exceeded = False

    @property
    def held(self) -> int:
        """Bytes held at the last count, and granted since."""
        return self._budget.held

    def grant(self, size: int, contents: Sequence[bytes] = ()) -> bool:
        """Whether a channel may hold so many bytes more, among them ``contents``, which others may hold as well."""
        if self._budget.grant(size, contents):
            return True
        now = clock.monotonic()
        if now < self._count_again_at:
            return False
        self._count(now)  # some were written or acknowledged since
        return self._budget.grant(size, contents)

    def look_after(self, now: float) -> None:
        """Count, and close whom the verdict names. To be called regularly."""
        for control in self._count(now).closed:
            self._counters[CLOSED] += 1
            channel = control.channel
            logger.warning("%r is closed: the channels hold more than buffer_budget, and it most of all", channel)
            control.cut_for_memory()

    def _count(self, now: float) -> Verdict[ChannelControl]:
        controls = list(self._channels())
        verdict = self._judge(controls, now)
        self._tell()
        for control in controls:
            control.ration(more=not self._exceeded)
        for control in verdict.crowding:
            control.slow_down()
        self._count_again_at = now + max(COUNT_EVERY, (clock.monotonic() - now) / PART)
        return verdict

    def _judge(self, controls: list[ChannelControl], now: float) -> Verdict[ChannelControl]:
        sizes = [control.held_bytes for control in controls]
        total = sum(sizes)
        if total <= self._budget.limit:
            self._budget.count(total)
            return Verdict()
        holdings = [
            Holding(control, size, control.held_contents, control.channel.trusted)
            for control, size in zip(controls, sizes, strict=True)
        ]
        return self._budget.judge(holdings, now)

    def _tell(self) -> None:
        """Say when it becomes too much, and when it is that no more."""
        exceeded = self._budget.exceeded
        if exceeded and not self._exceeded:
            self._counters[EXCEEDED] += 1
            logger.warning("the channels hold %d bytes; the budget is %d", self._budget.held, self._budget.limit)
        elif self._exceeded and not exceeded:
            logger.info("the channels hold %d bytes again, within the budget", self._budget.held)
        self._exceeded = exceeded
