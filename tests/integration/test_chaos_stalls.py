"""Peers that stand still for a while, and peers that are gone while a callback keeps a node from reading."""

from __future__ import annotations

import pytest

from tools.chaos import stalls

pytestmark = pytest.mark.stress


def test_only_a_peer_that_is_gone_is_given_up() -> None:
    figures = stalls.run(seed=1, **stalls.SHORT)
    assert [figure for figure in figures if figure.missed] == []
