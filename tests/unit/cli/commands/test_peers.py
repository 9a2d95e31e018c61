"""`peers` without a running node."""

from __future__ import annotations

from tests.unit.cli.conftest import Run

SOMEBODY = "s" * 52


def test_peers_without_a_node(run: Run) -> None:
    assert "no peers are known yet" in run("peers").output
    assert run("peers", "-o", "json").output == "[]\n"
    assert run("peers", "-o", "jsonl").output == ""
