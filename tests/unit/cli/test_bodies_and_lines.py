"""Events for programs and for people."""

from __future__ import annotations

import base64
import gc
import json
import time

import gevent
import pytest
from gevent.monkey import get_original

from peernet.cli.lines import formatter, line_of
from peernet.cli.output import ago, to_json
from peernet.network import PeerNetwork
from peernet.node import bodies, events, status
from peernet.node.bodies import MAX_HASHED_HERE, MAX_SHOWN_DATA, MAX_SHOWN_PEERS
from peernet.node.events import MAX_WAITING, Subscription, make_event
from peernet.peers.identity import Identity
from peernet.trust.bans import Ban
from peernet.v1 import packet_pb2 as pb
from tests.unit.hostile import HOSTILE, assert_harmless

get_ident = get_original("_thread", "get_ident")
SOMEBODY = "a" * 52


def test_a_message() -> None:
    packet = pb.Packet(pure_message=pb.PureMessagePacket(message="hi"))
    assert bodies.to_json("pure_message", packet) == {"message": "hi"}


def test_small_data_is_shown_and_big_data_described() -> None:
    small = pb.Packet(
        data_transmission=pb.DataTransmissionPacket(
            data=b"x" * MAX_SHOWN_DATA, name="n" * 999, format=pb.DATA_PAYLOAD_FORMAT_FILE
        )
    )
    body = bodies.to_json("data_transmission", small)
    assert base64.b64decode(body["data"]) == b"x" * MAX_SHOWN_DATA
    assert (body["format"], len(body["name"])) == ("file", 255)
    big = pb.Packet(data_transmission=pb.DataTransmissionPacket(data=b"x" * (MAX_SHOWN_DATA + 1), format=99))  # type: ignore[arg-type]
    body = bodies.to_json("data_transmission", big)
    assert "data" not in body
    assert (body["size"], len(body["sha256"]), body["format"]) == (MAX_SHOWN_DATA + 1, 64, "unspecified")


def test_lists_are_cut() -> None:
    entries = [pb.PeerEntry(identifier=SOMEBODY, addresses=["h:1"] * 20)] * (MAX_SHOWN_PEERS + 5)
    body = bodies.to_json("collection_share", pb.Packet(collection_share=pb.CollectionSharePacket(peers=entries)))
    assert (body["count"], len(body["peers"]), len(body["peers"][0]["addresses"])) == (
        MAX_SHOWN_PEERS + 5,
        MAX_SHOWN_PEERS,
        8,
    )
    packet = pb.Packet(identifier=pb.IdentifierPacket(message="x", listen_addresses=["h:1"] * 20))
    assert len(bodies.to_json("identifier", packet)["listen_addresses"]) == 8


def test_a_kind_without_a_body() -> None:
    assert bodies.to_json("heartbeat", pb.Packet()) == {}


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
    make_event("peer_removed", peer=SOMEBODY, address="h:1", reason="rejected", by_peer=True, message="not\x1b today"),
    make_event("packet", kind="pure_message", **{"from": SOMEBODY}, body={"message": "\x1b[31mred"}),
    make_event("packet", kind="data_transmission", **{"from": SOMEBODY}, body={"size": 5, "name": "\x07"}),
    make_event("refused", kind="identifier", **{"from": SOMEBODY}, rule="r", why="because"),
    make_event("refused", kind="identifier", **{"from": SOMEBODY}, rule="r", why="because", count=5),
    make_event("handler_failing", kind="identifier", **{"from": SOMEBODY}, error="ValueError: \x1bno"),
    make_event("pending", peer=SOMEBODY, address="h:1", proven=True, agent="", decision_timeout=60.0),
    make_event("trust_changed", peer=SOMEBODY, trusted=True),
    make_event("banned", **Ban(SOMEBODY, "bad_packet", 100.0, 5.0, 65.0).to_dict()),
    make_event("banned", **Ban("2001:db8::/56", "noise", 0.0, 5.0, 65.0, manual=True).to_dict()),
    make_event("dial_failed", address="h:1", error="\x1bno", retry_in=1.5),
    make_event("dial_failed", address="h:1", error="no", retry_in=None),
    make_event("dropped", count=3),
]


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
        line = formatter(style)(changed)
        assert_harmless(line, 2000 if style == "table" else 2_000_000)


def test_what_a_peer_said_when_it_left_is_shown() -> None:
    event = make_event(
        "peer_removed", peer=SOMEBODY, address="h:1", reason="rejected", by_peer=True, message="not today"
    )
    assert line_of(event).endswith(": rejected (said by the peer): not today")


def test_a_ban_is_an_event() -> None:
    shown: list[dict[str, object]] = []
    network = PeerNetwork()
    events.EventLog(network, shown.append, lambda: None).begin(make_event("ready"))
    ban = network.bans.ban(SOMEBODY, 60, "noise\x1b")
    assert shown[-1] == make_event("banned", **ban.to_dict()) | {"time": shown[-1]["time"]}
    assert shown[-1]["reason"] == "noise\\x1b"


def test_events_before_ready_are_told_after_it_up_to_a_limit() -> None:
    shown: list[dict[str, object]] = []
    log = events.EventLog(PeerNetwork(), shown.append, lambda: None)
    for number in range(events.MAX_EARLY + 5):
        log.tell(make_event("trust_changed", number=number))
    log.begin(make_event("ready"))
    assert [event.get("number") for event in shown] == [None, *range(events.MAX_EARLY), None]
    assert (shown[0]["event"], shown[-1]["event"], shown[-1]["count"]) == ("ready", "dropped", 5)


def test_a_slow_listener_misses_the_oldest_events_and_is_told() -> None:
    subscription = Subscription()
    lines = [b"%8d" % number + b"x" * (MAX_WAITING // 10 - 8) for number in range(15)]
    for line in lines:
        subscription.put(line)
    subscription.end()
    first, *rest = list(subscription)
    dropped = json.loads(first)
    assert (dropped["event"], dropped["count"]) == ("dropped", 5)
    assert rest == lines[5:]


def test_a_listener_that_stays_slow_is_told_each_time_before_the_next_event() -> None:
    subscription = Subscription()
    half = b"x" * (MAX_WAITING // 2)
    for _ in range(3):
        subscription.put(half)
    reader = iter(subscription)
    assert json.loads(next(reader))["count"] == 1
    assert next(reader) == half
    for _ in range(3):
        subscription.put(half)
    assert json.loads(next(reader))["count"] == 2


def test_an_event_larger_than_the_queue_is_still_told() -> None:
    subscription = Subscription()
    subscription.put(b"small")
    subscription.put(b"x" * (MAX_WAITING + 1))
    subscription.end()
    first, second = subscription
    assert json.loads(first)["count"] == 1
    assert len(second) == MAX_WAITING + 1


def test_an_event_is_encoded_once_for_all_listeners(monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[object] = []

    def encode(event: object) -> bytes:
        encoded.append(event)
        return b"line"

    monkeypatch.setattr(events, "encode", encode)
    network = PeerNetwork(identity=Identity.generate())
    log = events.EventLog(network, lambda event: None, lambda: None)
    log.begin(make_event("ready"))
    assert encoded == []  # nobody listens
    lines: list[bytes] = []
    listeners = [gevent.spawn(lambda: lines.extend(log.listen())) for _ in range(3)]
    gevent.sleep(0)
    log.tell(make_event("dropped", count=1))
    log.end()
    gevent.joinall(listeners, raise_error=True)
    assert lines == [b"line"] * 3
    assert len(encoded) == 1


def test_large_data_is_hashed_while_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[int] = []

    def digest(data: bytes) -> str:
        threads.append(get_ident())
        return "hash"

    monkeypatch.setattr(bodies, "_digest", digest)
    for size in (MAX_HASHED_HERE, MAX_HASHED_HERE + 1):
        packet = pb.Packet(data_transmission=pb.DataTransmissionPacket(data=b"x" * size))
        assert bodies.to_json("data_transmission", packet)["sha256"] == "hash"
    assert threads[0] == get_ident() != threads[1]


def test_greenlets_are_counted_at_most_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    walks: list[int] = []
    now = [100.0]

    def get_objects() -> list[object]:
        walks.append(1)
        return [gevent.getcurrent()]

    monkeypatch.setattr(gc, "get_objects", get_objects)
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    count = status.GreenletCount()
    assert [count.latest, count.latest, len(walks)] == [1, 1, 1]
    now[0] += status.COUNT_INTERVAL
    assert [count.latest, len(walks)] == [1, 2]


def test_ago() -> None:
    assert [ago(1000 - seconds, 1000) for seconds in (-5, 5, 65, 7200, 200_000)] == [
        "0 s ago",
        "5 s ago",
        "1 min ago",
        "2 h ago",
        "2 d ago",
    ]
