"""The regular look at all channels."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from peernet.config import NetworkConfig
from peernet.runtime import clock
from peernet.switch.memory import MemoryGuard
from peernet.switch.ticker import Ticker


class FakeControl:
    """As much of a control as a ticker, and the guard of the memory, look at."""

    held_bytes = 0
    channel = "a channel"

    def __init__(self, *, fails: bool = False) -> None:
        self.ticks: list[tuple[float, float]] = []
        self._fails = fails

    def tick(self, now: float, lag: float) -> None:
        self.ticks.append((now, lag))
        if self._fails:
            raise ValueError("a broken channel")

    def ration(self, *, more: bool) -> None:
        assert more


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, in a list of one."""
    time = [100.0]
    monkeypatch.setattr(clock, "monotonic", lambda: time[0])
    return time


def make_ticker(*controls: Any) -> Ticker:
    config = NetworkConfig()
    return Ticker(config, MemoryGuard(config, Counter(), lambda: controls), lambda: controls)


def test_a_look_is_late_by_what_the_process_stood_still(now: list[float]) -> None:
    control = FakeControl()
    ticker = make_ticker(control)
    ticker.start()
    for passed in (ticker.interval, ticker.interval + 3, ticker.interval / 2):
        now[0] += passed
        ticker.tick()
    moments, lags = zip(*control.ticks, strict=True)
    assert moments[-1] == now[0]
    assert lags == (0, pytest.approx(3), 0)


def test_the_time_before_the_start_is_nobodys_fault(now: list[float]) -> None:
    control = FakeControl()
    ticker = make_ticker(control)
    for _ in range(2):
        now[0] += 1000
        ticker.start()
        now[0] += ticker.interval
        ticker.tick()
    assert [lag for _, lag in control.ticks] == [0, 0]


def test_a_channel_that_fails_does_not_keep_the_others_from_being_looked_at(
    now: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    broken, other = FakeControl(fails=True), FakeControl()
    ticker = make_ticker(broken, other)
    ticker.start()
    ticker.tick()
    assert len(other.ticks) == 1
    assert "the liveness of 'a channel' could not be looked after" in caplog.text
