"""Clients whose hub is killed and started again."""

from __future__ import annotations

import pytest

from tools.chaos import storm

pytestmark = pytest.mark.stress


def test_all_clients_come_back_to_a_hub_that_was_killed_and_none_too_eagerly() -> None:
    figures = storm.run(seed=1, **storm.SHORT)
    assert [figure for figure in figures if figure.missed] == []
