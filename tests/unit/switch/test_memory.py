"""Buffers: real channels over memory, whose far ends read nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from peernet.channel.sender import STEP
from peernet.channel.state import ChannelState
from peernet.config import KIB, MIB, NetworkConfig
from peernet.errors import OutboxFullError
from peernet.reasons import Reason
from peernet.runtime import clock
from peernet.switch.memory import COUNT_EVERY, MemoryGuard
from peernet.transport.memory import CAPACITY
from peernet.v1.packet_pb2 import DataTransmissionPacket
from tests.support import wait_until
from tests.unit.channels import Setup

PART = DataTransmissionPacket(data=bytes(30 * KIB))


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(clock, "monotonic", made)
    return made


class World:
    """Some channels and their common buffers."""

    def __init__(self, limit: int, count: int = 2, **options: Any) -> None:
        self.setups = [Setup(**options) for _ in range(count)]
        self.counters: Counter[str] = Counter()
        config = NetworkConfig(buffer_budget=limit)
        self.buffers = MemoryGuard(config, self.counters, lambda: [setup.control for setup in self.setups])
        self.asked: list[int] = []
        for setup in self.setups:
            setup.owner.may_hold = self.may_hold  # type: ignore[method-assign]

    def may_hold(self, size: int, contents: Sequence[bytes]) -> bool:
        self.asked.append(size)
        return self.buffers.grant(size, contents)

    def fill(self, index: int) -> int:
        """Send until no more is taken. Returns the bytes that are held then."""
        setup = self.setups[index]
        try:
            while True:
                setup.channel.try_send(PART)
        except OutboxFullError:
            return setup.control.held_bytes

    def acknowledge(self, index: int) -> None:
        """The far end reads and handles all that was sent."""
        setup = self.setups[index]
        wait_until(lambda: not (setup.far.transport.unread() and setup.far.transport.recv()) and _written(setup))
        setup.session.release(setup.session.sent)


def _written(setup: Setup) -> bool:
    return not setup.channel.queued_bytes and not setup.far.transport.unread()


@pytest.fixture
def worlds() -> Iterator[Callable[..., World]]:
    made: list[World] = []

    def make(*args: Any, **options: Any) -> World:
        made.append(World(*args, **options))
        return made[-1]

    yield make
    for world in made:
        for setup in world.setups:
            setup.end()


both = pytest.mark.parametrize("session", [False, True], ids=["without a session", "with one"])


@both
def test_one_alone_may_hold_as_much_as_its_own_limits_allow(worlds: Callable[..., World], session: bool) -> None:
    world = worlds(100 * MIB, session=session)
    assert world.fill(0) >= 3 * MIB
    assert len(world.asked) >= 3 * MIB / (STEP + 30 * KIB)  # not for every packet


@both
def test_all_together_hold_no_more_than_the_budget(worlds: Callable[..., World], session: bool) -> None:
    world = worlds(2 * MIB, 4, session=session)
    filled = sum(world.fill(index) for index in range(4))
    assert 2 * MIB - STEP <= filled <= 2 * MIB + 4 * (STEP + CAPACITY + 40 * KIB)


def test_who_is_refused_makes_the_channels_be_counted_again_though_not_all_the_time(
    worlds: Callable[..., World], later: Clock
) -> None:
    world = worlds(1 * MIB, session=True)
    world.fill(0)
    assert world.fill(1) < 2 * STEP + CAPACITY
    world.acknowledge(0)
    before = world.fill(1)
    later.now += COUNT_EVERY
    assert world.fill(1) > before + MIB / 2


def test_a_count_within_the_budget_lets_everybody_go_on(worlds: Callable[..., World], later: Clock) -> None:
    """Else a peer that takes its time for a little more than a step would look as if it did not read."""
    world = worlds(100 * MIB, session=True)
    channel, session = world.setups[0].channel, world.setups[0].session
    for _ in range(3):
        channel.send(PART)
    assert session.full
    world.buffers.look_after(later.now)
    assert not session.full
    assert session.allowed_bytes == session.kept_bytes + STEP


def test_what_was_allowed_and_is_not_needed_any_more_is_taken_back(worlds: Callable[..., World], later: Clock) -> None:
    world = worlds(100 * MIB, session=True)
    session = world.setups[0].session
    world.fill(0)
    assert session.allowed_bytes > 2 * MIB
    world.acknowledge(0)
    world.buffers.look_after(later.now)
    assert session.allowed_bytes == STEP


def test_too_much_is_told_once_and_slows_the_reading_of_the_largest(
    worlds: Callable[..., World], later: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = worlds(1 * MIB, session=True)
    monkeypatch.setattr(world.buffers, "grant", lambda size, contents: True)
    large, small = world.setups
    world.fill(0)
    small.channel.send(PART)
    for _ in range(2):
        world.buffers.look_after(later.now)
    assert world.counters == {"buffers_exceeded": 1}
    assert (large.link.crowding, small.link.crowding) == (True, False)
    world.acknowledge(0)
    world.buffers.look_after(later.now)
    assert not large.link.crowding


def test_far_too_much_for_some_time_closes_the_largest(
    worlds: Callable[..., World], later: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = worlds(1 * MIB, session=True)
    monkeypatch.setattr(world.buffers, "grant", lambda size, contents: True)
    large, small = (setup.channel for setup in world.setups)
    world.fill(0)
    small.send(PART)
    world.buffers.look_after(later.now)
    assert large.state is ChannelState.OPEN
    world.buffers.look_after(later.now + 3)
    wait_until(lambda: large.state is ChannelState.CLOSED)
    assert large.reason is Reason.SLOW_PEER
    assert small.state is ChannelState.OPEN
    assert world.counters["closed_for_buffers"] == 1
    assert world.setups[0].owner.counters["slow_peer"] == 1
