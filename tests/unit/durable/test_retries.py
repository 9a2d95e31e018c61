"""When packets whose callback has failed are sent again."""

from __future__ import annotations

import pytest

from peernet.config import NetworkConfig
from peernet.durable.packet import Setback
from peernet.durable.retries import Retries
from peernet.runtime import clock, rng

CONFIG = NetworkConfig(durable_attempts=5, durable_backoff_cap=6.0, backoff_base=1.0)


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What time it is."""
    now = [100.0]
    monkeypatch.setattr(clock, "monotonic", lambda: now[0])
    return now


def judge_all(retries: Retries) -> list[Setback]:
    """What becomes of packet 7, as long as it is not set aside."""
    setbacks = [retries.judge("peer", 7)]
    while (pause := setbacks[-1].pause) is not None:
        retries.add("peer", 7, setbacks[-1].attempts, pause)
        setbacks.append(retries.judge("peer", 7))
    return setbacks


def test_the_pauses_grow_up_to_their_cap_until_the_packet_is_set_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rng, "uniform", lambda least, most: most)
    assert [(one.attempts, one.pause) for one in judge_all(Retries(CONFIG))] == [
        (1, 2.0),
        (2, 4.0),
        (3, 6.0),
        (4, 6.0),
        (5, None),
    ]


def test_the_pauses_are_random_and_never_shorter_than_the_base(monkeypatch: pytest.MonkeyPatch) -> None:
    bounds: list[tuple[float, float]] = []

    def draw(least: float, most: float) -> float:
        bounds.append((least, most))
        return least

    monkeypatch.setattr(rng, "uniform", draw)
    assert [one.pause for one in judge_all(Retries(CONFIG))] == [1.0, 1.0, 1.0, 1.0, None]
    assert bounds == [(1.0, 2.0), (1.0, 4.0), (1.0, 6.0), (1.0, 6.0)]


def test_a_single_attempt_may_be_enough() -> None:
    assert Retries(NetworkConfig(durable_attempts=1)).judge("peer", 7) == Setback(7, 1, None)


def test_a_packet_is_due_when_its_pause_is_over_and_it_is_not_under_way(now: list[float]) -> None:
    retries = Retries(CONFIG)
    for number, pause in ((9, 0.0), (3, 1.0), (5, 2.0)):
        retries.add("peer", number, 1, pause)
    assert (retries.due("peer", ()), retries.pause("peer", ())) == ([9], 0.0)
    assert (retries.due("peer", {9}), retries.pause("peer", {9})) == ([], 1.0)
    now[0] += 1.5
    assert (retries.due("peer", ()), retries.pause("peer", {9, 3})) == ([3, 9], 0.5)
    assert (retries.due("other", ()), retries.pause("other", ())) == ([], None)


def test_what_is_discarded_is_never_due(now: list[float]) -> None:
    retries = Retries(CONFIG)
    retries.add("peer", 1, 4, 0.0)
    retries.discard("peer", [1, 2])
    retries.discard("other", [1])
    assert (retries.due("peer", ()), retries.pause("peer", ())) == ([], None)
    assert retries.judge("peer", 1).attempts == 1


def test_attempts_and_pauses_outlive_a_process_whatever_its_clock_said(now: list[float]) -> None:
    retries = Retries(CONFIG)
    retries.restore([("peer", 1, 3, 990.0), ("peer", 2, 3, 1002.0), ("peer", 3, 3, 10.0**9)], 1000.0)
    assert retries.due("peer", ()) == [1]
    assert retries.pause("peer", {1}) == 2.0
    assert retries.pause("peer", {1, 2}) == CONFIG.durable_backoff_cap
    assert retries.judge("peer", 2).attempts == 4
