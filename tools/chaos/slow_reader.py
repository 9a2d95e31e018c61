"""Peers that stop reading are flooded: they may cost little memory, must be cut off in time, and may disturb nobody."""

from __future__ import annotations

import gc
import os
import time
from functools import partial
from typing import Any

import gevent
import psutil
from gevent.event import Event as Flag

from peernet.channel.channel import PeerChannel
from peernet.config import MIB, NetworkConfig
from peernet.errors import PeerNetError
from peernet.network import PeerNetwork
from peernet.runtime.greenlets import let_others_run
from peernet.v1.packet_pb2 import PureMessagePacket
from tools.bench.child import steady_allocator
from tools.chaos.figures import Figure, none_of
from tools.chaos.processes import Child
from tools.chaos.traffic import LIMITS, RoundTrips

# Sizes of the packets that nobody reads; in each measurement so many peers read nothing. Of 760 bytes as many are kept
# as may be, by number and by size; and whoever waits in send() holds one more packet, which a large one would show.
LONG: dict[str, Any] = {
    "sizes": (50, 760, 9_000, 60_000, 250_000),
    "slow": 8,
    "calm": 10.0,
    "config": {},
    "round_trip_limit": 20.0,
}
SHORT: dict[str, Any] = {
    "sizes": (),
    "slow": 4,
    "calm": 0.3,
    "config": {"write_timeout": 1.0},
    "round_trip_limit": 2000.0,
}

# Resident memory of the sender for each of them. The kernel's buffers are not part of it. MiB.
MEMORY_LIMIT = 4.0
# The same when callbacks send, which must not wait: session_bytes, session_reserve_bytes, and what is around them. MiB.
CALLBACK_MEMORY_LIMIT = 9.0
# What a peer reads before it stops, if it reads at all. Bytes.
SOME = 2_000_000
# Until it is cut off. Seconds.
LIMIT = 15.0


class Sender:
    """The node that has something to say to those who do not listen. Measures itself."""

    def __init__(self, *, config: dict[str, Any]) -> None:
        steady_allocator()
        self._network = PeerNetwork(
            listen=["127.0.0.1:0"], network_name="chaos", config=NetworkConfig(**(LIMITS | config))
        )
        self._network.start()
        self._ends: list[dict[str, Any]] = []
        self._network.peer_removed.add(self._note_end)
        self._network.channel_reconnecting.add(lambda channel: self._note_end(channel, "reconnecting"))
        self._rss = psutil.Process(os.getpid()).memory_info

    def address(self) -> str:
        return self._network.addresses[0]

    def flood(self, identifiers: list[str], size: int) -> None:
        """Send to each of them until its channel ends."""
        self._begin(identifiers, size)
        body = "x" * size
        for identifier in identifiers:
            channel = self._network.channel_to(identifier)
            assert channel is not None
            channel.spawn(_send_for_ever, channel, body)

    def answer(self, identifiers: list[str], size: int) -> None:
        """Answer in the callback whatever they ask."""
        self._begin(identifiers, size)
        body = "x" * size
        for identifier in identifiers:
            channel = self._network.channel_to(identifier)
            assert channel is not None
            channel.handlers["pure_message"] = lambda channel, packet: _answer(channel, body)

    def watch(self, seconds: float) -> dict[str, Any]:
        """How much memory was in use at most, in bytes, and how the channels have ended."""
        most = 0
        ends = time.monotonic() + seconds
        while len(self._ends) < self._expected and time.monotonic() < ends:
            most = max(most, self._rss().rss)
            gevent.sleep(0.01)
        return {"grown": most - self._before, "ends": self._ends}

    def _begin(self, identifiers: list[str], size: int) -> None:
        gc.collect()
        self._ends.clear()
        self._expected = len(identifiers)
        self._before = self._rss().rss

    def _note_end(self, channel: PeerChannel, reason: object) -> None:
        self._ends.append({"who": channel.peer.identifier, "reason": str(reason), "at": time.monotonic()})


class SlowReaders:
    """Peers whose callback does not return once it has had so many bytes.

    One that asks goes on asking all the same.
    """

    def __init__(self, *, count: int, address: str, config: dict[str, Any], reads: int) -> None:
        self._reads = reads
        self._stopped: dict[str, float] = {}
        self._never = Flag()
        limits = NetworkConfig(**(LIMITS | config))
        self._networks = [PeerNetwork(network_name="chaos", config=limits) for _ in range(count)]
        for network in self._networks:
            network.handlers["pure_message"] = partial(self._take, network.identifier)
            network.start()
            network.connect(address).data["read"] = 0

    def identifiers(self) -> list[str]:
        return [network.identifier for network in self._networks]

    def ask(self) -> None:
        """Send questions for ever."""
        for network in self._networks:
            channel = network.active_peer_channels[0]
            channel.spawn(_send_for_ever, channel, "?")

    def stopped(self) -> dict[str, float]:
        """Who has stopped reading, and when; monotonic seconds."""
        return self._stopped

    def _take(self, identifier: str, channel: PeerChannel, packet: Any) -> None:
        channel.data["read"] += packet.ByteSize()
        if channel.data["read"] > self._reads:
            self._stopped[identifier] = time.monotonic()
            self._never.wait()


def _send_for_ever(channel: PeerChannel, body: str) -> None:
    try:
        while True:
            channel.send(PureMessagePacket(message=body), timeout=600)
            let_others_run()
    except PeerNetError:
        return  # it was cut off, which is what we wait for


def _answer(channel: PeerChannel, body: str) -> None:
    try:
        channel.send(PureMessagePacket(message=body))
    except PeerNetError:
        return  # the reserve is used up


def run(*, seed: int, sizes: tuple[int, ...], **scale: Any) -> list[Figure]:
    figures = []
    for size in sizes:
        figures += _measure(f"packets of {size:,} bytes", "flood", size, MEMORY_LIMIT, reads=0, **scale)
    figures += _measure("packets of 760 bytes, some read", "flood", 760, MEMORY_LIMIT, reads=SOME, **scale)
    return figures + _measure("answers of 9,000 bytes", "answer", 9_000, CALLBACK_MEMORY_LIMIT, reads=0, **scale)


def _measure(
    title: str,
    how: str,
    size: int,
    memory_limit: float,
    *,
    reads: int,
    slow: int,
    calm: float,
    config: dict[str, Any],
    round_trip_limit: float,
) -> list[Figure]:
    with (
        Child(Sender, config=config) as sender,
        PeerNetwork(network_name="chaos", config=NetworkConfig(**LIMITS)) as honest,
    ):
        address = sender.ask("address")
        channel = honest.connect(address)
        before = RoundTrips(channel)
        gevent.sleep(calm)
        before.stop()
        with Child(SlowReaders, count=slow, address=address, config=config, reads=reads) as readers:
            identifiers = readers.ask("identifiers")
            gevent.sleep(0.5)
            during = RoundTrips(channel)
            sender.ask(how, identifiers=identifiers, size=size)
            if how == "answer":
                readers.ask("ask")
            seen = sender.ask("watch", 60, seconds=30)
            stopped = readers.ask("stopped")
            during.stop()
        lost = int(channel.reason is not None)
    ends = seen["ends"]
    longest = max((end["at"] - stopped[end["who"]] for end in ends), default=float("inf"))
    slow_peers = sum(end["reason"] == "slow_peer" for end in ends)
    p99 = during.percentile(99)
    return [
        Figure(f"{title}: memory for each", seen["grown"] / slow / MIB, "MiB", at_most=memory_limit),
        Figure(f"{title}: longest until cut off", longest, "s", at_most=LIMIT),
        none_of(f"{title}: not cut off as slow_peer", slow - slow_peers),
        none_of(f"{title}: others lost", lost),
        Figure(f"{title}: another peer's round trip before, p99", before.percentile(99), "ms"),
        Figure(f"{title}: another peer's round trip meanwhile, p99", p99, "ms", at_most=round_trip_limit),
    ]
