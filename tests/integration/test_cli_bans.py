"""Bans of a running node, and of the one after it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from peernet.node.failures import ExitCode
from peernet.switch.stores import BANS
from peernet.trust.bans import Ban
from peernet.v1 import packet_pb2 as pb
from tests.integration import attackers
from tests.support import known
from tools.node_process import NodeProcess, command

pytestmark = pytest.mark.processes

STRANGER = "203.0.113.7"


def farewell(node: NodeProcess, credentials: attackers.Credentials) -> str | None:
    """What somebody is told who dials a node; ``None`` if nothing, because there is a channel."""
    attacker = attackers.dial(node.address, credentials=credentials)
    try:
        attacker.send_hello()
        answer = known(attacker.receive())
        assert answer is not None
        return None if answer.HasField("hello") else pb.DisconnectReason.Name(answer.disconnect.reason)
    finally:
        attacker.leave()


def test_bans_outlive_the_node_until_they_are_lifted(tmp_path: Path) -> None:
    home, now, mallory = tmp_path / "home", time.time(), attackers.Credentials.ed25519()
    home.mkdir(mode=0o700)
    bans = [Ban(who, "bad_packet", 100.0, now - 60, now + 3600) for who in (mallory.identifier, STRANGER)]
    BANS.save(home / "bans.json", bans)
    with NodeProcess(home, "--network", "test") as node:
        assert farewell(node, mallory) == "DISCONNECT_REASON_BANNED"
        status = node.command("status", "-o", "json").json
        assert (status["banned"], status["counters"]["banned"]) == (2, 1)
        shown = node.command("bans", "-o", "json").json
        assert [(row["who"], row["reason"]) for row in shown] == [
            (STRANGER, "bad_packet"),
            (mallory.identifier, "bad_packet"),
        ]
        assert all(abs(row["expires"] - now - 3600) < 60 for row in shown)
        (row, *_) = node.command("explain", mallory.identifier, "-o", "json").json["decisions"]
        assert (row["allowed"], row["rule"]) == (False, "banned")
        assert node.command("unban", "198.51.100.1").code == ExitCode.ERROR
        assert node.command("unban", mallory.identifier[:10], "-o", "json").json == {"unbanned": [mallory.identifier]}
        assert [ban.who for ban in BANS.load(home / "bans.json")] == [STRANGER]  # kept at once
        assert farewell(node, mallory) is None
        assert node.terminate() == 0
    assert [row["who"] for row in command(home, "bans", "-o", "json").json] == [STRANGER]
    with NodeProcess(home) as node:
        assert node.command("unban", "--all", "-o", "json").json == {"unbanned": [STRANGER]}
    assert command(home, "bans").out == "nobody is banned\n"


def test_damaged_bans_are_set_aside_and_the_node_starts(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    BANS.save(home / "bans.json", [Ban(STRANGER, "", 0.0, 0.0, 1e10)])
    (home / "bans.json").write_bytes((home / "bans.json").read_bytes().replace(b"203.", b"204."))
    with NodeProcess(home) as node:
        assert node.command("bans", "-o", "json").json == []
        assert "bans.json is damaged (its checksum is wrong" in node.log
    assert list(home.glob("bans.json.damaged-*"))


def test_a_node_with_a_damaged_key_does_not_start(tmp_path: Path) -> None:
    home = tmp_path / "home"
    assert command(home, "init").code == 0
    key = home / "key.pem"
    key.write_bytes(key.read_bytes()[:-20])
    before = key.read_bytes()
    result = command(home, "run")
    assert result.code == ExitCode.ERROR
    assert "is damaged; restore it from a backup" in result.err
    assert key.read_bytes() == before


def test_a_running_node_bans_at_once_and_tells_of_it(tmp_path: Path) -> None:
    with NodeProcess(tmp_path / "alice") as alice, NodeProcess(tmp_path / "bob", "--connect", alice.address) as bob:
        alice.wait_for("peer_added")
        done = alice.command("ban", bob.identifier[:4], "--for", "1h")
        assert done.out == f"{bob.identifier} is banned for 1 h\n"
        assert alice.wait_for("banned")["who"] == bob.identifier
        assert bob.wait_for("peer_removed")["reason"] == "banned"
        (row,) = alice.command("bans", "-o", "json").json
        assert (row["manual"], round(row["expires"] - row["since"])) == (True, 3600)
        assert [ban.who for ban in BANS.load(tmp_path / "alice" / "bans.json")] == [bob.identifier]  # kept at once
        assert "is not banned" in alice.command("unban", alice.address.replace(alice.identifier, "z" * 52)).err
        assert alice.command("unban", bob.identifier[:4]).out == f"unbanned {bob.identifier[:12]}\n"


def test_the_lists_of_a_running_node_can_be_seen_and_their_changes_are_events(tmp_path: Path) -> None:
    with NodeProcess(tmp_path / "alice") as alice:
        somebody = "s" * 52
        for command_name, which, entry in (
            ("trust", "trusted", somebody),
            ("allow", "allowed", somebody),
            ("block", "blocked", "10.0.0.0/8"),
        ):
            for _ in range(2):  # the second time nothing changes
                assert alice.command(command_name, entry).code == 0
            event = alice.wait_for("list_changed")
            assert (event["list"], event["entry"], event["added"]) == (which, entry, True)
            assert alice.command(command_name, "-o", "json").json == [{"entry": entry}]
        assert alice.command("unblock", "10.0.0.0/8").code == 0
        event = alice.wait_for("list_changed")  # and no other
        assert (event["list"], event["entry"], event["added"]) == ("blocked", "10.0.0.0/8", False)
        assert alice.command("block").out == "nobody is blocked\n"
        assert alice.command("trust", "sss").err.startswith("Error: 'sss' is too short for a decision")
        assert "is this node itself" in alice.command("trust", alice.identifier).err
        assert "is this node itself" in alice.command("send", alice.identifier, "hi").err
