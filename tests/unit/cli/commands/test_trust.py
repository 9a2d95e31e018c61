"""`trust`, `allow`, `block` and `explain` without a running node."""

from __future__ import annotations

import json

import pytest

from peernet.node.failures import ExitCode
from tests.unit.cli.conftest import Run

SOMEBODY = "s" * 52


def test_trust_without_a_node_is_kept(run: Run) -> None:
    assert run("trust", SOMEBODY).output == f"{SOMEBODY[:12]} is trusted\n"
    assert run("trust", SOMEBODY[:5]).output.endswith("was trusted already\n")
    (row,) = [
        row for row in json.loads(run("explain", "s", "-o", "json").output)["decisions"] if row["about"] == "trusted"
    ]
    assert (row["allowed"], row["rule"]) == (True, "trusted_identifiers")
    assert json.loads(run("untrust", "s", "-o", "json").output) == {
        "done": "untrust",
        "entry": SOMEBODY,
        "changed": True,
    }
    assert run("untrust", SOMEBODY).output.endswith("was not trusted\n")


def test_without_tls_nobody_is_said_to_be_trusted(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run("trust", SOMEBODY)
    monkeypatch.setenv("PEERNET_INSECURE", "yes")
    result = run("trust", SOMEBODY)
    assert result.exit_code == ExitCode.REFUSED
    assert "nobody can prove who they are or be trusted" in result.stderr
    rows = {row["about"]: row for row in json.loads(run("explain", SOMEBODY, "-o", "json").output)["decisions"]}
    assert (rows["trusted"]["allowed"], rows["trusted"]["rule"]) == (False, "unproven_identifier")
    assert rows["data_transmission"]["allowed"] is False
    assert run("untrust", SOMEBODY).exit_code == 0


def test_block_and_allow_take_networks_and_peers(run: Run) -> None:
    assert run("block", "10.0.0.0/8").exit_code == 0
    assert "blocked_networks" in run("explain", "10.1.2.3:80").output
    assert run("unblock", "10.0.0.0/8").exit_code == 0
    assert run("allow", SOMEBODY).exit_code == 0
    assert "not on it" in run("explain", "t" * 52).output
    assert run("allow", "--remove", SOMEBODY).exit_code == 0
    assert "no_allowlist" in run("explain", "t" * 52).output


def test_a_blocked_peer_cannot_be_trusted(run: Run) -> None:
    run("block", SOMEBODY)
    result = run("trust", SOMEBODY)
    assert result.exit_code == ExitCode.ERROR
    assert f"unblock {SOMEBODY[:12]}` first" in result.stderr
