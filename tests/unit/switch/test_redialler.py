"""When lost peers are dialled again."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any

import gevent
import pytest
from gevent.event import Event as Flag
from gevent.lock import BoundedSemaphore

from peernet.channel.state import ChannelState
from peernet.config import NetworkConfig
from peernet.connections.dial_history import DialHistory
from peernet.connections.retry import FINAL
from peernet.errors import (
    ConnectError,
    ConnectTimeout,
    IdentityMismatchError,
    PeerNetError,
    RefusedByPeerError,
    RefusedByPolicyError,
    SelfConnectionError,
    WrongThreadError,
)
from peernet.peers.address import PeerAddress
from peernet.peers.peer import GenericPeer
from peernet.reasons import Reason
from peernet.runtime import clock, rng
from peernet.switch.redialler import Redialler
from peernet.testing.virtual_time import VirtualTime
from tests.support import scaled, wait_until
from tests.unit.sample_peers import ALICE, peer_at

QUICK: dict[str, Any] = {"backoff_base": 0.01, "backoff_cap": 0.01, "redial_interval": 0.01}


@dataclass(eq=False)
class LostChannel:
    """As much of a channel as a redialler looks at."""

    connected_at: float = field(default_factory=time.monotonic)
    peer: GenericPeer = field(default_factory=peer_at)
    dialled: bool = True
    state: ChannelState = ChannelState.RECONNECTING
    ended: tuple[Reason, str] | None = None
    reason: Reason | None = None
    ended_by_peer: bool = False
    progressed: bool = False
    lived: float = 0.0  # how long the last connection has worked, at least

    @property
    def last_received(self) -> float:
        return max(clock.monotonic(), self.connected_at + self.lived)

    def close(self, reason: Reason, text: str) -> None:
        self.state, self.ended = ChannelState.CLOSED, (reason, text)


class World:
    """A redialler whose dials do what they are told: raise, or call, or, if nothing is left, succeed."""

    def __init__(self, **limits: Any) -> None:
        self.config = NetworkConfig(**(QUICK | limits))
        self.outcomes: list[Exception | Callable[[], object]] = []
        self.dials: list[float] = []
        self.addresses: list[PeerAddress] = []
        self.channels: list[LostChannel] = []
        self.history = DialHistory(self.config)
        self.redialler = Redialler(self.config, self.dial, BoundedSemaphore(self.config.max_redials), self.history)
        self.redialler.start()

    def dial(self, address: PeerAddress, timeout: float) -> None:
        assert timeout == self.config.connect_timeout
        self.dials.append(time.monotonic())
        self.addresses.append(address)
        self.history.note_dial((address.host, address.port), clock.monotonic())
        outcome = self.outcomes.pop(0) if self.outcomes else self.succeed
        if isinstance(outcome, Exception):
            raise outcome
        outcome()

    def succeed(self) -> None:
        self.channels[-1].state = ChannelState.OPEN

    def lose(self, connected_for: float = 0.0, **fields: Any) -> LostChannel:
        """A channel has lost its connection, which was made so many seconds ago."""
        channel = LostChannel(clock.monotonic() - connected_for, **fields)
        self.channels.append(channel)
        self.restore(channel)
        return channel

    def restore(self, channel: LostChannel) -> None:
        self.history.note_end(channel)  # type: ignore[arg-type]
        self.redialler.restore(channel)  # type: ignore[arg-type]

    def forget(self, channel: LostChannel) -> None:
        self.redialler.forget(channel)  # type: ignore[arg-type]

    @property
    def busy(self) -> int:
        """How many greenlets redial."""
        return len(self.redialler.greenlets)


@pytest.fixture
def worlds() -> Iterator[Callable[..., World]]:
    made: list[World] = []

    def make(**limits: Any) -> World:
        made.append(World(**limits))
        return made[-1]

    yield make
    for world in made:
        world.redialler.stop()


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, float]]:
    """Between what every pause was drawn; none takes any time."""
    drawn: list[tuple[float, float]] = []

    def uniform(least: float, most: float) -> float:
        drawn.append((least, most))
        return least

    monkeypatch.setattr(rng, "uniform", uniform)
    return drawn


@pytest.fixture
def long_absences(pauses: list[tuple[float, float]], monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, float]]:
    """As ``pauses``, on a clock that jumps by minutes with every pause: the peer stays away for long."""
    machine, draw = clock.monotonic, rng.uniform
    jumped = 0.0

    def jump(least: float, most: float) -> float:
        nonlocal jumped
        jumped += 120
        return draw(least, most)

    monkeypatch.setattr(rng, "uniform", jump)
    monkeypatch.setattr(clock, "monotonic", lambda: machine() + jumped)
    return pauses


Worlds = Callable[..., World]
Pauses = list[tuple[float, float]]


class TestPauses:
    def test_the_peer_is_dialled_at_its_address_and_pinned(self, worlds: Worlds) -> None:
        world = worlds()
        world.lose()
        wait_until(lambda: world.addresses)
        assert world.addresses == [PeerAddress("192.0.2.1", 4000, ALICE)]

    def test_a_channel_that_the_other_side_has_dialled_is_left_to_it(self, worlds: Worlds) -> None:
        world = worlds()
        world.lose(dialled=False)
        assert not world.busy

    def test_a_new_channel_whose_connection_is_lost_at_once_is_not_dialled_at_once(self, worlds: Worlds) -> None:
        """It may have come of a dial just now: that of another channel whose session was lost."""
        world = worlds(redial_interval=0.2)
        channel = world.lose()
        wait_until(lambda: world.dials)
        assert world.dials[0] - channel.connected_at >= 0.2

    def test_a_channel_that_was_connected_for_a_while_is_dialled_after_a_random_moment(self, worlds: Worlds) -> None:
        world = worlds(redial_interval=60)
        world.lose(connected_for=61)
        wait_until(lambda: world.dials)

    def test_the_pauses_are_random_up_to_a_length_that_doubles_up_to_a_limit(
        self, worlds: Worlds, long_absences: Pauses
    ) -> None:
        world = worlds(backoff_base=1.0, backoff_cap=40.0)
        world.outcomes = [ConnectError("nobody is there")] * 6
        world.lose(connected_for=1)
        wait_until(lambda: len(world.dials) == 7)
        assert long_absences == [(0, 1), (0, 10), (0, 10), (0, 10), (0, 16), (0, 32), (0, 40)]

    def test_failures_without_end_do_not_overflow(self, worlds: Worlds, long_absences: Pauses) -> None:
        world = worlds(redial_interval=0.01, backoff_cap=60.0)
        enough = sys.float_info.max_exp + 100  # doublings for what no float can hold
        world.outcomes = [ConnectError("nobody is there")] * enough
        world.lose(connected_for=1)
        wait_until(lambda: len(world.dials) == enough + 1, 20)
        assert long_absences[-1] == (0, 60)

    def test_two_dials_are_never_closer_than_the_interval(self, worlds: Worlds, pauses: Pauses) -> None:
        world = worlds(redial_interval=0.1)
        world.outcomes = [ConnectError("nobody is there")] * 2
        world.lose(connected_for=1)
        wait_until(lambda: len(world.dials) == 3)
        assert min(later - earlier for earlier, later in zip(world.dials, world.dials[1:], strict=False)) >= 0.1

    def test_nor_if_the_peer_comes_back_and_is_lost_in_between(self, worlds: Worlds, pauses: Pauses) -> None:
        world = worlds(redial_interval=0.2)
        channel = world.lose()
        for _ in range(3):
            gevent.sleep(0.02)
            channel.state = ChannelState.OPEN  # the peer has dialled
            channel.connected_at = time.monotonic()
            channel.state = ChannelState.RECONNECTING
            world.outcomes.append(ConnectError("nobody is there"))
            world.restore(channel)
        wait_until(lambda: len(world.dials) == 3)
        assert min(later - earlier for earlier, later in zip(world.dials, world.dials[1:], strict=False)) >= 0.2
        assert world.dials[0] - channel.connected_at >= 0.2

    def test_the_failures_count_on_if_the_connection_is_lost_again_soon(
        self, worlds: Worlds, long_absences: Pauses
    ) -> None:
        world = worlds(backoff_base=0.25, backoff_cap=60.0, healthy_after=60)
        world.outcomes = [ConnectError("nobody is there")] * 4
        channel = world.lose(connected_for=1)
        wait_until(lambda: len(world.dials) == 5)
        channel.state, channel.connected_at, channel.lived = ChannelState.RECONNECTING, clock.monotonic(), 59
        world.outcomes = [ConnectError("nobody is there")]
        world.restore(channel)
        wait_until(lambda: len(world.dials) == 7)
        assert long_absences[-2:] == [(0, 2.5), (0, 8)]

    def test_connections_that_are_made_and_do_not_hold_count_as_failures(
        self, worlds: Worlds, long_absences: Pauses
    ) -> None:
        """A peer that always claims to resume, and leaves at once."""
        world = worlds(backoff_base=0.25, backoff_cap=60.0)
        channel = world.lose(connected_for=1)
        for _ in range(6):
            wait_until(lambda: not world.busy)
            channel.state, channel.connected_at = ChannelState.RECONNECTING, clock.monotonic()
            world.restore(channel)
        wait_until(lambda: len(world.dials) == 7)
        assert long_absences == [(0, 0.25), (0, 0.25), *[(0, 2.5)] * 5]

    def test_failures_outlive_the_channel(self, worlds: Worlds, long_absences: Pauses) -> None:
        world = worlds(backoff_base=0.25, backoff_cap=60.0)
        world.outcomes = [ConnectError("nobody is there")] * 4
        channel = world.lose(connected_for=1)
        wait_until(lambda: len(world.dials) == 5)
        channel.state = ChannelState.CLOSED
        world.forget(channel)
        world.lose(connected_for=1)
        wait_until(lambda: len(world.dials) == 6)
        assert long_absences[-1] == (0, 2.5)

    def test_a_connection_on_which_packets_got_through_makes_up_for_them(
        self, worlds: Worlds, long_absences: Pauses
    ) -> None:
        world = worlds(backoff_base=1.0, backoff_cap=60.0)
        world.outcomes = [ConnectError("nobody is there")] * 2
        channel = world.lose(connected_for=1)
        wait_until(lambda: len(world.dials) == 3 and not world.busy)
        channel.state, channel.connected_at, channel.progressed = ChannelState.RECONNECTING, clock.monotonic(), True
        world.restore(channel)
        wait_until(lambda: len(world.dials) == 4)
        assert long_absences[-1] == (0, 1)

    def test_an_address_that_somebody_else_has_dialled_in_vain_has_its_turn_later(self, worlds: Worlds) -> None:
        world = worlds(redial_interval=0.2)
        world.history.note_dial(("192.0.2.1", 4000), began := clock.monotonic())
        world.lose(connected_for=60)
        wait_until(lambda: world.dials)
        assert world.dials[0] - began >= 0.2

    def test_they_are_forgotten_when_the_connection_was_healthy_for_a_while(
        self, worlds: Worlds, long_absences: Pauses
    ) -> None:
        world = worlds(backoff_base=0.25, backoff_cap=60.0, healthy_after=60)
        world.outcomes = [ConnectError("nobody is there")] * 4
        channel = world.lose(connected_for=1)
        wait_until(lambda: len(world.dials) == 5)
        channel.state, channel.connected_at, channel.lived = ChannelState.RECONNECTING, clock.monotonic(), 60
        world.outcomes = [ConnectError("nobody is there")]
        world.restore(channel)
        wait_until(lambda: len(world.dials) == 7)
        assert long_absences[-2:] == [(0, 0.25), (0, 2.5)]

    def test_no_pause_is_longer_than_the_peer_has_been_away_or_than_spreads_those_who_miss_it(
        self, worlds: Worlds, pauses: Pauses
    ) -> None:
        world = worlds(backoff_base=0.01, backoff_cap=60.0)
        world.outcomes = [ConnectError("nobody is there")] * 12
        lost_at = clock.monotonic()
        world.lose(connected_for=1)
        wait_until(lambda: len(world.dials) == 13)
        assert all(most <= max(0.1, at - lost_at) for (_, most), at in zip(pauses[1:], world.dials[1:], strict=False))

    def test_a_busy_loop_makes_nobody_dial_sooner(self, worlds: Worlds) -> None:
        """A timer counts from when the loop has looked at the clock last."""
        world, began = worlds(redial_interval=0.3), time.monotonic()

        def be_busy() -> None:
            while time.monotonic() < began + 0.1:
                pass

        busy = gevent.spawn(be_busy)  # runs in the same round of the loop, and first
        channel = world.lose()
        wait_until(lambda: world.dials)
        assert world.dials[0] - channel.connected_at >= 0.3
        busy.join()

    def test_when_one_peer_is_back_the_others_are_dialled_soon(self, worlds: Worlds, monkeypatch: Any) -> None:
        world, draws = worlds(), [0.0, 60.0, 0.0, 0.0]  # of these the long one is shortened
        monkeypatch.setattr(rng, "uniform", lambda least, most: draws.pop(0))
        world.outcomes = [ConnectError("nobody is there")]
        world.lose(connected_for=1)
        wait_until(lambda: len(world.dials) == 1)
        world.lose(connected_for=1, peer=peer_at("192.0.2.9"))
        wait_until(lambda: len(world.dials) == 3)
        assert [address.host for address in world.addresses] == ["192.0.2.1", "192.0.2.9", "192.0.2.1"]

    def test_but_not_before_the_moment_that_they_have_asked_for(self, worlds: Worlds) -> None:
        world = worlds()
        world.outcomes = [RefusedByPeerError("busy", Reason.BUSY, retry_after=0.3)]
        world.lose(connected_for=1)
        wait_until(lambda: len(world.dials) == 1)
        world.lose(connected_for=1, peer=peer_at("192.0.2.9"))  # which comes back
        wait_until(lambda: len(world.dials) == 3)
        assert world.addresses[2] == world.addresses[0]
        assert world.dials[2] - world.dials[0] >= 0.3

    def test_a_peer_that_asks_for_time_gets_it(self, worlds: Worlds, pauses: Pauses) -> None:
        world = worlds()
        world.outcomes = [RefusedByPeerError("busy", Reason.BUSY, retry_after=0.2)]
        world.lose(connected_for=1)
        wait_until(lambda: len(world.dials) == 2)
        assert world.dials[1] - world.dials[0] >= 0.2

    def test_only_so_many_are_dialled_at_once(self, worlds: Worlds) -> None:
        world, go_on = worlds(max_redials=2), Flag()
        world.outcomes = [go_on.wait] * 5
        channels = [world.lose(connected_for=1) for _ in range(5)]
        wait_until(lambda: len(world.dials) == 2)
        gevent.sleep(0.05)
        assert len(world.dials) == 2
        for channel in channels[1:]:
            channel.state = ChannelState.OPEN
        go_on.set()
        wait_until(lambda: not world.busy)
        assert len(world.dials) <= 3  # who was back when its turn came was left alone


class TestEnds:
    def test_a_channel_that_is_back_is_not_dialled(self, worlds: Worlds) -> None:
        world = worlds()
        world.lose().state = ChannelState.OPEN
        wait_until(lambda: not world.busy)
        assert not world.dials

    @pytest.mark.parametrize("reason", sorted(FINAL))
    def test_a_refusal_that_will_be_the_same_next_time_ends_the_channel(self, worlds: Worlds, reason: Reason) -> None:
        world = worlds()
        world.outcomes = [RefusedByPeerError("go away", reason)]
        channel = world.lose()
        wait_until(lambda: not world.busy)
        assert channel.ended == (reason, "go away")
        assert len(world.dials) == 1

    @pytest.mark.parametrize(
        ("error", "reason"),
        [
            (RefusedByPeerError("stay away", Reason.BUSY, do_not_redial=True), Reason.BUSY),
            (RefusedByPolicyError("no", "blocked_identifiers"), Reason.BLOCKED),
            (RefusedByPolicyError("no", "blocked_networks"), Reason.BLOCKED),
            (RefusedByPolicyError("no", "allowed_identifiers"), Reason.NOT_ALLOWED),
            (SelfConnectionError("that is me"), Reason.SELF_CONNECTION),
            (WrongThreadError("something else"), Reason.SESSION_LOST),
        ],
        ids=lambda value: getattr(value, "rule", None) or type(value).__name__,
    )
    def test_so_do_these(self, worlds: Worlds, error: PeerNetError, reason: Reason) -> None:
        world = worlds()
        world.outcomes = [error]
        channel = world.lose()
        wait_until(lambda: not world.busy)
        assert channel.ended == (reason, str(error))

    @pytest.mark.parametrize(
        "error",
        [
            ConnectError("nobody is there"),
            ConnectTimeout("nobody answers"),
            IdentityMismatchError("somebody else is there"),
            RefusedByPeerError("full", Reason.BUSY),
            RefusedByPeerError("again?", Reason.DUPLICATE),
            RefusedByPeerError("leaving", Reason.SHUTDOWN),
            RefusedByPolicyError("we have one", Reason.DUPLICATE),
            RefusedByPolicyError("we are leaving", Reason.SHUTDOWN),
        ],
        ids=lambda error: getattr(error, "rule", getattr(error, "reason", type(error).__name__)),
    )
    def test_whatever_may_pass_is_tried_again(self, worlds: Worlds, error: PeerNetError) -> None:
        world = worlds()
        world.outcomes = [error]
        channel = world.lose()
        wait_until(lambda: channel.state is ChannelState.OPEN)
        assert len(world.dials) == 2

    def test_a_refusal_does_not_end_a_channel_that_the_peer_has_brought_back_meanwhile(self, worlds: Worlds) -> None:
        world = worlds()

        def come_back_and_refuse() -> None:
            world.succeed()
            raise RefusedByPeerError("stay away", Reason.DUPLICATE, do_not_redial=True)

        world.outcomes = [come_back_and_refuse]
        channel = world.lose()
        wait_until(lambda: not world.busy)
        assert channel.ended is None

    def test_a_channel_that_is_lost_again_before_the_dial_has_returned_is_dialled_again(self, worlds: Worlds) -> None:
        world = worlds()

        def succeed_and_lose() -> None:
            world.restore(channel)

        world.outcomes = [succeed_and_lose]
        channel = world.lose()
        wait_until(lambda: channel.state is ChannelState.OPEN)
        assert len(world.dials) == 2
        wait_until(lambda: not world.busy)

    def test_stopping_ends_dials_and_pauses(self, worlds: Worlds) -> None:
        world = worlds(redial_interval=60)
        world.outcomes = [Flag().wait]
        world.lose(connected_for=61)
        wait_until(lambda: world.dials)
        world.lose()
        world.redialler.stop()
        assert not world.busy
        assert len(world.dials) == 1

    def test_what_is_lost_after_stopping_is_not_dialled_until_it_starts_again(self, worlds: Worlds) -> None:
        world = worlds()
        world.redialler.stop()
        world.lose(connected_for=1)
        assert not world.busy
        world.redialler.start()
        world.lose(connected_for=1)
        wait_until(lambda: len(world.dials) == 1)


class TestNothingIsLeftBehind:
    def test_a_channel_that_has_ended_is_waited_for_no_longer(self, worlds: Worlds) -> None:
        """A peer may ask for weeks, and its channel would be kept as long."""
        world = worlds()
        world.outcomes = [RefusedByPeerError("busy", Reason.BUSY, retry_after=4_000_000)]
        channel = world.lose()
        wait_until(lambda: world.dials)
        channel.state = ChannelState.CLOSED
        world.forget(channel)
        wait_until(lambda: not world.busy)

    def test_nothing_is_remembered_of_a_channel_that_ends_as_soon_as_it_is_lost(self, worlds: Worlds) -> None:
        world = worlds()
        channel = world.lose()
        channel.state = ChannelState.CLOSED
        world.forget(channel)
        wait_until(lambda: not world.busy)
        assert channel not in world.redialler

    def test_one_that_comes_back_and_is_lost_again_and_again_is_waited_for_once(self, worlds: Worlds) -> None:
        world = worlds(redial_interval=60)
        channel = world.lose()
        for _ in range(10):
            world.restore(channel)
        gevent.sleep(scaled(0.01))
        assert world.busy == 1

    def test_forgetting_who_is_not_known_does_nothing(self, worlds: Worlds) -> None:
        worlds().forget(LostChannel())


class Crowd:
    """Clients that all lose the same hub, in simulated time, and when each of them has found it back."""

    def __init__(self, clients: int, downtime: float, seed: int) -> None:
        self.downtime = downtime
        self.back: list[float] = []  # seconds after the hub
        with VirtualTime(Random(seed)) as self._time:
            gevent.sleep(1000)
            rediallers = [self._lose_one() for _ in range(clients)]
            gevent.sleep(downtime + 120)
            for redialler in rediallers:
                redialler.stop()

    def _lose_one(self) -> Redialler:
        config = NetworkConfig()
        channel = LostChannel(clock.monotonic() - 100)
        history = DialHistory(config)
        ends = clock.monotonic() + self.downtime

        def dial(address: PeerAddress, timeout: float) -> None:
            history.note_dial((address.host, address.port), clock.monotonic())
            if clock.monotonic() < ends:
                raise ConnectError("nobody listens")
            channel.state = ChannelState.OPEN
            self.back.append(clock.monotonic() - ends)

        redialler = Redialler(config, dial, BoundedSemaphore(config.max_redials), history)
        redialler.start()
        redialler.restore(channel)  # type: ignore[arg-type]
        return redialler

    @property
    def most_in_a_second(self) -> int:
        times = sorted(self.back)
        return max(sum(1 for at in times if first <= at <= first + 1) for first in times)


@pytest.mark.parametrize("downtime", [1.0, 2.0, 3.0, 5.0, 10.0, 30.0])
def test_of_those_who_lose_a_hub_that_is_restarted_less_than_a_third_are_back_in_any_one_second(
    downtime: float,
) -> None:
    crowd = Crowd(200, downtime, seed=1)
    assert len(crowd.back) == 200
    assert crowd.most_in_a_second <= 60
    assert max(crowd.back) <= max(10.0, downtime)


def test_who_was_cut_off_until_he_counted_as_dead_is_back_within_the_longest_pause() -> None:
    config = NetworkConfig()
    for seed in range(20):
        assert max(Crowd(2, config.dead_after, seed).back) <= config.backoff_cap
