"""Stored packets on their way through one channel that does not do as one would like."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import gevent
import pytest

from peernet.channel.state import ChannelState
from peernet.config import NetworkConfig
from peernet.durable.delivery import Delivery, Verdict
from peernet.durable.packet import StoredPacket
from peernet.durable.retries import Retries
from peernet.errors import ChannelClosedError, PeerNetError, PingTimeout, SendTimeout
from peernet.reasons import Reason
from tests.support import wait_until

CONFIG = NetworkConfig()
CLOSED = ChannelClosedError("gone", Reason.EXPIRED)


class Receipt:
    """A receipt that the test settles."""

    def __init__(self, encoded: object) -> None:
        self.encoded = encoded
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
        self.sent.append(Receipt(encoded))
        return self.sent[-1]

    def sent_one_by_one(self, count: int) -> Iterator[Receipt]:
        """So many receipts, each as soon as it is there."""
        for index in range(count):
            yield wait_until(lambda: self.sent[index:])[0]  # noqa: B023  # it is called at once

    def ping(self, timeout: float) -> float:
        self.pings += 1
        if self.failures:
            raise self.failures.pop(0)
        return 0.0


class Run:
    """A delivery of some packets through a channel, under way."""

    def __init__(self, channel: Channel, packets: int = 3, window: int = 256) -> None:
        numbers = range(1, packets + 1)
        self.stored = [StoredPacket(number, bytes([number]) * 16, "pure_message", b"") for number in numbers]
        self.settled: list[Verdict] = []
        self.pause = 0.0
        self.asked: list[list[int]] = []
        self.retries = Retries(CONFIG)
        self.delivery = Delivery(
            channel,  # type: ignore[arg-type]
            window,
            self._load,
            self._load_some,
            self._settle,
            self.retries,
            "peer",
        )
        self.greenlet = gevent.spawn(self.delivery.run)

    def _load(self, after: int, count: int, size: int) -> list[StoredPacket]:
        return [packet for packet in self.stored if packet.number > after][:count]

    def _load_some(self, numbers: list[int], size: int) -> list[StoredPacket]:
        self.asked.append(numbers)
        return [packet for packet in self.stored if packet.number in numbers]

    def _settle(self, verdicts: Sequence[Verdict]) -> None:
        """As the outbox does it, but that nothing is ever set aside."""
        self.settled += verdicts
        for number, reason in verdicts:
            if reason is Reason.HANDLER_FAILED:
                self.retries.add("peer", number, 1, self.pause)
            else:
                self.retries.discard("peer", [number])

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
    run.stored.append(StoredPacket(2, bytes(16), "pure_message", b""))
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


# Packets whose callback fails.


def test_a_packet_whose_callback_fails_goes_again_after_a_pause_and_the_others_meanwhile() -> None:
    channel = Channel()
    run = Run(channel, packets=2)
    run.pause = 0.02
    wait_until(lambda: len(channel.sent) == 2)
    channel.sent[0].settle(Reason.HANDLER_FAILED)
    channel.sent[1].settle()
    wait_until(lambda: len(run.settled) == 2)
    assert len(channel.sent) == 2  # the pause is not over
    wait_until(lambda: len(channel.sent) == 3)  # though nothing new is stored, and no channel is new
    assert channel.sent[2].encoded == channel.sent[0].encoded
    channel.sent[2].settle()
    run.ends()
    assert run.settled == [(1, Reason.HANDLER_FAILED), (2, None), (1, None)]


def test_packets_that_fail_at_once_take_turns_with_the_others() -> None:
    channel = Channel()
    run = Run(channel, packets=20, window=1)
    failing = None
    for receipt in channel.sent_one_by_one(40):
        failing = failing or receipt.encoded
        receipt.settle(Reason.HANDLER_FAILED if receipt.encoded == failing else None)
    acknowledged = [number for number, reason in run.settled if reason is None]
    assert acknowledged == list(range(2, 21))
    run.greenlet.kill()


def test_it_does_not_wait_for_a_pause_when_its_channel_has_ended() -> None:
    channel = Channel()
    run = Run(channel, packets=1)
    run.pause = 60.0
    wait_until(lambda: len(channel.sent) == 1)
    channel.sent[0].settle(Reason.HANDLER_FAILED)
    wait_until(lambda: len(run.settled) == 1)
    channel.state = ChannelState.CLOSED
    run.delivery.wake()
    run.ends()


def test_what_was_sent_again_when_the_channel_ended_is_due_at_once() -> None:
    channel = Channel()
    run = Run(channel, packets=1)
    wait_until(lambda: len(channel.sent) == 1)
    channel.sent[0].settle(Reason.HANDLER_FAILED)
    wait_until(lambda: len(channel.sent) == 2)
    assert run.retries.due("peer", {1}) == []
    channel.state = ChannelState.CLOSED
    channel.sent[1].settle(Reason.EXPIRED)
    run.ends()
    assert run.retries.due("peer", ()) == [1]


def test_a_packet_that_is_due_and_not_in_the_file_is_forgotten() -> None:
    run = Run(Channel(), packets=0)
    run.retries.add("peer", 7, 1, 0.0)
    run.delivery.wake()
    run.ends()
    assert (run.asked, run.retries.pause("peer", ())) == ([[7]], None)
