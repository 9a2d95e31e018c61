"""A node that is told to end while everybody talks."""

from __future__ import annotations

import pytest

from tools.chaos import shutdown

pytestmark = pytest.mark.stress


def test_a_node_ends_in_time_and_tells_what_became_of_every_packet() -> None:
    figures = shutdown.run(seed=1, **shutdown.SHORT)
    assert [figure for figure in figures if figure.missed] == []
