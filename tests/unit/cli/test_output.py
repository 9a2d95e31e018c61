"""How commands show their data."""

from __future__ import annotations

import json

import pytest

from peernet.cli.output import Output, ago, hinted, quantity, to_json
from peernet.node.events import make_event


def test_json_is_one_line_of_ascii_whatever_a_peer_wrote() -> None:
    line = to_json(make_event("packet", body={"message": "a\nb\u2028\x1b[31m\u202e"}))
    assert line.isascii()
    assert len(line.splitlines()) == 1
    assert "\x1b" not in line
    assert json.loads(line)["body"]["message"].endswith("\u202e")


def test_ago() -> None:
    assert [ago(1000 - seconds, 1000) for seconds in (-5, 5, 65, 7200, 200_000)] == [
        "0 s ago",
        "5 s ago",
        "1 min ago",
        "2 h ago",
        "2 d ago",
    ]


def test_hints_can_be_pasted() -> None:
    hint = "`peernet-node peers` lists them; stop it with `peernet-node --home /x stop`, `peernet-node id` on the peer"
    assert hinted(hint, None) == hint
    assert hinted(hint, "/my home") == hint.replace("node peers", "node --home '/my home' peers")


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [
        (1048576, "bytes", "1 MiB"),
        (1280 * 1024, "bytes", "1280 KiB"),
        (1000, "bytes", "1000 bytes"),
        (4 << 30, "bytes not acknowledged", "4 GiB not acknowledged"),
        (86_400.0, "seconds", "1 d"),
        (90_000.0, "seconds", "25 h"),
        (90.0, "seconds", "90 seconds"),
        (0.5, "seconds", "0.5 seconds"),
        (300.0, "seconds without progress", "5 min without progress"),
        (0, "seconds", "0 seconds"),
        (300.0, "seconds; 0 keeps no sessions", "5 min; 0 keeps no sessions"),
        (1.0, "seconds", "1 second"),
        (1.0, "points per minute", "1 point per minute"),
        (8192, "packets", "8192 packets"),
        (20.0, "connections", "20 connections"),
        (True, "true or false", "yes"),
    ],
)
def test_limits_are_shown_in_larger_units_if_that_says_the_same(value: float, unit: str, shown: str) -> None:
    assert quantity(value, unit) == shown


ROWS = [{"who": "a" * 52, "why": "because of one thing and another, " * 8, "at": "127.0.0.1:12345"}]
COLUMNS = {"who": "WHO", "why": "WHY", "at": "AT"}


@pytest.mark.parametrize("columns", [80, 100])
def test_in_a_terminal_cells_are_wrapped_and_nothing_is_lost(
    columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    Output("table").rows(ROWS, COLUMNS)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= columns
    assert len(lines) > 3
    assert "a" * 52 in lines[1]  # what is copied stays in one piece
    assert "".join(lines).count("another") == 8
    Output("table").record({"name": "x", "much": "words of it, " * 30})
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= columns
    assert lines[0] == "name  x"
    assert lines[1].startswith("much  words")
    assert all(line.startswith("      ") for line in lines[2:])


def test_elsewhere_each_row_is_a_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    Output("table").rows(ROWS, COLUMNS)
    assert len(capsys.readouterr().out.splitlines()) == 2
    Output("table").record({"name": "x", "much": "words of it, " * 30})
    assert len(capsys.readouterr().out.splitlines()) == 2
