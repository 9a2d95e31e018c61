"""The figures of a running node."""

from __future__ import annotations

import gc
import time

import gevent
import pytest

from peernet.node import status


def test_greenlets_are_counted_at_most_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    walks: list[int] = []
    now = [100.0]

    def get_objects() -> list[object]:
        walks.append(1)
        return [gevent.getcurrent()]

    monkeypatch.setattr(gc, "get_objects", get_objects)
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    count = status.GreenletCount()
    assert [count.latest, count.latest, len(walks)] == [1, 1, 1]
    now[0] += status.COUNT_INTERVAL
    assert [count.latest, len(walks)] == [1, 2]
