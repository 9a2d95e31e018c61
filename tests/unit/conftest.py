from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.unit.channels import Setup, Setups


@pytest.fixture
def setups() -> Iterator[Setups]:
    made: list[Setup] = []

    def make(**options: Any) -> Setup:
        options.setdefault("acknowledge_after", 0.001)
        made.append(Setup(**options))
        return made[-1]

    yield make
    for setup in made:
        setup.end()


@pytest.fixture
def setup(setups: Setups) -> Setup:
    return setups()
