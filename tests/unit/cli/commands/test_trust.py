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


def test_a_decision_on_the_beginning_of_an_identifier_says_whom_it_meant(run: Run) -> None:
    run("trust", SOMEBODY)
    assert run("trust", SOMEBODY[:4]).output == f"{SOMEBODY} was trusted already\n"
    for command in ("trust", "allow", "block", "ban"):
        result = run(command, SOMEBODY[:3])
        assert result.exit_code == ExitCode.ERROR
        assert "write at least 4 letters" in result.stderr


@pytest.mark.parametrize("command", ["trust", "untrust", "allow", "block", "unblock", "ban", "unban", "explain"])
def test_a_node_decides_nothing_about_itself(run: Run, command: str) -> None:
    own = json.loads(run("init", "-o", "json").output)["identifier"]
    result = run(command, own)
    assert result.exit_code == ExitCode.ERROR
    assert f"{own[:12]} is this node itself" in result.stderr


@pytest.mark.parametrize("command", ["trust", "allow", "block", "ban", "unban", "send", "ping"])
def test_capital_letters_are_refused(run: Run, command: str) -> None:
    for text in ("S" * 52, "Ssss", f"peer://{'S' * 52}@127.0.0.1:1"):
        result = run(command, text, *(["hi"] if command == "send" else []))
        assert result.exit_code == ExitCode.USAGE


@pytest.mark.parametrize(
    ("command", "others", "if_none"),
    [("trust", [], "nobody is trusted"), ("allow", ["10.0.0.0/8"], "is empty"), ("block", ["10.0.0.0/8"], "nobody")],
)
def test_the_lists_can_be_seen(run: Run, command: str, others: list[str], if_none: str) -> None:
    assert if_none in run(command).output
    for entry in (SOMEBODY, *others):
        run(command, entry)
    assert json.loads(run(command, "-o", "json").output) == [{"entry": entry} for entry in (SOMEBODY, *others)]
    assert run(command).output.split()[1:] == [SOMEBODY, *others]


def test_taking_off_the_allowlist_needs_a_name(run: Run) -> None:
    assert run("allow", "--remove").exit_code == ExitCode.USAGE


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
