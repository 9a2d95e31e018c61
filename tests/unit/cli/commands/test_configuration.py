"""`limits` and `config`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from peernet.node.failures import ExitCode
from tests.unit.cli.conftest import Run

SOMEBODY = "s" * 52


def test_a_network_name_from_the_environment_that_is_no_utf_8(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PEERNET_NETWORK", "\udcff")
    result = run("config", "show")
    assert result.exit_code == ExitCode.ERROR
    assert "PEERNET_NETWORK: network: it is not UTF-8 text" in result.stderr


def test_limits(run: Run) -> None:
    rows = json.loads(run("limits", "-o", "json").output)
    assert {"name", "value", "default", "source", "unit", "at_limit"} == set(rows[0])
    assert "max_frame" in run("limits").output
    lines = {line.split()[0]: line.split() for line in run("limits").output.splitlines()}
    assert lines["session_bytes"][1:7] == ["3", "MiB", "not", "acknowledged", "3", "MiB"]


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
    assert json.loads(run("config", "validate", "-o", "jsonl").stdout) == {
        "path": made["settings"],
        "valid": True,
        "mistakes": [],
    }
    Path(made["settings"]).write_text("[node]\nx = 1\n")
    result = run("config", "validate")
    assert result.exit_code == ExitCode.CHECK_FAILED
    assert "no setting 'x'" in result.stderr
    assert run("run").exit_code == ExitCode.ERROR
    Path(made["settings"]).write_text("y = 1\n[node]\nx = 1\nplacement = 1\n[limits]\nmax_pending = 0\nz = 1\n")
    told = run("config", "validate").stderr.splitlines()
    assert json.loads(run("config", "validate", "-o", "json").stdout) == {
        "path": made["settings"],
        "valid": False,
        "mistakes": [line.removeprefix("Error: ") for line in told],
    }
    for line, mistake in zip(
        told, ("y stands", "'x' in", "placement:", "unknown limit 'z'", "max_pending"), strict=True
    ):
        assert line.startswith("Error: ")
        assert mistake in line


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        (f'[node]\nnetwork = "{"a" * 300}"', "config.toml: network: network_name must be a text of 1 to 255 bytes"),
        (f"[limits]\nmax_inbound = {'9' * 4301}", "config.toml is not valid TOML: a number in it has too many digits"),
        (f"[limits]\nmax_inbound = 0x{'9' * 9999}", "max_inbound must be a finite number of channels, not such a long"),
        (f"[limits]\nmax_redials = {10**18}", "max_redials must be at most 1048576 connections"),
        (f"[node]\ninsecure = 0x{'9' * 9999}", "config.toml: insecure: it must be true or false, not such a long"),
        (f"[node]\nlisten = {'[' * 20_000}", "config.toml is not valid TOML: it is nested too deeply"),
    ],
    ids=["name", "digits", "hexadecimal", "too many for the system", "switch", "brackets"],
)
def test_what_cannot_work_is_one_sentence_and_the_same_from_every_command(run: Run, text: str, mistake: str) -> None:
    made = json.loads(run("init", "-o", "json").output)
    Path(made["settings"]).write_text(text)
    validated, ran, shown = run("config", "validate"), run("run"), run("config", "show")
    assert (validated.exit_code, ran.exit_code) == (ExitCode.CHECK_FAILED, ExitCode.ERROR)
    assert mistake in validated.stderr
    assert validated.stderr.count("\n") == 1
    assert validated.stderr == ran.stderr == shown.stderr


def test_a_network_name_that_is_too_long_is_wrong_usage(run: Run) -> None:
    for command in (("run",), ("send", "127.0.0.1:1", "hi")):
        result = run(*command, "--network", "a" * 256)
        assert result.exit_code == ExitCode.USAGE
        assert "1 to 255 bytes" in result.stderr
