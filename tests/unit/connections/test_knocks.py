"""Knocks: the first is told of, and few of those that follow."""

from __future__ import annotations

from peernet.connections.knocks import INTERVAL, MOST, Knocks


def test_one_in_a_while_is_told_of_with_the_number_of_all() -> None:
    knocks = Knocks()
    assert knocks.note("mallory", 100.0) == 1
    assert [knocks.note("mallory", 100.0 + second) for second in range(10)] == [None] * 10
    assert knocks.note("bob", 101.0) == 1
    assert knocks.note("mallory", 100.0 + INTERVAL) == 11
    assert knocks.note("mallory", 101.0 + INTERVAL) is None
    assert knocks.note("mallory", 100.0 + 3 * INTERVAL) == 2


def test_it_remembers_no_more_than_some() -> None:
    knocks = Knocks()
    for number in range(MOST + 1):
        assert knocks.note(str(number), 0.0) == 1
    assert knocks.note("1", 1.0) is None
    assert knocks.note("0", 1.0) == 1  # forgotten
