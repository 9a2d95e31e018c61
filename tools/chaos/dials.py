"""Two peers dial each other at the same moment, a thousand times: there must be one channel, the same on both sides."""

from __future__ import annotations

import random
import time
from collections import Counter
from dataclasses import replace
from typing import Any

import gevent

from peernet.channel.channel import PeerChannel
from peernet.config import NetworkConfig
from peernet.errors import DeliveryFailed, PeerNetError
from peernet.network import PeerNetwork
from peernet.peers.address import PeerAddress
from peernet.runtime.deadline import Deadline
from peernet.v1.packet_pb2 import PureMessagePacket
from tools.chaos.figures import Figure, none_of
from tools.chaos.processes import Child
from tools.chaos.traffic import LIMITS

LONG = {"rounds": 1000, "rounds_in_one_process": 300, "insecure_rounds": 200}
SHORT = {"rounds": 16, "rounds_in_one_process": 4, "insecure_rounds": 5}

# Each side begins after a random moment up to this. Seconds.
MAX_DELAY = 0.05
# Until the channel is there and usable both ways. Seconds.
LIMIT = 2.0


class Side:
    """One of the two peers."""

    def __init__(self, *, insecure: bool = False, pinned: bool = True) -> None:
        self._pinned = pinned
        self._network = PeerNetwork(
            listen=["127.0.0.1:0"], network_name="chaos", insecure=insecure, config=NetworkConfig(**LIMITS)
        )
        self._network.handlers["pure_message"] = lambda channel, packet: None
        self._lives: Counter[tuple[str, PeerChannel]] = Counter()
        self._network.peer_added.add(lambda channel: self._note("added", channel))
        self._network.peer_removed.add(lambda channel, reason: self._note("removed", channel))
        self._network.start()

    def address(self) -> str:
        address = PeerAddress.parse(self._network.addresses[0])
        return str(replace(address, identifier=self._network.identifier if self._pinned else None))

    def meet(self, address: str, delay: float) -> dict[str, Any]:
        """Dial after a moment, and send a packet on the channel that comes of it; again, if another one takes over."""
        gevent.sleep(delay)
        began = time.monotonic()
        overtaken = 0
        while True:
            try:
                channel = self._network.connect(address)
                channel.send(PureMessagePacket(message="hello")).wait(10)
                break
            except DeliveryFailed:
                overtaken += 1
            except PeerNetError as error:
                return {"error": str(error), "took": time.monotonic() - began, "overtaken": overtaken}
        return {"took": time.monotonic() - began, "overtaken": overtaken}

    def sessions(self) -> list[list[int]]:
        """The two numbers of each channel's session: our own first."""
        sessions = [channel.session for channel in self._network.active_peer_channels]
        return [[session.session_id, session.peer_session_id] for session in sessions if session is not None]

    def part(self) -> None:
        """End every channel."""
        for channel in self._network.active_peer_channels:
            channel.close()

    def account(self) -> dict[str, int]:
        """What the events of this round have told, once all is over."""
        deadline = Deadline(10)
        while self._network.active_peer_channels and not deadline.expired:
            gevent.sleep(0.001)
        lives, self._lives = self._lives, Counter()
        channels = {channel for _, channel in lives}
        odd = [one for one in channels if lives["added", one] != 1 or lives["removed", one] != 1]
        return {"channels": len(channels), "odd": len(odd)}

    def stop(self) -> None:
        self._network.stop()

    def _note(self, what: str, channel: PeerChannel) -> None:
        self._lives[what, channel] += 1


class LocalSide:
    """A side in this process, which is asked as a :class:`Child` is."""

    def __init__(self, **options: Any) -> None:
        self._side = Side(**options)

    def ask(self, method: str, **arguments: Any) -> Any:
        return getattr(self._side, method)(**arguments)

    def end(self) -> None:
        self._side.stop()


def run(*, seed: int, rounds: int, rounds_in_one_process: int, insecure_rounds: int) -> list[Figure]:
    rng = random.Random(seed)
    return [
        *_measure(rng, "TLS, two processes", rounds),
        *_measure(rng, "TLS, one process", rounds_in_one_process, apart=False),
        *_measure(rng, "insecure, pinned", insecure_rounds, insecure=True),
        # Nobody knows whom he dials, so a channel may have to give way to another one.
        *_measure(rng, "insecure, not pinned", insecure_rounds, insecure=True, pinned=False),
    ]


def _measure(rng: random.Random, title: str, rounds: int, *, apart: bool = True, **options: bool) -> list[Figure]:
    one = LocalSide(**options)
    other = Child(Side, **options) if apart else LocalSide(**options)
    try:
        addresses = one.ask("address"), other.ask("address")
        results = [_round(rng, one, other, addresses) for _ in range(rounds)]
    finally:
        one.end()
        other.end()
    return _judge(title, results, one_channel=options.get("pinned", True))


def _round(rng: random.Random, one: Any, other: Any, addresses: tuple[str, str]) -> dict[str, Any]:
    dials = [
        gevent.spawn(side.ask, "meet", address=address, delay=rng.uniform(0, MAX_DELAY))
        for side, address in ((one, addresses[1]), (other, addresses[0]))
    ]
    met = [dial.get() for dial in dials]
    same = _same_channel(one, other)
    rng.choice((one, other)).ask("part")
    accounts = [side.ask("account") for side in (one, other)]
    return {
        "failed": any("error" in each for each in met),
        "same": same,
        "took": max(each["took"] for each in met),
        "overtaken": sum(each["overtaken"] for each in met),
        "channels": max(account["channels"] for account in accounts),
        "odd": sum(account["odd"] for account in accounts),
    }


def _same_channel(one: Any, other: Any) -> bool:
    """Whether both sides have one channel, the same, in time."""
    deadline = Deadline(LIMIT)
    while True:
        ours, theirs = one.ask("sessions"), other.ask("sessions")
        if len(ours) == len(theirs) == 1 and ours[0] == theirs[0][::-1]:
            return True
        if deadline.expired:
            return False
        gevent.sleep(0.01)


def _judge(title: str, results: list[dict[str, Any]], *, one_channel: bool) -> list[Figure]:
    most = 1 if one_channel else None
    return [
        none_of(f"{title}: dials that failed, in {len(results)} rounds", sum(one["failed"] for one in results)),
        none_of(f"{title}: rounds that did not end with one channel", sum(not one["same"] for one in results)),
        Figure(f"{title}: longest time until usable", max(one["took"] for one in results), "s", at_most=LIMIT),
        none_of(f"{title}: lives not told exactly once", sum(one["odd"] for one in results)),
        Figure(f"{title}: most channels in a round", max(one["channels"] for one in results), at_most=most),
        Figure(
            f"{title}: packets that a channel which gave way has failed",
            sum(one["overtaken"] for one in results),
            at_most=0 if one_channel else None,
        ),
    ]
