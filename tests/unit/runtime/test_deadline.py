from __future__ import annotations

import pytest

from peernet.runtime import clock
from peernet.runtime.deadline import Deadline


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    moment = [1000.0]
    monkeypatch.setattr(clock, "monotonic", lambda: moment[0])
    return moment


def test_a_deadline_runs_down_and_stays_at_nothing(now: list[float]) -> None:
    deadline = Deadline(5)
    assert (deadline.remaining, deadline.expired) == (5, False)
    now[0] += 4
    assert (deadline.remaining, deadline.expired) == (1, False)
    now[0] += 1
    assert (deadline.remaining, deadline.expired) == (0, True)
    now[0] += 100
    assert (deadline.remaining, deadline.expired) == (0, True)


def test_without_a_timeout_it_never_comes(now: list[float]) -> None:
    deadline = Deadline(None)
    now[0] += 1e9
    assert (deadline.remaining, deadline.expired, deadline.cap(7)) == (None, False, 7)


@pytest.mark.parametrize("timeout", [0, -1])
def test_no_time_has_run_out_at_once(timeout: float) -> None:
    assert Deadline(timeout).expired
    assert Deadline(timeout).remaining == 0


@pytest.mark.parametrize(("wanted", "granted"), [(3, 3), (5, 5), (8, 5)])
def test_no_wait_is_longer_than_what_is_left(wanted: float, granted: float, now: list[float]) -> None:
    assert Deadline(5).cap(wanted) == granted
