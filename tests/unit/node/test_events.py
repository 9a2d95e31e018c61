"""What happens in a network, as JSON objects in order, and what slow listeners miss of it."""

from __future__ import annotations

import json

import gevent
import pytest

from peernet.network import PeerNetwork
from peernet.node import events
from peernet.node.events import MAX_WAITING, Subscription, make_event
from peernet.peers.identity import Identity

SOMEBODY = "a" * 52


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
