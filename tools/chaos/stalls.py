"""Peers are stopped, callbacks compute or sleep, connections fall silent: only who is really gone may be given up."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import gevent
from gevent.event import Event as Flag

from peernet.channel.channel import PeerChannel
from peernet.config import NetworkConfig
from peernet.network import PeerNetwork
from peernet.runtime.deadline import Deadline
from peernet.v1.packet_pb2 import PureMessagePacket
from tools.chaos.figures import Figure, none_of
from tools.chaos.namespace import NotPermittedHere, OwnNetwork
from tools.chaos.processes import Child, ChildError
from tools.chaos.traffic import LIMITS, RoundTrips, Talk, TalkChecker

# The times are seconds, the limit of round trips milliseconds; `slack` is how much longer than the patience finding out
# may take. Peers are stopped for so many seconds while each side sends a packet every so many seconds.
LONG: dict[str, Any] = {
    "stopped": ((10.0, 0.002), (10.0, 0.0), (15.0, 0.0)),
    "burning": 5.0,
    "sleeping": 20.0,
    "config": {},
    "slack": 2.0,
    "round_trip_limit": 20.0,
}
SHORT: dict[str, Any] = {
    "stopped": ((1.2, 0.002),),
    "burning": 0.6,
    "sleeping": 1.0,
    "config": {"heartbeat_interval": 0.2, "dead_after": 1.0, "write_timeout": 1.0, "backoff_base": 0.1},
    "slack": 10.0,
    "round_trip_limit": 2000.0,
}
# Until a peer that was stopped talks again. Seconds.
RECOVERY_LIMIT = 10.0


class Peer:
    """A peer in a process of its own. It dials, talks and listens."""

    def __init__(self, *, config: dict[str, Any], address: str) -> None:
        self._network = make_network(config)
        self._checker = self._network.handlers["pure_message"] = TalkChecker()
        self._watched = Watched(self._network)
        self._network.start()
        self._channel = self._network.connect(address)
        self._talk: Talk | None = None

    def identifier(self) -> str:
        return self._network.identifier

    def say(self, text: str) -> None:
        self._channel.send(PureMessagePacket(message=text))

    def talk(self, pause: float) -> None:
        self._talk = Talk(self._channel, pause=pause)

    def hush(self) -> dict[str, int]:
        """Say no more, and tell what became of what was said."""
        assert self._talk is not None
        return self._talk.account()

    def heard(self) -> dict[str, int]:
        return {"received": self._checker.received, "mistakes": self._checker.mistakes, "lost": self._watched.lost}


class Busy:
    """A node whose callback computes or sleeps for as long as the packet says."""

    def __init__(self, *, config: dict[str, Any]) -> None:
        self._network = make_network(config, listen=["127.0.0.1:0"])
        self._watched = Watched(self._network)
        self._network.handlers["pure_message"] = self._obey
        self._network.start()

    def address(self) -> str:
        return self._network.addresses[0]

    def counts(self) -> dict[str, int]:
        return {"lost": self._watched.lost, "reconnecting": self._watched.reconnecting}

    @staticmethod
    def _obey(channel: PeerChannel, packet: Any) -> None:
        what, seconds = packet.pure_message.message.split()
        burn(float(seconds)) if what == "burn" else gevent.sleep(float(seconds))


class CutOff:
    """Two nodes in one process, in a network of their own that fails at a word."""

    def __init__(self, *, config: dict[str, Any]) -> None:
        self._own = OwnNetwork()
        self._node = Blocked(config)
        self._peer = make_network(config)
        self._peer.start()
        self._channel = self._peer.connect(self._node.address)

    def fail(self, packets: int, size: int) -> float:
        """Let the network fail behind a blocked callback and unread packets. Returns when that was noticed."""
        self._channel.send(PureMessagePacket(message="block"))
        self._node.busy.wait()
        for _ in range(packets):
            self._channel.send(PureMessagePacket(message="x" * size))
        gevent.sleep(0.3)
        self._own.take_down()
        return self._node.wait_until_lost()


class Blocked:
    """A node whose callback never returns. It tells how long it takes to find out that a peer is gone."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.network = make_network(config, listen=["127.0.0.1:0"])
        self.busy = Flag()
        self._never = Flag()
        self._lost = Flag()
        self.network.handlers["pure_message"] = self._block
        self.network.channel_reconnecting.add(lambda channel: self._lost.set())
        self.network.start()
        self.address = self.network.addresses[0]

    def wait_until_lost(self) -> float:
        """Seconds from now until it counts its peer as gone."""
        began = time.monotonic()
        return time.monotonic() - began if self._lost.wait(5 * self.network.config.dead_after) else float("inf")

    def stop(self) -> None:
        self._never.set()
        self.network.stop(1)

    def _block(self, channel: PeerChannel, packet: Any) -> None:
        self.busy.set()
        self._never.wait()


class Watched:
    """Counts the channels of a network that ended, and the connections that were lost."""

    def __init__(self, network: PeerNetwork) -> None:
        self.lost = self.reconnecting = 0
        network.peer_removed.add(self._removed)
        network.channel_reconnecting.add(self._reconnecting)

    def _removed(self, channel: PeerChannel, reason: object) -> None:
        self.lost += 1

    def _reconnecting(self, channel: PeerChannel) -> None:
        self.reconnecting += 1


def make_network(config: dict[str, Any], listen: list[str] | None = None) -> PeerNetwork:
    return PeerNetwork(network_name="chaos", listen=listen or [], config=NetworkConfig(**(LIMITS | config)))


def burn(seconds: float) -> None:
    """Let nobody else run."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        pass


def run(
    *,
    seed: int,
    stopped: tuple[tuple[float, float], ...],
    burning: float,
    sleeping: float,
    config: dict[str, Any],
    slack: float,
    round_trip_limit: float,
) -> list[Figure]:
    patience = NetworkConfig(**config).dead_after + slack
    finding_out = {
        "peer stopped for good, nothing unread": lambda: _stop_for_good(config, 0),
        "peer stopped for good, bytes unread": lambda: _stop_for_good(config, 3),
        "network down, nothing unread": lambda: _cut_off(config, 0),
        "network down, bytes unread": lambda: _cut_off(config, 3),
    }
    if not config:  # TCP's own time-out is not ours to shorten
        finding_out["network down, no room for more bytes"] = lambda: _cut_off(config, 40, 60_000)
    measuring = {title: gevent.spawn(measure) for title, measure in finding_out.items()}
    figures = [figure for seconds, pause in stopped for figure in _measure_stop(config, seconds, pause)]
    figures += _measure_burning(config, burning)
    figures += _measure_sleeping(config, sleeping, round_trip_limit)
    for title, measure in measuring.items():
        figures.append(Figure(f"{title}, a callback blocked: until noticed", measure.get(), "s", at_most=patience))
    return figures


def _measure_stop(config: dict[str, Any], seconds: float, pause: float) -> list[Figure]:
    """SIGSTOP under traffic both ways."""
    node = make_network(config, listen=["127.0.0.1:0"])
    watched = Watched(node)
    checker = node.handlers["pure_message"] = TalkChecker()
    with node, Child(Peer, config=config, address=node.addresses[0]) as peer:
        channel = _wait_for(lambda: node.channel_to(peer.ask("identifier")))
        talk = Talk(channel, pause=pause)
        peer.ask("talk", pause=pause)
        gevent.sleep(0.5)
        with peer.stopped():
            gevent.sleep(seconds)
        recovery = talk.wait_for_news(60)
        gevent.sleep(0.5)
        theirs, ours = peer.ask("hush"), talk.account()
        there = peer.ask("heard")
        lost, reconnecting = watched.lost + there["lost"], watched.reconnecting
    title = f"peer stopped for {seconds:g} s under {'' if pause else 'heavy '}traffic"
    open_or_failed = sum(side[what] for side in (ours, theirs) for what in ("open", "failed"))
    missing = ours["sent"] - there["received"] + theirs["sent"] - checker.received
    return [
        none_of(f"{title}: channels lost", lost),
        none_of(f"{title}: packets lost, doubled or swapped", abs(missing) + checker.mistakes + there["mistakes"]),
        none_of(f"{title}: packets without a receipt", open_or_failed),
        Figure(f"{title}: packets, both ways", ours["sent"] + theirs["sent"]),
        Figure(f"{title}: connections lost and resumed", reconnecting),
        Figure(f"{title}: until a packet is acknowledged", recovery, "s", at_most=RECOVERY_LIMIT),
    ]


def _measure_burning(config: dict[str, Any], seconds: float) -> list[Figure]:
    """A callback that computes: the whole process of the other side stands still."""
    with Child(Busy, config=config) as busy, make_network(config) as one, make_network(config) as other:
        watched = [Watched(network) for network in (one, other)]
        channel, bystander = (network.connect(busy.ask("address")) for network in (one, other))
        channel.send(PureMessagePacket(message=f"burn {seconds}")).wait(60)
        bystander.ping(60)
        lost, reconnecting = _losses(busy, watched)
        log = busy.log
    title = f"callback that computes for {seconds:g} s"
    return [
        none_of(f"{title}: channels lost", lost),
        none_of(f"{title}: connections lost", reconnecting),
        Figure(f"{title}: named in the log", log.count("Busy._obey on"), at_least=1, at_most=1),
    ]


def _measure_sleeping(config: dict[str, Any], seconds: float, limit: float) -> list[Figure]:
    """A callback that waits: only its own channel does."""
    with Child(Busy, config=config) as busy, make_network(config) as one, make_network(config) as other:
        watched = [Watched(network) for network in (one, other)]
        channel, bystander = (network.connect(busy.ask("address")) for network in (one, other))
        before = RoundTrips(bystander)
        gevent.sleep(seconds / 4)
        before.stop()
        during = RoundTrips(bystander)
        channel.send(PureMessagePacket(message=f"sleep {seconds}")).wait(60)
        during.stop()
        lost, reconnecting = _losses(busy, watched)
    title = f"callback that sleeps for {seconds:g} s"
    return [
        none_of(f"{title}: channels lost", lost),
        none_of(f"{title}: connections lost", reconnecting),
        Figure(f"{title}: another peer's round trip before, p99", before.percentile(99), "ms"),
        Figure(f"{title}: another peer's round trip meanwhile, p99", during.percentile(99), "ms", at_most=limit),
    ]


def _losses(busy: Child, watched: list[Watched]) -> tuple[int, int]:
    """Channels and connections that were lost on either side."""
    there = busy.ask("counts")
    return (
        there["lost"] + sum(one.lost for one in watched),
        there["reconnecting"] + sum(one.reconnecting for one in watched),
    )


def _stop_for_good(config: dict[str, Any], packets: int) -> float:
    """Stop a peer, whose system goes on to acknowledge, behind a callback and so many packets that nobody reads."""
    node = Blocked(config)
    try:
        with Child(Peer, config=config, address=node.address) as peer:
            peer.ask("say", text="block")
            node.busy.wait()
            for _ in range(packets):
                peer.ask("say", text="unread")
            gevent.sleep(0.3)
            with peer.stopped():
                return node.wait_until_lost()
    finally:
        node.stop()


def _cut_off(config: dict[str, Any], packets: int, size: int = 10) -> float | None:
    try:
        with Child(CutOff, config=config) as nodes:
            return float(nodes.ask("fail", 120, packets=packets, size=size))
    except ChildError as error:
        if NotPermittedHere.__name__ in str(error):
            return None
        raise


def _wait_for(look: Callable[[], Any]) -> Any:
    deadline = Deadline(10)
    while not (found := look()):
        if deadline.expired:
            raise AssertionError("waited 10 s in vain")
        gevent.sleep(0.01)
    return found
