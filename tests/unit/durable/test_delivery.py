"""Stored packets on their way through one channel that does not do as one would like."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gevent
import pytest

from peernet.channel.state import ChannelState
from peernet.durable.delivery import Delivery, Verdict
from peernet.durable.store import StoredPacket
from peernet.errors import ChannelClosedError, PeerNetError, PingTimeout, SendTimeout
from peernet.reasons import Reason
from tests.support import wait_until

CLOSED = ChannelClosedError("gone", Reason.EXPIRED)


class Receipt:
    """A receipt that the test settles."""

    def __init__(self) -> None:
        self.reason: Reason | None = None

    def add_done_callback(self, callback: Any) -> None:
        self._callback = callback

    def settle(self, reason: Reason | None = None) -> None:
        self.reason = reason
        self._callback(self)


class Channel:
    """A channel, and its control, that fails as it is told: ``failures`` are those of the next calls."""

    def __init__(self, *failures: PeerNetError) -> None:
        self.channel = self
        self.state = ChannelState.OPEN
        self.failures = list(failures)
        self.sent: list[Receipt] = []
        self.pings = 0

    def send_encoded(self, encoded: object, timeout: float) -> Receipt:
        if self.failures:
            raise self.failures.pop(0)
        self.sent.append(Receipt())
        return self.sent[-1]

    def ping(self, timeout: float) -> float:
        self.pings += 1
        if self.failures:
            raise self.failures.pop(0)
        return 0.0


class Run:
    """A delivery of some packets through a channel, under way."""

    def __init__(self, channel: Channel, packets: int = 3, window: int = 256) -> None:
        self.stored = [StoredPacket(number, b"", "pure_message", b"") for number in range(1, packets + 1)]
        self.settled: list[Verdict] = []
        self.delivery = Delivery(channel, window, self._load, self._settle)  # type: ignore[arg-type]
        self.greenlet = gevent.spawn(self.delivery.run)

    def _load(self, after: int, count: int, size: int) -> list[StoredPacket]:
        return [packet for packet in self.stored if packet.number > after][:count]

    def _settle(self, verdicts: Sequence[Verdict]) -> None:
        self.settled += verdicts

    def ends(self) -> None:
        self.greenlet.get(timeout=5)


def test_it_ends_when_everything_is_settled_and_not_before() -> None:
    channel = Channel()
    run = Run(channel)
    wait_until(lambda: len(channel.sent) == 3)
    channel.sent[0].settle()
    channel.sent[1].settle(Reason.UNHANDLED)
    wait_until(lambda: run.settled == [(1, None), (2, Reason.UNHANDLED)])
    assert not run.greenlet.dead
    channel.sent[2].settle()
    run.ends()
    assert run.settled[2:] == [(3, None)]


def test_it_asks_again_while_the_channel_has_no_room() -> None:
    channel = Channel(SendTimeout("full"), SendTimeout("full"))
    run = Run(channel, packets=1)
    wait_until(lambda: len(channel.sent) == 1)
    channel.sent[0].settle()
    run.ends()


def test_what_the_channel_does_not_take_any_more_is_left_to_the_next_one() -> None:
    channel = Channel(CLOSED)
    run = Run(channel)
    run.ends()
    assert (run.settled, channel.sent) == ([], [])


@pytest.mark.parametrize("reason", [Reason.EXPIRED, Reason.SESSION_LOST, Reason.SHUTDOWN, Reason.CLOSED])
def test_what_is_not_known_when_the_channel_ends_is_not_settled(reason: Reason) -> None:
    channel = Channel()
    run = Run(channel)
    wait_until(lambda: len(channel.sent) == 3)
    channel.state = ChannelState.CLOSED
    channel.sent[0].settle()
    for receipt in channel.sent[1:]:
        receipt.settle(reason)
    run.ends()
    assert run.settled == [(1, None)]


def test_no_more_are_sent_than_the_window_holds_until_half_of_them_are_settled() -> None:
    channel = Channel()
    run = Run(channel, packets=10, window=4)
    wait_until(lambda: len(channel.sent) == 4)
    channel.sent[0].settle()
    wait_until(lambda: len(run.settled) == 1)
    assert len(channel.sent) == 4
    channel.sent[1].settle()
    wait_until(lambda: len(channel.sent) == 6)
    run.greenlet.kill()


def test_a_packet_that_is_stored_meanwhile_is_sent_too() -> None:
    channel = Channel()
    run = Run(channel, packets=1)
    wait_until(lambda: len(channel.sent) == 1)
    run.stored.append(StoredPacket(2, b"", "pure_message", b""))
    run.delivery.wake()
    wait_until(lambda: len(channel.sent) == 2)
    run.greenlet.kill()


def test_a_peer_without_sessions_is_asked_again_until_it_answers() -> None:
    channel = Channel()
    run = Run(channel, packets=1)
    wait_until(lambda: len(channel.sent) == 1)
    channel.failures = [PingTimeout("busy"), PingTimeout("busy")]
    channel.sent[0].settle(Reason.NO_SESSION)
    run.ends()
    assert (channel.pings, run.settled) == (3, [(1, None)])
