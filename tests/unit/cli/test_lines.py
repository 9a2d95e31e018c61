"""Events as lines that people read."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from peernet.cli import cli
from peernet.cli.lines import LINES, line_of
from peernet.cli.session import Session
from peernet.node.events import make_event
from peernet.trust.bans import Ban
from tests.unit.hostile import HOSTILE, assert_harmless

SOMEBODY = "a" * 52

EVENTS = [
    make_event("ready", identifier=SOMEBODY, addresses=["peer://x"]),
    make_event("peer_added", peer=SOMEBODY, address="h:1", dialled=True, trusted=False, proven=False, agent=""),
    make_event("peer_removed", peer=SOMEBODY, address="h:1", reason="closed", by_peer=True, message=""),
    make_event("peer_removed", peer=SOMEBODY, address="h:1", reason="rejected", by_peer=True, message="not\x1b today"),
    make_event("packet", kind="pure_message", **{"from": SOMEBODY}, body={"message": "\x1b[31mred"}),
    make_event("packet", kind="data_transmission", **{"from": SOMEBODY}, body={"size": 5, "name": "\x07"}),
    make_event("refused", kind="identifier", **{"from": SOMEBODY}, rule="r", why="because"),
    make_event("refused", kind="identifier", **{"from": SOMEBODY}, rule="r", why="because", count=5),
    make_event("handler_failing", kind="identifier", **{"from": SOMEBODY}, error="ValueError: \x1bno"),
    make_event("set_aside", peer=SOMEBODY, packet_id="00ff", attempts=10),
    make_event("pending", peer=SOMEBODY, address="h:1", proven=True, agent="", decision_timeout=60.0),
    make_event("trust_changed", peer=SOMEBODY, trusted=True),
    make_event("list_changed", list="trusted", entry=SOMEBODY, added=True),
    make_event("list_changed", list="blocked", entry="10.0.0.0/8", added=False),
    make_event("banned", **Ban(SOMEBODY, "bad_packet", 100.0, 5.0, 65.0).to_dict()),
    make_event("banned", **Ban("2001:db8::/56", "noise", 0.0, 5.0, 65.0, manual=True).to_dict()),
    make_event("dial_failed", address="h:1", error="\x1bno", retry_in=1.5),
    make_event("dial_failed", address="h:1", error="no", retry_in=None),
    make_event("reconnecting", peer=SOMEBODY, address="h:1"),
    make_event("resumed", peer=SOMEBODY, address="h:1"),
    make_event("dropped", count=3),
]


def test_every_event_that_is_documented_has_a_line_and_can_be_selected() -> None:
    page = Path(__file__).parents[3] / "docs" / "cli.rst"
    table = re.search(r"\n(=+  =+)\n(``ready``.*?)\n\1\n", page.read_text(), re.DOTALL)
    assert table is not None
    documented = set(re.findall(r"^``(\w+)``", table[2], re.MULTILINE))
    (choice,) = [option.type for option in cli.commands["listen"].params if option.name == "events"]
    assert isinstance(choice, click.Choice)
    assert documented == set(LINES) == set(choice.choices) == {event["event"] for event in EVENTS}


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: str(event["event"]))
def test_every_event_has_a_line_that_no_terminal_acts_on(event: dict[str, object]) -> None:
    line = line_of(event)
    assert line.isprintable()
    assert str(event["event"]) in line


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("event", EVENTS, ids=lambda event: str(event["event"]))
def test_no_text_that_a_peer_can_choose_acts_on_a_terminal(event: dict[str, object], text: str) -> None:
    chosen = {"address", "agent", "message", "why", "error"} & event.keys()
    changed = event | dict.fromkeys(chosen, text)
    if "body" in event:
        changed["body"] = {"message": text, "name": text}
    for style in ("table", "jsonl"):
        line = Session(output_format=style).line_of(changed)
        assert_harmless(line, 2000 if style == "table" else 2_000_000)


def test_what_a_peer_said_when_it_left_is_shown() -> None:
    event = make_event(
        "peer_removed", peer=SOMEBODY, address="h:1", reason="rejected", by_peer=True, message="not today"
    )
    assert line_of(event).endswith(": rejected (said by the peer): not today")
