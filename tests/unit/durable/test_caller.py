"""Who is dialled for the sake of stored packets, and for how long."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import gevent
import pytest
from gevent.lock import BoundedSemaphore

from peernet.config import NetworkConfig
from peernet.connections.dial_history import DialHistory
from peernet.durable import caller
from peernet.durable.caller import Caller
from peernet.errors import ConfigurationError, ConnectError, PeerNetError, RefusedByPeerError, SelfConnectionError
from peernet.reasons import Reason
from tests.support import wait_until

CONFIG = NetworkConfig(backoff_base=0.01, backoff_cap=0.02)


class World:
    """A peer that is away, at some addresses."""

    def __init__(self) -> None:
        self.addresses = ["one:1"]
        self.errors: list[PeerNetError | None] = []  # of the next dials
        self.dialled: list[str] = []
        self.wanted = True
        self.turns = BoundedSemaphore(CONFIG.max_redials)
        self.history = DialHistory(CONFIG)
        self.calling = Caller(
            CONFIG, self._dial, lambda peer: self.addresses, lambda peer: self.wanted, self.turns, self.history
        )

    def _dial(self, peer: str, address: str) -> None:
        self.dialled.append(address)
        error = self.errors.pop(0) if self.errors else None
        if error is not None:
            raise error
        self.wanted = False

    @property
    def busy(self) -> bool:
        return bool(self.calling.peers)


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    world.calling.start()
    yield world
    world.calling.stop()


def refused(reason: Reason, *, do_not_redial: bool = False) -> RefusedByPeerError:
    return RefusedByPeerError("no", reason, 0.0, do_not_redial)


@pytest.mark.parametrize("error", [ConnectError("away"), refused(Reason.BUSY), refused(Reason.BLOCKED)])
def test_a_peer_is_dialled_until_it_is_there(world: World, error: PeerNetError) -> None:
    world.errors = [error, error]
    world.calling.call("peer")
    wait_until(lambda: not world.busy)
    assert world.dialled == ["one:1"] * 3


def test_all_addresses_are_tried_in_their_order(world: World) -> None:
    world.addresses = ["one:1", "two:2", "three:3"]
    world.errors = [ConnectError("away")]
    world.calling.call("peer")
    wait_until(lambda: not world.busy)
    assert world.dialled == ["one:1", "two:2"]


@pytest.mark.parametrize(
    "error",
    [
        SelfConnectionError("it is us"),
        ConfigurationError("not started"),
        refused(Reason.BUSY, do_not_redial=True),
        refused(Reason.SELF_CONNECTION),
    ],
)
def test_a_peer_that_will_never_answer_is_given_up_until_the_next_call(world: World, error: PeerNetError) -> None:
    world.errors = [error]
    world.calling.call("peer")
    wait_until(lambda: not world.busy)
    assert len(world.dialled) == 1
    world.calling.call("peer")
    wait_until(lambda: not world.wanted)


def test_a_peer_is_dialled_by_one_at_a_time(world: World) -> None:
    world.calling.call("peer")
    world.calling.call("peer")
    wait_until(lambda: not world.busy)
    assert len(world.dialled) == 1


def test_a_peer_that_is_not_wanted_any_more_is_not_dialled(world: World) -> None:
    world.calling.call("peer", 0.01)
    world.wanted = False
    wait_until(lambda: not world.busy)
    assert world.dialled == []


@pytest.mark.parametrize("hindrance", ["wanted", "addresses", "stopped"])
def test_nobody_is_called_in_vain(world: World, hindrance: str) -> None:
    if hindrance == "stopped":
        world.calling.stop()
    else:
        setattr(world, hindrance, [])
    world.calling.call("peer")
    assert not world.busy


def channel(**state: Any) -> Any:
    peer = SimpleNamespace(identifier="peer", address="192.0.2.1", port=4000)
    usual = {"reason": Reason.EXPIRED, "ended_by_peer": False, "do_not_redial": False, "retry_after": 0.0}
    return SimpleNamespace(peer=peer, **(usual | state))


@pytest.mark.parametrize(
    ("state", "again"),
    [
        ({}, True),
        ({"reason": Reason.CLOSED}, False),
        ({"reason": Reason.CLOSED, "ended_by_peer": True}, True),
        ({"reason": Reason.SHUTDOWN, "ended_by_peer": True, "do_not_redial": True}, False),
    ],
)
def test_a_peer_that_has_gone_is_dialled_again_unless_one_of_the_two_wants_it_gone(
    world: World, state: dict[str, Any], again: bool
) -> None:
    world.calling.call_again(channel(**state))
    assert world.busy == again
    wait_until(lambda: not world.busy)
    assert bool(world.dialled) == again


def test_the_time_that_the_peer_has_asked_for_is_respected(world: World) -> None:
    world.calling.call_again(channel(retry_after=60.0))
    gevent.sleep(0.05)
    assert world.dialled == []
    assert world.busy


@pytest.mark.parametrize(("dials", "failures"), [(0, 0), (1, 0), (4, 3)])
def test_the_pause_grows_with_the_channels_that_did_not_hold(
    world: World, dials: int, failures: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[int] = []

    def backoff(config: NetworkConfig, count: int, asked: float) -> float:
        counted.append(count)
        return 0.0

    monkeypatch.setattr(caller, "backoff", backoff)
    for moment in range(dials):
        world.history.note_dial(("192.0.2.1", 4000), moment)
    world.calling.call_again(channel())
    wait_until(lambda: not world.busy)
    assert counted == [failures]


def test_those_who_dial_share_their_turns(world: World) -> None:
    for _ in range(CONFIG.max_redials):
        world.turns.acquire()
    world.calling.call("peer")
    gevent.sleep(0.01)
    assert world.dialled == []
    world.turns.release()
    wait_until(lambda: not world.busy)
    assert world.dialled == ["one:1"]
