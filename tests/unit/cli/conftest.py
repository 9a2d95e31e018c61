"""Commands run in this process, on a home of their own."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from peernet.cli import cli
from peernet.node.settings import DEFAULTS, variable_of

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Run a command on a home of its own."""
    for name in [*map(variable_of, DEFAULTS), "PEERNET_HOME", "PEERNET_OUTPUT", "COLUMNS"]:
        monkeypatch.delenv(name, raising=False)
    handlers, level = logging.root.handlers[:], logging.root.level

    def invoke(*arguments: str, home: Path = tmp_path / "home", stdin: bytes = b"") -> Result:
        return CliRunner().invoke(cli, ["--home", str(home), *arguments], input=stdin)

    yield invoke
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)
