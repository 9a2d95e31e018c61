"""PersistentPeers: dialled for ever, unless that makes no sense."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import gevent.event
import pytest

from peernet.config import NetworkConfig
from peernet.errors import AddressError, ConnectError, PeerNetError, RefusedByPeerError, SelfConnectionError
from peernet.reasons import Reason
from peernet.runtime import clock
from peernet.switch import persistent
from peernet.switch.persistent import PersistentPeers
from tests.support import wait_until

CONFIG = NetworkConfig(backoff_base=0.01, backoff_cap=0.02)


class Failures:
    """Remembers what was told, and lets a test wait for it."""

    def __init__(self, wanted: int) -> None:
        self.pauses: list[float | None] = []
        self._wanted = wanted
        self.enough = gevent.event.Event()

    def __call__(self, address: str, error: PeerNetError, pause: float | None) -> None:
        self.pauses.append(pause)
        if len(self.pauses) == self._wanted:
            self.enough.set()


def keep(error: PeerNetError, wanted: int) -> list[float | None]:
    """The pauses that follow when every attempt fails with `error`."""

    def connect(address: str) -> Any:
        raise error

    failures = Failures(wanted)
    kept = PersistentPeers(CONFIG, connect, failures)
    kept.keep("127.0.0.1:1")
    assert failures.enough.wait(5)
    gevent.sleep(0)
    kept.stop()
    return failures.pauses


def test_it_tries_again_and_again() -> None:
    pauses = keep(ConnectError("nobody"), 5)
    assert all(pause is not None and 0 <= pause <= CONFIG.backoff_cap for pause in pauses)


@pytest.mark.parametrize(
    "error",
    [
        SelfConnectionError("it is me"),
        AddressError("no address"),
        RefusedByPeerError("it is me", Reason.SELF_CONNECTION),
        RefusedByPeerError("never again", Reason.REJECTED, do_not_redial=True),
    ],
)
def test_it_gives_up_what_makes_no_sense(error: PeerNetError) -> None:
    assert keep(error, 1) == [None]


def test_it_waits_as_long_as_the_peer_asks() -> None:
    (pause,) = keep(RefusedByPeerError("busy", Reason.BUSY, retry_after=7.0), 1)
    assert pause == 7.0


class Channels:
    """Channels that end at once, as if they had been connected for some seconds; and the pauses that follow."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, seconds_connected: float = 0.0, **state: Any) -> None:
        usual = {"reason": Reason.EXPIRED, "ended_by_peer": False, "do_not_redial": False, "retry_after": 0.0}
        lived = {"connected_at": 1000.0, "last_received": 1000.0 + seconds_connected, "wait_closed": lambda: True}
        self.state = usual | lived | state
        self.failures: list[int] = []
        self.asked: list[float] = []
        monkeypatch.setattr(persistent, "backoff", self._backoff)
        self.kept = PersistentPeers(CONFIG, self._connect, Failures(1))

    def run(self, wanted: int) -> None:
        self.kept.keep("127.0.0.1:1")
        wait_until(lambda: len(self.failures) >= wanted)
        self.kept.stop()

    def _connect(self, address: str) -> Any:
        return SimpleNamespace(**self.state)

    def _backoff(self, config: NetworkConfig, failures: int, asked: float = 0.0) -> float:
        self.failures.append(failures)
        self.asked.append(asked)
        return 0.0


def test_channels_that_end_soon_make_the_pauses_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    channels = Channels(monkeypatch, seconds_connected=CONFIG.healthy_after - 1)
    channels.run(3)
    assert channels.failures[:3] == [1, 2, 3]


def test_a_channel_that_was_healthy_makes_them_short_again(monkeypatch: pytest.MonkeyPatch) -> None:
    channels = Channels(monkeypatch, seconds_connected=CONFIG.healthy_after)
    channels.run(3)
    assert channels.failures[:3] == [0, 0, 0]


def test_a_failure_that_took_its_time_is_not_health(monkeypatch: pytest.MonkeyPatch) -> None:
    now, failures = [0.0], list[int]()

    def backoff(config: NetworkConfig, count: int, asked: float = 0.0) -> float:
        failures.append(count)
        return 0.0

    def connect(address: str) -> Any:
        now[0] += CONFIG.healthy_after + 1
        raise ConnectError("nobody answers")

    monkeypatch.setattr(clock, "monotonic", lambda: now[0])
    monkeypatch.setattr(persistent, "backoff", backoff)
    kept = PersistentPeers(CONFIG, connect, lambda *told: None)
    kept.keep("127.0.0.1:1")
    wait_until(lambda: len(failures) >= 3)
    kept.stop()
    assert failures[:3] == [0, 1, 2]


def test_nor_is_it_health_to_have_been_reconnecting_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [clock.monotonic()]

    def expire() -> bool:
        now[0] += CONFIG.session_ttl
        return True

    monkeypatch.setattr(clock, "monotonic", lambda: now[0])
    channels = Channels(monkeypatch, opened_at=now[0], wait_closed=expire)
    channels.run(3)
    assert channels.failures[:3] == [1, 2, 3]


def test_a_peer_that_leaves_may_ask_for_time(monkeypatch: pytest.MonkeyPatch) -> None:
    channels = Channels(monkeypatch, ended_by_peer=True, retry_after=9.0)
    channels.run(1)
    assert channels.asked[0] == 9.0


@pytest.mark.parametrize("state", [{"reason": Reason.CLOSED}, {"ended_by_peer": True, "do_not_redial": True}])
def test_who_is_not_wanted_any_more_or_does_not_want_us_is_let_go(
    monkeypatch: pytest.MonkeyPatch, state: dict[str, Any]
) -> None:
    channels = Channels(monkeypatch, **state)
    channels.kept.keep("127.0.0.1:1")
    gevent.sleep(0)
    channels.kept.stop()
    assert channels.failures == []


@pytest.mark.parametrize("reason", [Reason.REJECTED, Reason.DECISION_TIMEOUT])
def test_nor_to_have_been_held_for_long_before_it_was_not_let_in(
    reason: Reason, monkeypatch: pytest.MonkeyPatch
) -> None:
    channels = Channels(
        monkeypatch, seconds_connected=CONFIG.healthy_after, reason=reason, ended_by_peer=True, retry_after=5.0
    )
    channels.run(3)
    assert channels.failures[:3] == [1, 2, 3]
    assert channels.asked[:3] == [5.0, 5.0, 5.0]
