from __future__ import annotations

import time
from typing import Any

import gevent
import pytest

from peernet.channel.throttle import Throttle, throttle_of
from peernet.config import NetworkConfig
from peernet.runtime import clock


class Times:
    """A clock that only sleeping moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        self.slept: list[float] = []
        monkeypatch.setattr(clock, "monotonic", lambda: self.now)
        monkeypatch.setattr(gevent, "sleep", self.sleep)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def times(monkeypatch: pytest.MonkeyPatch) -> Times:
    return Times(monkeypatch)


def throttled(counted: list[str], **limits: Any) -> Throttle:
    return Throttle(NetworkConfig(**limits), counted.append)


def test_a_burst_is_not_delayed(times: Times) -> None:
    counted: list[str] = []
    throttled(counted).pace(4000, 0, lambda: True)
    assert (times.slept, counted) == ([], [])


def test_a_flood_is_delayed_to_the_rate_and_counted(times: Times) -> None:
    counted: list[str] = []
    throttle = throttled(counted)
    began = times.now
    for _ in range(1000):
        throttle.pace(64, 0, lambda: True)
    assert times.now - began == pytest.approx((64_000 - 4000) / 2000)
    assert set(counted) == {"throttled"}
    assert len(counted) > 900


def test_a_large_control_packet_counts_as_many_frames(times: Times) -> None:
    throttle = throttled([])
    throttle.charge(64_000)
    throttle.pace(4000, 0, lambda: True)
    assert sum(times.slept) == pytest.approx(1000 / 2000)
    throttle.charge(63)  # any ordinary one is a frame and no more
    throttle.pace(0, 0, lambda: True)
    assert sum(times.slept) == pytest.approx(1000 / 2000)


def test_large_frames_count_by_their_bytes(times: Times) -> None:
    counted: list[str] = []
    throttle = throttled(counted)
    throttle.pace(4, 4000 * 1024 - 4 * 1024, lambda: True)
    assert counted == []
    throttle.pace(1, 900_000, lambda: True)
    assert counted == ["throttled"]
    assert sum(times.slept) == pytest.approx((1 + 900_000 / 1024) / 2000)


def test_a_long_pause_ends_when_the_link_does(times: Times) -> None:
    answers = iter([True, True, False])
    throttled([], untrusted_frame_rate=1, untrusted_frame_burst=1).pace(64, 0, lambda: next(answers))
    assert times.slept == [0.1, 0.1]


def test_no_rate_is_no_throttle() -> None:
    assert throttle_of(NetworkConfig(untrusted_frame_rate=0), print) is None
    assert throttle_of(NetworkConfig(), print) is not None


def test_the_clock_is_the_monotonic_one() -> None:
    counted: list[str] = []
    pacing = throttled(counted, untrusted_frame_rate=10_000, untrusted_frame_burst=1)
    began = time.monotonic()
    pacing.pace(101, 0, lambda: True)
    assert time.monotonic() - began >= 0.0099
