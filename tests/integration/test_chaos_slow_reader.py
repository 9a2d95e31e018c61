"""Peers that read nothing."""

from __future__ import annotations

import pytest

from tools.chaos import slow_reader

pytestmark = pytest.mark.stress


def test_slow_readers_cost_little_and_are_cut_off() -> None:
    figures = slow_reader.run(seed=1, **slow_reader.SHORT)
    assert [figure for figure in figures if figure.missed] == []
