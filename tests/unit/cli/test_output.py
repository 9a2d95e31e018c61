"""How commands show their data."""

from __future__ import annotations

import json

from peernet.cli.output import ago, to_json
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
