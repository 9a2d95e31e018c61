"""Refusals: a peer that is refused all the time causes few lines, and none of its packets is forgotten."""

from __future__ import annotations

import weakref
from typing import Any

import pytest

from peernet.node.refusals import INTERVAL, Refusals
from peernet.trust.policy import Decision

WHY = Decision(False, "somerule", "because")


class Channel:
    """Stands for one."""


class Told:
    """Refusals whose lines are remembered as (channel, kind, count)."""

    def __init__(self) -> None:
        self.lines: list[tuple[Any, str, int]] = []
        self.refusals = Refusals(lambda channel, kind, decision, count: self.lines.append((channel, kind, count)))

    def note(self, channel: Any, kind: str, count: int = 1, now: float = 0.0) -> None:
        for _ in range(count):
            self.refusals.note(channel, kind, WHY, now)

    def taken(self) -> list[tuple[Any, str, int]]:
        lines, self.lines = self.lines, []
        return lines


@pytest.fixture
def told() -> Told:
    return Told()


def test_the_first_packet_of_a_peer_and_kind_is_told_at_once(told: Told) -> None:
    for channel, kind in (("alice", "a"), ("alice", "b"), ("bob", "a")):
        told.note(channel, kind, 3)
    assert told.taken() == [("alice", "a", 1), ("alice", "b", 1), ("bob", "a", 1)]


def test_those_that_follow_are_told_together_when_the_time_has_come(told: Told) -> None:
    told.note("alice", "a", 1000)
    told.taken()
    told.refusals.tell_due(INTERVAL - 0.1)
    assert told.taken() == []
    told.refusals.tell_due(INTERVAL)
    assert told.taken() == [("alice", "a", 999)]
    told.note("alice", "a", 10, INTERVAL + 1)
    told.refusals.tell_due(2 * INTERVAL - 0.1)
    assert told.taken() == []
    told.refusals.tell_due(2 * INTERVAL)
    assert told.taken() == [("alice", "a", 10)]


def test_after_a_quiet_time_a_packet_is_the_first_again(told: Told) -> None:
    told.note("alice", "a")
    told.refusals.tell_due(INTERVAL)
    told.note("alice", "a", now=INTERVAL)
    assert told.taken() == [("alice", "a", 1), ("alice", "a", 1)]


def test_when_a_channel_ends_the_rest_is_told(told: Told) -> None:
    told.note("alice", "a", 5)
    told.note("bob", "a", 5)
    told.taken()
    told.refusals.close("alice")  # type: ignore[arg-type]
    told.refusals.close("alice")  # type: ignore[arg-type]
    assert told.taken() == [("alice", "a", 4)]
    told.refusals.tell_due(INTERVAL)
    assert told.taken() == [("bob", "a", 4)]


def test_the_latest_reason_is_the_one_that_is_told() -> None:
    reasons: list[str] = []
    refusals = Refusals(lambda channel, kind, decision, count: reasons.append(decision.rule))
    for rule in ("first", "second", "third"):
        refusals.note("alice", "a", Decision(False, rule, ""), 0.0)  # type: ignore[arg-type]
    refusals.tell_due(INTERVAL)
    assert reasons == ["first", "third"]


def test_nothing_is_kept_of_those_who_are_quiet_or_gone(told: Told) -> None:
    gone, quiet = Channel(), Channel()
    held = [weakref.ref(gone), weakref.ref(quiet)]
    told.note(gone, "a", 2)
    told.refusals.close(gone)  # type: ignore[arg-type]
    told.note(quiet, "a", 2)
    told.refusals.tell_due(INTERVAL)
    told.taken()
    del gone, quiet
    assert [one() is None for one in held] == [True, False]
    told.refusals.tell_due(2 * INTERVAL)
    assert held[1]() is None
