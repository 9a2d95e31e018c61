"""A node that is told to end while everybody talks."""

from __future__ import annotations

from tools.chaos import shutdown


def test_a_node_ends_in_time_and_tells_what_became_of_every_packet() -> None:
    figures = shutdown.run(seed=1, **shutdown.SHORT)
    assert [figure for figure in figures if figure.missed] == []
