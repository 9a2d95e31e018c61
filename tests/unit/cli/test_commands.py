"""The commands without a running node: parsing, output, exit codes."""

from __future__ import annotations

import errno
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from peernet._version import __version__
from peernet.cli import cli
from peernet.node.failures import ExitCode
from peernet.node.settings import DEFAULTS, variable_of
from peernet.state.home import Home, default_folder
from peernet.switch.stores import BANS
from peernet.trust.bans import Ban
from tests.unit.denial import deny_access_below

SOMEBODY = "s" * 52
Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Run a command on a home of its own."""
    for name in [*map(variable_of, DEFAULTS), "PEERNET_HOME", "PEERNET_OUTPUT"]:
        monkeypatch.delenv(name, raising=False)
    handlers, level = logging.root.handlers[:], logging.root.level

    def invoke(*arguments: str, home: Path = tmp_path / "home", stdin: bytes = b"") -> Result:
        return CliRunner().invoke(cli, ["--home", str(home), *arguments], input=stdin)

    yield invoke
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


def commands() -> Iterator[tuple[str, ...]]:
    for name, command in cli.commands.items():
        yield (name,)
        if isinstance(command, click.Group):
            yield from ((name, inner) for inner in command.commands)


def test_the_commands_are_those_of_the_contract() -> None:
    names = (
        "accept allow bans block completion config connect disconnect doctor explain id init limits listen outbox "
        "peers pending ping reject run send status stop trust unban unblock untrust"
    )
    assert " ".join(sorted(cli.commands)) == names


@pytest.mark.parametrize("command", list(commands()), ids=" ".join)
def test_every_command_and_every_option_has_a_sentence_of_help(run: Run, command: tuple[str, ...]) -> None:
    result = run(*command, "--help")
    assert result.exit_code == 0
    assert result.output.startswith("Usage:")
    found = cli.commands[command[0]]
    if isinstance(found, click.Group) and len(command) == 2:
        found = found.commands[command[1]]
    assert found.help
    assert all(option.help for option in found.params if isinstance(option, click.Option))


def test_version(run: Run) -> None:
    result = CliRunner().invoke(cli, ["--version"])
    assert (result.exit_code, result.output) == (0, f"peernet-node {__version__}\n")


def test_init_and_id_agree_and_init_keeps_what_is_there(run: Run) -> None:
    made = json.loads(run("init", "-o", "json").output)
    Path(made["settings"]).write_text('[node]\nnetwork = "mine"\n')
    assert json.loads(run("init", "-o", "json").output) == made
    assert run("id").output == made["identifier"] + "\n"
    assert json.loads(run("id", "-o", "jsonl").output) == {"identifier": made["identifier"]}
    assert "mine" in Path(made["settings"]).read_text()


def test_id_without_a_key_says_how_to_make_one(run: Run) -> None:
    result = run("id")
    assert result.exit_code == ExitCode.ERROR
    assert "`peernet-node init` makes one" in result.stderr
    assert result.stdout == ""


def test_the_output_format_can_be_given_anywhere(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run("init")
    after, before = run("config", "path", "-o", "json").output, run("-o", "json", "config", "path").output
    monkeypatch.setenv("PEERNET_OUTPUT", "json")
    assert json.loads(after) == json.loads(before) == json.loads(run("config", "path").output)
    assert run("config", "path", "-o", "table").output.endswith("config.toml\n")


@pytest.mark.parametrize(
    "command",
    [
        ("status",),
        ("stop",),
        ("pending",),
        ("connect", "127.0.0.1:1"),
        ("disconnect", "abc"),
        ("accept", "abc"),
        ("reject", "abc"),
        ("listen",),
    ],
    ids=" ".join,
)
def test_what_needs_a_node_says_how_to_start_one(run: Run, command: tuple[str, ...]) -> None:
    result = run(*command)
    assert result.exit_code == ExitCode.NOT_RUNNING
    assert "no node is running" in result.stderr
    assert "start one with `peernet-node --home" in result.stderr


@pytest.mark.parametrize(
    "command",
    [
        ("frobnicate",),
        ("send", "abc"),
        ("send", "abc", "text", "--data", "-"),
        ("send", "a b", "text"),
        ("send", "a@b", "text"),
        ("send", "abc", "--data", "/nonexistent"),
        ("send", "abc", "text", "--timeout", "0"),
        ("block", "10.0.0.1/8"),
        ("allow", "10.0.0.300"),
        ("unblock", "n0tanidentifier"),
        ("trust", "a" * 53),
        ("run", "--listen", "nowhere"),
        ("run", "--connect", "nowhere"),
        ("run", "--placement", "floor"),
        ("ping", "abc", "--count", "0"),
        ("listen", "--event", "party"),
        ("status", "-o", "xml"),
        ("completion", "tcsh"),
    ],
    ids=" ".join,
)
def test_wrong_usage(run: Run, command: tuple[str, ...]) -> None:
    result = run(*command)
    assert result.exit_code == ExitCode.USAGE
    assert "Error: " in result.stderr


def test_an_empty_home_is_wrong_usage_and_an_empty_variable_is_none(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    result = CliRunner().invoke(cli, ["--home", "", "config", "path"])
    assert result.exit_code == ExitCode.USAGE
    assert "it is empty" in result.stderr
    for name in ("PEERNET_HOME", "PEERNET_OUTPUT"):
        monkeypatch.setenv(name, "")
    assert CliRunner().invoke(cli, ["config", "path"]).output == f"{Home(default_folder()).config_file}\n"


def test_what_is_no_address_to_listen_on_is_called_so(run: Run) -> None:
    assert "'nowhere' is not an address to listen on; write host:port" in run("run", "--listen", "nowhere").stderr


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="only some systems have it")
@pytest.mark.parametrize("arguments", [("limits",), ("--help",), ("config", "show", "-o", "json")], ids=" ".join)
def test_a_stdout_that_takes_nothing_is_one_sentence(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    command = [sys.executable, "-m", "peernet", "--home", str(tmp_path), *arguments]
    with open("/dev/full", "wb") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == ExitCode.ERROR
    assert done.stderr == "Error: cannot write to stdout (No space left on device); make room\n"


@pytest.mark.parametrize("command", ["init", "run"])
def test_a_full_disk_is_one_sentence(run: Run, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "pwrite", no_space)
    result = run(command)
    assert result.exit_code == ExitCode.ERROR
    assert "lock (No space left on device); make room, or choose another --home" in result.stderr


def test_an_error_of_the_system_that_nobody_expects_names_the_file(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Home, "locked", no_space)
    result = run("init")
    assert result.exit_code == ExitCode.ERROR
    assert result.stderr == "Error: the file: No space left on device; make room\n"


def no_space(*_: object, **__: object) -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "the file")


def test_init_with_nothing_to_write_succeeds_while_the_home_is_in_use(run: Run, tmp_path: Path) -> None:
    made = run("init").output
    with Home(tmp_path / "home").locked():
        assert run("init").output == made
        (tmp_path / "home" / "config.toml").unlink()
        assert "uses the home folder" in run("init").stderr


@pytest.mark.parametrize(
    "command",
    [
        ("send", "abc", "\udcff"),
        ("send", "abc", "--data", "-", "--name", "\udcff"),
        ("send", "abc", "text", "--network", "\udcff"),
        ("reject", "abc", "--message", "\udcff"),
        ("run", "--network", "\udcff"),
    ],
)
def test_text_that_is_no_utf_8_is_refused(run: Run, command: tuple[str, ...]) -> None:
    result = run(*command)
    assert result.exit_code == ExitCode.USAGE
    assert "it is not UTF-8 text" in result.stderr


def test_a_file_whose_name_is_no_utf_8_needs_another_name(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "data\udcff"
    file.write_bytes(b"x")
    result = run("send", "127.0.0.1:1", "--data", str(file))
    assert result.exit_code == ExitCode.USAGE
    assert "give the data another with --name" in result.stderr
    assert "not UTF-8" not in run("send", "127.0.0.1:1", "--data", str(file), "--name", "data").stderr


def test_a_network_name_from_the_environment_that_is_no_utf_8(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PEERNET_NETWORK", "\udcff")
    result = run("config", "show")
    assert result.exit_code == ExitCode.ERROR
    assert "PEERNET_NETWORK: network: it is not UTF-8 text" in result.stderr


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


@pytest.mark.parametrize("command", [("explain", SOMEBODY), ("peers",)], ids=" ".join)
def test_looking_leaves_damaged_files_where_they_are(run: Run, tmp_path: Path, command: tuple[str, ...]) -> None:
    (tmp_path / "home").mkdir(mode=0o700)
    for name in ("trust.json", "peers.json"):
        (tmp_path / "home" / name).write_text("junk")
    result = run(*command)
    assert result.exit_code == 0
    assert "trust.json is damaged" in result.stderr
    assert sorted(file.name for file in (tmp_path / "home").iterdir()) == ["peers.json", "trust.json"]


def keep_bans(home: Path, *bans: Ban) -> None:
    home.mkdir(mode=0o700)
    BANS.save(home / "bans.json", list(bans))


def test_bans_that_are_kept_are_listed_and_lifted(run: Run, tmp_path: Path) -> None:
    now = time.time()
    mallory = Ban(SOMEBODY, "bad_packet", 100.0, now - 7200, now + 79_200)
    customer = Ban("2001:db8::/56", "noise", 0.0, now - 60, now + 60, manual=True)
    over = Ban("203.0.113.7", "rate_limited", 100.0, now - 60, now - 1)
    keep_bans(tmp_path / "home", mallory, customer, over)
    assert json.loads(run("bans", "-o", "json").output) == [mallory.to_dict(), customer.to_dict()]
    lines = run("bans").output.splitlines()
    assert lines[0].split() == ["WHO", "WHY", "SCORE", "SINCE", "EXPIRES", "BY", "HAND"]
    assert lines[1].split() == [SOMEBODY[:12], "bad_packet", "100.0", "2", "h", "ago", "in", "21", "h", "no"]
    assert run("unban", SOMEBODY[:5]).output == f"unbanned {SOMEBODY[:12]}\n"
    assert json.loads(run("unban", "2001:db8::1", "-o", "json").output) == {"unbanned": ["2001:db8::/56"]}
    assert run("bans").output == "nobody is banned\n"


def test_all_bans_can_be_lifted_at_once(run: Run, tmp_path: Path) -> None:
    now = time.time()
    keep_bans(tmp_path / "home", *(Ban(f"203.0.113.{number}", "", 0.0, now, now + 60) for number in range(3)))
    assert len(json.loads(run("unban", "--all", "-o", "json").output)["unbanned"]) == 3
    assert run("unban", "--all").output == "unbanned nobody\n"
    assert run("bans", "-o", "json").output == "[]\n"


@pytest.mark.parametrize("arguments", [(), (SOMEBODY, "--all"), ("10.0.0.0/8",), ("no one",)])
def test_unban_wants_one_or_all(run: Run, arguments: tuple[str, ...]) -> None:
    assert run("unban", *arguments).exit_code == ExitCode.USAGE


@pytest.mark.parametrize("who", [SOMEBODY, "203.0.113.7", "somebody"])
def test_who_is_not_banned_cannot_be_unbanned(run: Run, who: str) -> None:
    result = run("unban", who)
    assert result.exit_code == ExitCode.ERROR
    assert "Error:" in result.stderr


def test_looking_leaves_damaged_bans_where_they_are(run: Run, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir(mode=0o700)
    (tmp_path / "home" / "bans.json").write_text("junk")
    result = run("bans")
    assert (result.exit_code, result.stdout) == (0, "nobody is banned\n")
    assert "bans.json is damaged" in result.stderr
    assert [file.name for file in (tmp_path / "home").iterdir()] == ["bans.json"]
    assert "bans.json" in run("doctor").output


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


def test_peers_without_a_node(run: Run) -> None:
    assert "no peers are known yet" in run("peers").output
    assert run("peers", "-o", "json").output == "[]\n"
    assert run("peers", "-o", "jsonl").output == ""


def test_limits(run: Run) -> None:
    rows = json.loads(run("limits", "-o", "json").output)
    assert {"name", "value", "default", "source", "unit", "at_limit"} == set(rows[0])
    assert "max_frame" in run("limits").output


def test_limits_tell_where_each_comes_from(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    made = json.loads(run("init", "-o", "json").output)
    Path(made["settings"]).write_text('[node]\nprofile = "tiny"\n[limits]\nmax_inbound = 3\n')
    monkeypatch.setenv("PEERNET_ALLOW_LOOPBACK_BURST", "yes")

    def listed(*arguments: str) -> dict[str, tuple[Any, str]]:
        rows = json.loads(run("limits", *arguments, "-o", "json").output)
        return {row["name"]: (row["value"], row["source"]) for row in rows}

    found = listed()
    assert found["max_inbound"] == (3, "file")
    assert found["max_outbound"] == (8, "profile")
    assert found["handshake_timeout"] == (10, "default")
    assert found["allow_loopback_burst"] == (True, "environment")
    assert listed("--profile", "server")["max_outbound"] == (256, "profile")
    assert listed("--profile", "default")["max_outbound"] == (16, "default")
    shown = {row["name"]: row for row in json.loads(run("config", "show", "-o", "json").output)}
    assert (shown["profile"]["value"], shown["profile"]["source"]) == ("tiny", "file")
    assert shown["limits.max_outbound"]["source"] == "profile"
    assert shown["limits.max_inbound"]["source"] == "file"


def test_config_show_tells_where_each_setting_comes_from(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    made = json.loads(run("init", "-o", "json").output)
    Path(made["settings"]).write_text('[node]\nnetwork = "mine"\n[limits]\nmax_inbound = 3\n')
    monkeypatch.setenv("PEERNET_PLACEMENT", "queue")
    rows = {row["name"]: row for row in json.loads(run("config", "show", "-o", "json").output)}
    assert (rows["network"]["value"], rows["network"]["source"]) == ("mine", "file")
    assert rows["placement"]["source"] == "environment"
    assert rows["listen"]["source"] == "default"
    assert rows["limits.max_inbound"]["value"] == 3


def test_config_validate(run: Run) -> None:
    assert "need not" in run("config", "validate").output
    made = json.loads(run("init", "-o", "json").output)
    assert "is valid" in run("config", "validate").output
    Path(made["settings"]).write_text("[node]\nx = 1\n")
    result = run("config", "validate")
    assert result.exit_code == ExitCode.CHECK_FAILED
    assert "no setting 'x'" in result.stderr
    assert run("run").exit_code == ExitCode.ERROR
    Path(made["settings"]).write_text("y = 1\n[node]\nx = 1\nplacement = 1\n[limits]\nmax_pending = 0\nz = 1\n")
    told = run("config", "validate").stderr.splitlines()
    for line, mistake in zip(
        told, ("y stands", "'x' in", "placement:", "unknown limit 'z'", "max_pending"), strict=True
    ):
        assert line.startswith("Error: ")
        assert mistake in line


def test_doctor(run: Run, tmp_path: Path) -> None:
    names = {row["name"] for row in json.loads(run("doctor", "-o", "json").stdout)}
    assert {"python", "gevent patches", "TLS 1.3", "open files", "home"} <= names
    run("init")
    key = tmp_path / "home" / "key.pem"
    key.chmod(0o644)
    (tmp_path / "home" / "trust.json").write_text("junk")
    result = run("doctor")
    assert result.exit_code == ExitCode.CHECK_FAILED
    assert "chmod 600" in result.output
    assert "key permissions, trust.json" in result.stderr


def test_doctor_finds_a_home_that_others_can_change(run: Run, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home").chmod(0o777)
    result = run("doctor")
    assert result.exit_code == ExitCode.CHECK_FAILED
    assert "chmod go-w" in result.output
    for command in (["init"], ["trust", SOMEBODY], ["run"]):
        result = run(*command)
        assert result.exit_code == ExitCode.ERROR
        assert "chmod go-w" in result.stderr
    assert list((tmp_path / "home").iterdir()) == []


def test_a_home_in_a_folder_that_cannot_be_searched(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = tmp_path / "closed"
    run("init")  # so that all is imported that these commands need
    run("doctor")
    deny_access_below(closed, monkeypatch)
    home = closed / "home"
    for command in (["init"], ["trust", SOMEBODY], ["id"], ["config", "show"], ["explain", SOMEBODY], ["peers"]):
        result = run(*command, home=home)
        assert isinstance(result.exception, SystemExit), command
        assert result.exit_code == ExitCode.ERROR
        assert result.stderr.startswith("Error: ")
        assert "Permission denied" in result.stderr
    result = run("doctor", home=home)
    assert result.exit_code == ExitCode.CHECK_FAILED
    assert "cannot be used (Permission denied)" in result.output
    assert json.loads(run("config", "path", "-o", "json", home=home).output)["exists"] is False


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(run: Run, shell: str) -> None:
    assert "_PEERNET_NODE_COMPLETE" in run("completion", shell).output


def test_a_home_that_is_a_file(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for command in (
        ["init"],
        ["trust", SOMEBODY],
        ["run"],
        ["peers"],
        ["status"],
        ["id"],
        ["limits"],
        ["explain", SOMEBODY],
    ):
        result = run(*command, home=tmp_path / "file")
        assert result.exit_code == ExitCode.ERROR
        assert "is a file, not a folder; choose another" in result.stderr


def test_a_damaged_key_is_refused_and_kept(run: Run, tmp_path: Path) -> None:
    run("init")
    key = tmp_path / "home" / "key.pem"
    key.write_text("junk")
    for command in (["init"], ["id"], ["run"], ["send", "127.0.0.1:1", "x"]):
        result = run(*command)
        assert result.exit_code == ExitCode.ERROR
        assert "is damaged; restore it" in result.stderr
    assert key.read_text() == "junk"


def test_data_that_fits_into_no_packet(run: Run) -> None:
    result = run("send", "127.0.0.1:1", "--data", "-", stdin=b"x" * (1024 * 1024 + 1))
    assert result.exit_code == ExitCode.ERROR
    assert "does not fit into one packet" in result.stderr
