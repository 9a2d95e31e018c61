"""Nodes to attack."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import pytest

from tests.hostile.node import Victim


class Victims(Protocol):
    def __call__(self, *arguments: str, verbose: bool = False, **limits: Any) -> Victim: ...


@pytest.fixture
def victims(tmp_path: Path) -> Iterator[Victims]:
    """Starts a node with these arguments for ``run`` and these limits."""

    def start(*arguments: str, verbose: bool = False, **limits: Any) -> Victim:
        return stack.enter_context(Victim(tmp_path / "home", *arguments, verbose=verbose, **limits))

    with ExitStack() as stack:
        yield start
