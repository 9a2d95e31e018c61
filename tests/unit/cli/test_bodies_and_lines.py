"""Events for programs and for people."""

from __future__ import annotations

import base64
import json

import pytest

from peernet.cli.bodies import MAX_SHOWN_DATA, MAX_SHOWN_PEERS, body_of
from peernet.cli.event_log import MAX_WAITING, Subscription, make_event
from peernet.cli.lines import line_of
from peernet.cli.output import ago, to_json
from peernet.v1 import packet_pb2 as pb

SOMEBODY = "a" * 52


def test_a_message() -> None:
    packet = pb.Packet(pure_message=pb.PureMessagePacket(message="hi"))
    assert body_of("pure_message", packet) == {"message": "hi"}


def test_small_data_is_shown_and_big_data_described() -> None:
    small = pb.Packet(data_transmission=pb.DataTransmissionPacket(data=b"x" * MAX_SHOWN_DATA, name="n" * 999, format=1))
    body = body_of("data_transmission", small)
    assert base64.b64decode(body["data"]) == b"x" * MAX_SHOWN_DATA
    assert (body["format"], len(body["name"])) == ("file", 255)
    big = pb.Packet(data_transmission=pb.DataTransmissionPacket(data=b"x" * (MAX_SHOWN_DATA + 1), format=99))  # type: ignore[arg-type]
    body = body_of("data_transmission", big)
    assert "data" not in body
    assert (body["size"], len(body["sha256"]), body["format"]) == (MAX_SHOWN_DATA + 1, 64, "unspecified")


def test_lists_are_cut() -> None:
    entries = [pb.PeerEntry(identifier=SOMEBODY, addresses=["h:1"] * 20)] * (MAX_SHOWN_PEERS + 5)
    body = body_of("collection_share", pb.Packet(collection_share=pb.CollectionSharePacket(peers=entries)))
    assert (body["count"], len(body["peers"]), len(body["peers"][0]["addresses"])) == (
        MAX_SHOWN_PEERS + 5,
        MAX_SHOWN_PEERS,
        8,
    )
    packet = pb.Packet(identifier=pb.IdentifierPacket(message="x", listen_addresses=["h:1"] * 20))
    assert len(body_of("identifier", packet)["listen_addresses"]) == 8


def test_a_kind_without_a_body() -> None:
    assert body_of("heartbeat", pb.Packet()) == {}


def test_json_is_one_line_of_ascii_whatever_a_peer_wrote() -> None:
    line = to_json(make_event("packet", body={"message": "a\nb\u2028\x1b[31m\u202e"}))
    assert line.isascii()
    assert len(line.splitlines()) == 1
    assert "\x1b" not in line
    assert json.loads(line)["body"]["message"].endswith("\u202e")


EVENTS = [
    make_event("ready", identifier=SOMEBODY, addresses=["peer://x"]),
    make_event("peer_added", peer=SOMEBODY, address="h:1", dialled=True, trusted=False, proven=False, agent=""),
    make_event("peer_removed", peer=SOMEBODY, address="h:1", reason="closed", by_peer=True, message=""),
    make_event("packet", kind="pure_message", **{"from": SOMEBODY}, body={"message": "\x1b[31mred"}),
    make_event("packet", kind="data_transmission", **{"from": SOMEBODY}, body={"size": 5, "name": "\x07"}),
    make_event("refused", kind="identifier", **{"from": SOMEBODY}, rule="r", why="because"),
    make_event("pending", peer=SOMEBODY, address="h:1", proven=True, agent="", decision_timeout=60.0),
    make_event("trust_changed", peer=SOMEBODY, trusted=True),
    make_event("dial_failed", address="h:1", error="\x1bno", retry_in=1.5),
    make_event("dial_failed", address="h:1", error="no", retry_in=None),
    make_event("dropped", count=3),
]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: str(event["event"]))
def test_every_event_has_a_line_that_no_terminal_acts_on(event: dict[str, object]) -> None:
    line = line_of(event)
    assert line.isprintable()
    assert str(event["event"]) in line


def test_a_slow_listener_misses_the_oldest_events_and_is_told() -> None:
    subscription = Subscription()
    for number in range(MAX_WAITING + 5):
        subscription.put({"number": number})
    subscription.end()
    first, *rest = list(subscription)
    assert (first["event"], first["count"]) == ("dropped", 5)
    assert rest[0] == {"number": 5}
    assert len(rest) == MAX_WAITING


def test_ago() -> None:
    assert [ago(1000 - seconds, 1000) for seconds in (-5, 5, 65, 7200, 200_000)] == [
        "0 s ago",
        "5 s ago",
        "1 min ago",
        "2 h ago",
        "2 d ago",
    ]
