"""`send` and `listen`, as far as they need no node."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from peernet.node.control import client
from peernet.node.failures import ExitCode
from peernet.state.home import Home
from tests.unit.cli.conftest import Run

SOMEBODY = "s" * 52


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


def test_data_that_fits_into_no_packet(run: Run) -> None:
    result = run("send", "127.0.0.1:1", "--data", "-", stdin=b"x" * (1024 * 1024 + 1))
    assert result.exit_code == ExitCode.ERROR
    assert "does not fit into one packet" in result.stderr


@pytest.mark.parametrize(
    ("stdin", "sent"), [(b"hi", "hi"), (b"hi\n", "hi"), (b"a\nb\n\n", "a\nb\n"), ("ü\n".encode(), "ü")]
)
def test_a_dash_is_the_text_on_stdin_without_one_final_newline(
    run: Run, stdin: bytes, sent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, Any]] = []

    def ask(home: Home, otherwise: object, command: str, timeout: float, arguments: dict[str, Any]) -> Any:
        asked.append(arguments)
        return {"peer": SOMEBODY}

    monkeypatch.setattr(client, "ask_or", ask)
    assert run("send", SOMEBODY, "-", stdin=stdin).exit_code == 0
    assert asked[0]["message"] == {"text": sent}


@pytest.mark.parametrize(
    ("arguments", "stdin", "complaint"),
    [
        ((""), b"", "the text is empty"),
        (("-"), b"", "the text is empty"),
        (("-"), b"\n", "the text is empty"),
        (("-"), b"\xff", "not UTF-8 text; send it with --data -"),
    ],
)
def test_there_must_be_a_text(run: Run, arguments: str, stdin: bytes, complaint: str) -> None:
    result = run("send", "127.0.0.1:1", arguments, stdin=stdin)
    assert result.exit_code == ExitCode.USAGE
    assert complaint in result.stderr


def test_a_text_on_stdin_that_fits_into_no_packet(run: Run) -> None:
    result = run("send", "127.0.0.1:1", "-", stdin=b"x" * (1024 * 1024 + 1))
    assert result.exit_code == ExitCode.ERROR
    assert "does not fit into one packet" in result.stderr


@pytest.mark.parametrize(
    "command", [("send", "OWN", "hi"), ("send", "OWN", "hi", "--durable"), ("ping", "OWN")], ids=" ".join
)
def test_nobody_talks_to_oneself(run: Run, command: tuple[str, ...]) -> None:
    own = json.loads(run("init", "-o", "json").output)["identifier"]
    for written in (own, f"peer://{own}@127.0.0.1:1"):
        result = run(*(written if word == "OWN" else word for word in command))
        assert result.exit_code == ExitCode.ERROR
        assert f"{own[:12]} is this node itself" in result.stderr


def test_a_text_has_no_name(run: Run) -> None:
    result = run("send", "127.0.0.1:1", "hi", "--name", "x")
    assert result.exit_code == ExitCode.USAGE
    assert "--name is for --data" in result.stderr


def test_only_kinds_that_exist_can_be_listened_for(run: Run) -> None:
    result = run("listen", "--kind", "pure_mesage")
    assert result.exit_code == ExitCode.USAGE
    assert "is not one of pure_message, identifier, collection_share, data_transmission, unknown" in result.stderr
    assert run("listen", "--kind", "pure_message").exit_code == ExitCode.NOT_RUNNING


def test_a_timeout_is_a_number_of_seconds(run: Run) -> None:
    assert "'abc' is not a valid number of seconds" in run("send", "127.0.0.1:1", "hi", "--timeout", "abc").stderr
