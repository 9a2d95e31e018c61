"""PersistentPeers: dialled for ever, unless that makes no sense."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import gevent
import gevent.event
import pytest

from peernet.config import NetworkConfig
from peernet.errors import AddressError, ConnectError, PeerNetError, RefusedByPeerError, SelfConnectionError
from peernet.reasons import Reason
from peernet.runtime import clock, rng
from peernet.switch import persistent
from peernet.switch.persistent import PersistentPeers
from tests.support import wait_until

CONFIG = NetworkConfig(backoff_base=0.01, backoff_cap=0.02)


def channel(healthy_for: float = 0.0, **changes: Any) -> Any:
    """As much of a channel as is looked at, after its end."""
    end = {"reason": Reason.EXPIRED, "ended_by_peer": False, "do_not_redial": False, "retry_after": 0.0}
    lived = {"connected_at": 100.0, "last_received": 100.0 + healthy_for, "wait_closed": lambda: True}
    return SimpleNamespace(**(end | lived | changes))


class World:
    """One address, and what becomes of the attempts to connect to it; of the last one nothing."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, config: NetworkConfig) -> None:
        self.outcomes: list[Any] = []
        self.attempts = 0
        self.told: list[float | None] = []  # the pauses that were told with each failure
        self.pauses: list[float] = []  # those that were made; they take no time
        self.longest: list[float] = []  # what they were drawn from
        self.kept = PersistentPeers(config, self._connect, self._failed)
        monkeypatch.setattr(persistent, "gevent", SimpleNamespace(sleep=self._pause))
        monkeypatch.setattr(rng, "uniform", self._draw)

    def _connect(self, address: str) -> Any:
        assert address == "127.0.0.1:1"
        self.attempts += 1
        if not self.outcomes:
            gevent.event.Event().wait()
        outcome = self.outcomes.pop(0)
        outcome = outcome() if callable(outcome) else outcome
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def _failed(self, address: str, error: PeerNetError, pause: float | None) -> None:
        assert address == "127.0.0.1:1"
        self.told.append(pause)

    def _pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        gevent.sleep(0)

    def _draw(self, least: float, most: float) -> float:
        self.longest.append(most)
        return most

    def run(self, *outcomes: Any, attempts: int) -> None:
        """Keep the address until it was tried so often, and nothing more happens."""
        self.outcomes = list(outcomes)
        self.kept.keep("127.0.0.1:1")
        wait_until(lambda: self.attempts == attempts)
        for _ in range(5):
            gevent.sleep(0)  # as long as any pause
        assert self.attempts == attempts


Worlds = Callable[..., World]


@pytest.fixture
def worlds(monkeypatch: pytest.MonkeyPatch) -> Any:
    made: list[World] = []

    def make(**limits: Any) -> World:
        made.append(World(monkeypatch, NetworkConfig(**limits) if limits else CONFIG))
        return made[-1]

    yield make
    for world in made:
        world.kept.stop()


def test_it_tries_again_and_again(worlds: Worlds) -> None:
    world = worlds()
    world.run(*[ConnectError("nobody")] * 5, attempts=6)
    assert len(world.told) == 5
    assert world.told == world.pauses
    assert all(0 <= pause <= CONFIG.backoff_cap for pause in world.pauses)


@pytest.mark.parametrize(
    "error",
    [
        SelfConnectionError("it is me"),
        AddressError("no address"),
        RefusedByPeerError("it is me", Reason.SELF_CONNECTION),
        RefusedByPeerError("never again", Reason.REJECTED, do_not_redial=True),
    ],
)
def test_it_gives_up_what_makes_no_sense(worlds: Worlds, error: PeerNetError) -> None:
    world = worlds()
    world.run(error, attempts=1)
    assert world.told == [None]


@pytest.mark.parametrize("reason", [Reason.BLOCKED, Reason.REJECTED, Reason.WRONG_NETWORK])
def test_it_goes_on_where_somebody_may_change_a_setting(worlds: Worlds, reason: Reason) -> None:
    world = worlds()
    world.run(RefusedByPeerError("no", reason), attempts=2)
    assert world.told == world.pauses != [None]


def test_it_waits_as_long_as_the_peer_asks(worlds: Worlds) -> None:
    world = worlds()
    world.run(RefusedByPeerError("busy", Reason.BUSY, retry_after=7.0), attempts=2)
    assert world.told == world.pauses == [7.0]


def test_a_channel_that_has_ended_is_made_again(worlds: Worlds) -> None:
    world = worlds()
    world.run(channel(), attempts=2)
    assert world.told == []
    assert len(world.pauses) == 1


@pytest.mark.parametrize(
    "end", [{"reason": Reason.CLOSED}, {"reason": Reason.REJECTED, "ended_by_peer": True, "do_not_redial": True}]
)
def test_one_that_one_of_the_two_wants_gone_is_not(worlds: Worlds, end: dict[str, Any]) -> None:
    world = worlds()
    world.run(channel(**end), attempts=1)
    assert world.pauses == []


def test_a_peer_that_says_goodbye_gets_the_time_that_it_asks_for(worlds: Worlds) -> None:
    world = worlds()
    world.run(channel(reason=Reason.SHUTDOWN, ended_by_peer=True, retry_after=30.0), attempts=2)
    assert world.pauses == [30.0]


def test_a_failure_is_never_health_however_long_it_took(worlds: Worlds, monkeypatch: pytest.MonkeyPatch) -> None:
    world, machine, passed = worlds(backoff_base=1.0, backoff_cap=60.0, healthy_after=30.0), clock.monotonic, 0.0

    def fail_slowly() -> PeerNetError:
        nonlocal passed
        passed += 3600.0
        return ConnectError("nobody, after an hour")

    monkeypatch.setattr(clock, "monotonic", lambda: machine() + passed)
    world.run(*[fail_slowly] * 4, attempts=5)
    assert world.longest == [2, 4, 8, 16]


def test_channels_that_do_not_last_are_failures(worlds: Worlds) -> None:
    world = worlds(backoff_base=1.0, backoff_cap=60.0, healthy_after=30.0)
    world.run(channel(), channel(healthy_for=29.9), ConnectError("nobody"), attempts=4)
    assert world.longest == [2, 4, 8]


def test_nor_is_it_health_to_have_been_reconnecting_for_long(worlds: Worlds, monkeypatch: pytest.MonkeyPatch) -> None:
    world, machine, passed = worlds(backoff_base=1.0, backoff_cap=60.0, healthy_after=30.0), clock.monotonic, 0.0

    def wait_in_vain() -> bool:
        nonlocal passed
        passed += 300.0
        return True

    monkeypatch.setattr(clock, "monotonic", lambda: machine() + passed)
    world.run(*[channel(wait_closed=wait_in_vain)] * 3, attempts=4)
    assert world.longest == [2, 4, 8]


def test_a_connection_that_was_healthy_for_a_while_makes_failures_forgotten(worlds: Worlds) -> None:
    world = worlds(backoff_base=1.0, backoff_cap=60.0, healthy_after=30.0)
    world.run(*[ConnectError("nobody")] * 4, channel(healthy_for=30.0), ConnectError("nobody"), attempts=7)
    assert world.longest == [2, 4, 8, 16, 2, 4]
