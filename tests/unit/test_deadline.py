from __future__ import annotations

import time

import pytest

from peernet.deadline import Deadline


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_a_deadline_runs_down_and_stays_at_nothing(clock: list[float]) -> None:
    deadline = Deadline(5)
    assert (deadline.remaining, deadline.expired) == (5, False)
    clock[0] += 4
    assert (deadline.remaining, deadline.expired) == (1, False)
    clock[0] += 1
    assert (deadline.remaining, deadline.expired) == (0, True)
    clock[0] += 100
    assert (deadline.remaining, deadline.expired) == (0, True)


def test_without_a_timeout_it_never_comes(clock: list[float]) -> None:
    deadline = Deadline(None)
    clock[0] += 1e9
    assert (deadline.remaining, deadline.expired, deadline.cap(7)) == (None, False, 7)


@pytest.mark.parametrize("timeout", [0, -1])
def test_no_time_has_run_out_at_once(timeout: float) -> None:
    assert Deadline(timeout).expired
    assert Deadline(timeout).remaining == 0


@pytest.mark.parametrize(("wanted", "granted"), [(3, 3), (5, 5), (8, 5)])
def test_no_wait_is_longer_than_what_is_left(wanted: float, granted: float, clock: list[float]) -> None:
    assert Deadline(5).cap(wanted) == granted
