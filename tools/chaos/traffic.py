"""Traffic that is watched: round trips that are timed, and numbered packets that must arrive once and in order."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

import gevent
from gevent.pool import Group

from peernet.channel.channel import PeerChannel
from peernet.channel.receipts import Receipt
from peernet.errors import PeerNetError, PingTimeout
from peernet.runtime.greenlets import let_others_run, spawn
from peernet.v1.packet_pb2 import PureMessagePacket
from tools.chaos import figures

# What is not the default in any scenario: all peers come from one address, and none is trusted, because their
# identities are new in each run. Both would be slowed down.
LIMITS: dict[str, Any] = {"allow_loopback_burst": True, "untrusted_frame_rate": 0.0}
# Between two round trips. Seconds.
PAUSE = 0.005


class RoundTrips:
    """Times round trips on a channel, one after the other, from now on until it is stopped."""

    def __init__(self, channel: PeerChannel) -> None:
        self._channel = channel
        self.milliseconds: list[float] = []
        self._greenlet = spawn("round trips", self._go_on)

    def stop(self) -> None:
        """Measure no more."""
        self._greenlet.kill()

    def percentile(self, percent: float) -> float:
        """In milliseconds."""
        return figures.percentile(self.milliseconds, percent)

    def _go_on(self) -> None:
        while True:
            began = time.monotonic()
            try:
                self._channel.ping(60)
            except PingTimeout:
                gevent.sleep(PAUSE)  # it has no connection now, and the next round trip has to wait for one
            except PeerNetError:
                return
            self.milliseconds.append(1000 * (time.monotonic() - began))
            gevent.sleep(PAUSE)


class Talk:
    """Sends numbered packets on a channel, and counts what becomes of them.

    Attributes:
        sent: how many were accepted.
        settled: how many were ``acknowledged``, or failed for a reason.
    """

    def __init__(self, channel: PeerChannel, *, pause: float = 0.0) -> None:
        self._channel = channel
        self._pause = pause
        self._going_on = True
        self.sent = 0
        self.settled: Counter[str] = Counter()
        self._greenlets = Group()
        self._greenlets.add(spawn("talk", self._send))

    def wait_for_news(self, timeout: float) -> float:
        """The seconds until a packet that is sent from now on is acknowledged."""
        began, goal = time.monotonic(), self.sent
        while self.settled["acknowledged"] <= goal and time.monotonic() < began + timeout:
            gevent.sleep(0.001)
        return time.monotonic() - began

    def account(self, timeout: float = 30) -> dict[str, int]:
        """Send no more, and wait until every packet has its end, or the time is over. Returns how many had which."""
        self._going_on = False
        ends = time.monotonic() + timeout
        while (self._greenlets or self.open) and time.monotonic() < ends:
            gevent.sleep(0.01)
        self._greenlets.kill()
        failed = self.settled.total() - self.settled["acknowledged"]
        return {"sent": self.sent, "open": self.open, "failed": failed}

    @property
    def open(self) -> int:
        """How many packets were accepted whose fate is not told."""
        return self.sent - self.settled.total()

    def _send(self) -> None:
        try:
            while self._going_on:
                number = self.sent
                receipt = self._channel.send(PureMessagePacket(message=str(number)), timeout=60)
                self.sent += 1
                receipt.add_done_callback(self._settle)
                gevent.sleep(self._pause) if self._pause else let_others_run()
        except PeerNetError:
            return  # the channel has ended

    def _settle(self, receipt: Receipt) -> None:
        self.settled[str(receipt.reason or "acknowledged")] += 1


class TalkChecker:
    """A callback that checks the numbers of a :class:`Talk`.

    Attributes:
        received: how many packets have come.
        mistakes: how many were missing, or came too often, or too early.
    """

    def __init__(self) -> None:
        self.received = 0
        self.mistakes = 0

    def __call__(self, channel: object, packet: Any) -> None:
        number = int(packet.pure_message.message)
        if number != self.received:
            self.mistakes += max(1, abs(number - self.received))
            self.received = number
        self.received += 1
