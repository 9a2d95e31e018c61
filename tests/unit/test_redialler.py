"""When lost peers are dialled again."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import gevent

from peernet.address import PeerAddress
from peernet.channel import ChannelState
from peernet.config import NetworkConfig
from peernet.peer import GenericPeer
from peernet.redialler import Redialler
from tests.support import wait_until
from tests.unit.peers import peer_at

CONFIG = NetworkConfig(backoff_base=0.01, backoff_cap=0.01, redial_interval=0.3)


@dataclass(eq=False)
class LostChannel:
    """As much of a channel as a redialler looks at."""

    connected_at: float
    peer: GenericPeer = field(default_factory=peer_at)
    dialled: bool = True
    state: ChannelState = ChannelState.RECONNECTING


class Dials:
    """Takes the place of dialling, and succeeds."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def __call__(self, address: PeerAddress, timeout: float) -> None:
        self.times.append(time.monotonic())


def test_a_new_channel_whose_connection_is_lost_at_once_is_not_dialled_at_once() -> None:
    """It may have come of a dial just now: that of another channel whose session was lost."""
    dials = Dials()
    redialler, connected_at = Redialler(CONFIG, dials), time.monotonic()
    redialler.restore(LostChannel(connected_at))  # type: ignore[arg-type]
    wait_until(lambda: dials.times)
    assert dials.times[0] - connected_at >= CONFIG.redial_interval
    redialler.stop()


def test_a_busy_loop_makes_nobody_dial_sooner() -> None:
    """A timer counts from when the loop has looked at the clock last."""
    dials = Dials()
    redialler, connected_at = Redialler(CONFIG, dials), time.monotonic()

    def be_busy() -> None:
        while time.monotonic() < connected_at + 0.1:
            pass

    busy = gevent.spawn(be_busy)  # runs in the same round of the loop, and first
    redialler.restore(LostChannel(connected_at))  # type: ignore[arg-type]
    wait_until(lambda: dials.times)
    assert dials.times[0] - connected_at >= CONFIG.redial_interval
    redialler.stop()
    busy.join()


def test_a_channel_that_was_connected_for_a_while_is_dialled_after_a_random_moment() -> None:
    dials = Dials()
    config = NetworkConfig(backoff_base=0.01, backoff_cap=0.01, redial_interval=60)
    redialler = Redialler(config, dials)
    redialler.restore(LostChannel(time.monotonic() - 61))  # type: ignore[arg-type]
    wait_until(lambda: dials.times)
    redialler.stop()
