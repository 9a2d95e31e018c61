"""What is told of stored packets that are not delivered."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from peernet.durable.packet import Setback
from peernet.durable.reporter import DurableReporter
from peernet.reasons import Reason


class Owner:
    """A network that notes what it is told."""

    def __init__(self) -> None:
        self.counters: Counter[str] = Counter()
        self.aside: list[tuple[Any, ...]] = []

    def on_set_aside(self, *about: Any) -> None:
        self.aside.append(about)


@pytest.fixture
def owner() -> Owner:
    return Owner()


@pytest.fixture
def reporter(owner: Owner) -> DurableReporter:
    return DurableReporter(owner)  # type: ignore[arg-type]


def test_refused_packets_are_counted_and_logged_by_their_reason(
    owner: Owner, reporter: DurableReporter, caplog: pytest.LogCaptureFixture
) -> None:
    reporter.tell_refused("peer", [(1, None), (2, Reason.UNHANDLED), (3, Reason.UNHANDLED), (4, Reason.TOO_BIG)])
    assert owner.counters == {"durable_refused": 3}
    assert len(caplog.records) == 2
    assert "durable outbox: 2 packets for peer refused: Nobody handles" in caplog.text
    assert "durable outbox: 1 packet for peer refused: The packet exceeds" in caplog.text


def test_only_what_is_set_aside_and_still_stored_is_told(
    owner: Owner, reporter: DurableReporter, caplog: pytest.LogCaptureFixture
) -> None:
    setbacks = [Setback(1, 1, 5.0), Setback(2, 3, None), Setback(3, 3, None), Setback(4, 3, None)]
    reporter.tell_set_back("peer", setbacks, {1: b"1", 2: b"2", 4: b"4"})
    assert owner.counters == {"durable_aside": 2}
    assert owner.aside == [("peer", b"2", 3), ("peer", b"4", 3)]
    (record,) = caplog.records
    assert "durable outbox: 2 packets for peer set aside" in record.getMessage()
    assert "failed 3 times" in record.getMessage()


def test_of_packets_that_are_tried_again_nothing_is_told(
    owner: Owner, reporter: DurableReporter, caplog: pytest.LogCaptureFixture
) -> None:
    reporter.tell_set_back("peer", [Setback(1, 1, 5.0)], {1: b"1"})
    assert (owner.counters, owner.aside, caplog.records) == ({}, [], [])
