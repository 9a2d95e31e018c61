"""What holds for all commands: parsing, output, exit codes, errors."""

from __future__ import annotations

import errno
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import click
import platformdirs
import pytest
from click.testing import CliRunner

from peernet._version import __version__
from peernet.cli import cli, foreground
from peernet.cli.output import CLOCK
from peernet.cli.session import Session
from peernet.node.events import make_event
from peernet.node.failures import ExitCode
from peernet.state.home import Home, default_folder
from tests.unit.cli.conftest import Run
from tests.unit.denial import deny_access_below

SOMEBODY = "s" * 52


def commands() -> Iterator[tuple[str, ...]]:
    for name, command in cli.commands.items():
        yield (name,)
        if isinstance(command, click.Group):
            yield from ((name, inner) for inner in command.commands)


def test_the_commands_are_those_of_the_contract() -> None:
    names = (
        "accept allow ban bans block completion config connect disconnect doctor explain id init limits listen outbox "
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
        ("listen", "--from", "Abc"),
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


@pytest.mark.parametrize("command", [("explain", SOMEBODY), ("peers",)], ids=" ".join)
def test_looking_leaves_damaged_files_where_they_are(run: Run, tmp_path: Path, command: tuple[str, ...]) -> None:
    (tmp_path / "home").mkdir(mode=0o700)
    for name in ("trust.json", "peers.json"):
        (tmp_path / "home" / name).write_text("junk")
    result = run(*command)
    assert result.exit_code == 0
    assert "trust.json is damaged" in result.stderr
    assert sorted(file.name for file in (tmp_path / "home").iterdir()) == ["peers.json", "trust.json"]


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


def test_a_mistake_of_ours_is_one_sentence_and_told_in_full_only_if_that_is_asked_for(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("oh\x1b dear")

    monkeypatch.setattr(Home, "create", fail)
    result = run("init")
    assert result.exit_code == ExitCode.ERROR
    assert result.stderr.startswith("Error: this is a mistake in peernet (ZeroDivisionError: oh\\x1b dear)")
    assert result.stderr.count("\n") == 1
    assert "Traceback" in run("-v", "init").stderr


def test_ctrl_c_is_silent(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Home, "create", interrupt)
    result = run("init")
    assert (result.exit_code, result.output) == (ExitCode.INTERRUPTED, "")


@pytest.mark.parametrize("command", ["init", "run", "status", "doctor", "peers"])
def test_a_user_without_a_home_folder_is_told_to_name_one(
    run: Run, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nobody_knows(*_: object, **__: object) -> str:
        raise RuntimeError("could not determine the home directory")

    monkeypatch.setattr(platformdirs, "user_data_dir", nobody_knows)
    result = CliRunner().invoke(cli, [command])
    assert result.exit_code == ExitCode.ERROR
    assert result.stderr == "Error: this user has no home folder (HOME is not set); name a folder with --home\n"


def test_a_process_whose_user_is_unknown_to_the_system_is_told_so_too() -> None:
    script = (
        "import pwd, sys; pwd.getpwuid = {}.__getitem__; sys.argv[1:] = ['init']; "
        "from peernet.__main__ import main; main()"
    )
    environment = {name: value for name, value in os.environ.items() if name not in ("HOME", "XDG_DATA_HOME")}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == ExitCode.ERROR
    assert done.stderr == "Error: this user has no home folder (HOME is not set); name a folder with --home\n"


@pytest.mark.parametrize(
    ("before", "after", "level"),
    [
        ((), (), logging.WARNING),
        (("-v",), (), logging.INFO),
        ((), ("-v",), logging.INFO),
        (("-v",), ("-v",), logging.DEBUG),
        ((), ("-vv",), logging.DEBUG),
        ((), ("-q",), logging.ERROR),
        (("-q",), ("-qq",), logging.ERROR),
        (("-v",), ("--quiet",), logging.WARNING),
    ],
)
def test_how_much_is_logged_can_be_said_before_and_after_run(
    run: Run, before: tuple[str, ...], after: tuple[str, ...], level: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    levels: list[int] = []

    def locked(home: Home, patience: float = 0.0) -> nullcontext[None]:
        levels.append(logging.root.level)
        return nullcontext()

    monkeypatch.setattr(Home, "locked", locked)
    monkeypatch.setattr(foreground, "run_in_foreground", lambda *_: None)
    assert run(*before, "run", *after).exit_code == 0
    assert levels == [level]


@pytest.mark.usefixtures("run")  # which puts the log back
def test_the_log_and_the_events_have_one_clock(capsys: pytest.CaptureFixture[str]) -> None:
    session = Session()
    session.log_to()
    logging.getLogger("peernet.test").warning("look at `peernet-node peers`")
    record = capsys.readouterr().err.split("  ")[0]
    assert time.strptime(record, CLOCK)
    assert time.strptime(session.line_of(make_event("ready", identifier="a", addresses=[])).split("  ")[0], CLOCK)
