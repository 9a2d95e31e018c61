"""peernet itself, through its public interface only."""

from __future__ import annotations

import time
from typing import Any

import gevent
from gevent import pool
from gevent.event import Event
from gevent.queue import SimpleQueue

from peernet import Identity, IncomingPeerTrustPolicy, NetworkConfig, PeerNetwork
from peernet.v1.packet_pb2 import Packet, PureMessagePacket
from tools.bench.child import Side
from tools.bench.memory import dial_in_two_steps, measure_idle
from tools.bench.scenarios import SMALL_BYTES
from tools.bench.workload import PING

DIAL_TIMEOUT = 30
# Clients that connect at the same time: below a node's limit of handshakes under way.
DIALLING = 32
PAUSE = 0.3  # between two broadcasts


class Peernet:
    def __init__(self, *, secure: bool, waiting: bool = False, **limits: Any) -> None:
        self._secure = secure
        self._limits = limits
        if waiting:
            self.dial_rtt = self._dial_rtt_waiting  # type: ignore[method-assign]

    def _network(self, side: Side, listen: list[str]) -> PeerNetwork:
        # Not the defaults: how many may come, all from one address and many at once; and how much of it an
        # untrusted peer may send, since nobody knows the identities of a run beforehand.
        config = NetworkConfig(
            max_inbound=side.params.get("channels", 1) + DIALLING,
            early_drop_from=2 * DIALLING,
            allow_loopback_burst=True,
            untrusted_frame_rate=0,
            **side.params.get("limits", {}),
            **self._limits,
        )
        return PeerNetwork(
            identity=Identity.generate(),
            listen=listen,
            network_name="bench",
            policy=IncomingPeerTrustPolicy(allow_enhanced_packet_exchange=True),
            config=config,
            insecure=not self._secure,
        )

    def _node(self, side: Side) -> PeerNetwork:
        return self._network(side, ["127.0.0.1:0"])

    def _dial(self, side: Side, network: PeerNetwork, address: str) -> Any:
        network.start()
        return network.connect(address, timeout=DIAL_TIMEOUT)

    # -- streams ------------------------------------------------------------

    def listen_small(self, side: Side) -> None:
        node = self._node(side)
        node.handlers[side.load.kind] = side.tally()
        node.start()
        side.ready(node.addresses[0])
        side.hold(gevent.sleep)

    def dial_small(self, side: Side) -> None:
        network = self._network(side, [])
        send, make = self._dial(side, network, side.address()).send, side.load.body
        for batch in side.flow().batches():
            for item in batch:
                send(make(item))
        side.hold(gevent.sleep)

    listen_bulk = listen_small
    dial_bulk = dial_small

    # -- round trips --------------------------------------------------------

    def listen_rtt(self, side: Side) -> None:
        node = self._node(side)
        node.handlers["pure_message"] = _answer
        node.start()
        side.ready(node.addresses[0])
        side.hold(gevent.sleep)

    def dial_rtt(self, side: Side) -> None:
        """The callback that receives an answer sends the next ping, as the echo's callback does."""
        network, clock, over = self._network(side, []), side.clock(), Event()

        def answered(channel: Any, packet: Packet) -> None:
            read = packet.pure_message.message
            clock.end()
            if clock.running:
                clock.begin()
                channel.send(PureMessagePacket(message=read))
            else:
                over.set()

        network.handlers["pure_message"] = answered
        channel = self._dial(side, network, side.address())
        clock.begin()
        channel.send(PureMessagePacket(message=PING))
        over.wait()
        side.report(clock.result())
        side.hold(gevent.sleep)

    def _dial_rtt_waiting(self, side: Side) -> None:
        """A greenlet of the application sends, and waits for what the callback hands over."""
        network, answers = self._network(side, []), SimpleQueue()
        network.handlers["pure_message"] = lambda _, packet: answers.put(packet.pure_message.message)
        channel, clock = self._dial(side, network, side.address()), side.clock()
        while clock.running:
            clock.begin()
            channel.send(PureMessagePacket(message=PING))
            answers.get()
            clock.end()
        side.report(clock.result())
        side.hold(gevent.sleep)

    # -- many channels ------------------------------------------------------

    def listen_idle(self, side: Side) -> None:
        node = self._node(side)
        node.start()
        side.ready(node.addresses[0])
        measure_idle(side, lambda: len(node.active_peer_channels))

    def dial_idle(self, side: Side) -> None:
        """A network with an identity of its own per channel: a node keeps one channel to each peer."""
        address = side.address()
        kept = dial_in_two_steps(side, lambda: self._client(side, address), pool.Pool(DIALLING))
        side.hold(gevent.sleep)
        kept.clear()

    def _client(self, side: Side, address: str) -> PeerNetwork:
        network = self._network(side, [])
        self._dial(side, network, address)
        return network

    def listen_broadcast(self, side: Side) -> None:
        """The node that broadcasts; every message carries the time at which it was made."""
        node = self._node(side)
        node.start()
        side.ready(node.addresses[0])
        while len(node.active_peer_channels) < side.params["channels"]:
            gevent.sleep(0.05)
        gevent.sleep(1)
        for _ in range(side.params["broadcasts"]):
            stamp = str(time.monotonic_ns()).ljust(SMALL_BYTES, ".")
            node.broadcast(PureMessagePacket(message=stamp))
            gevent.sleep(PAUSE)
        side.hold(gevent.sleep)

    def dial_broadcast(self, side: Side) -> None:
        address, arrivals = side.address(), Arrivals(side)

        def client(_: int) -> PeerNetwork:
            network = self._network(side, [])
            network.handlers["pure_message"] = arrivals
            self._dial(side, network, address)
            return network

        kept = pool.Pool(DIALLING).map(client, range(side.params["channels"]))
        side.hold(gevent.sleep)
        kept.clear()


class Arrivals:
    """The callback of all clients: the last one to get a broadcast stops its clock."""

    def __init__(self, side: Side) -> None:
        self._side = side
        self._missing: dict[str, int] = {}
        self._took: list[float] = []

    def __call__(self, channel: Any, packet: Packet) -> None:
        stamp = packet.pure_message.message
        missing = self._missing.get(stamp, self._side.params["channels"]) - 1
        self._missing[stamp] = missing
        if not missing:
            self._took.append((time.monotonic_ns() - int(stamp.rstrip("."))) / 1e6)
            if len(self._took) == self._side.params["broadcasts"]:
                self._side.report({"ms": self._took})


def _answer(channel: Any, packet: Packet) -> None:
    channel.send(PureMessagePacket(message=packet.pure_message.message))


TLS = Peernet(secure=True)
TLS_WAITING = Peernet(secure=True, waiting=True)
TLS_UNSURE = Peernet(secure=True, session_ttl=0.0)
TLS_X25519 = Peernet(secure=True, key_exchange="x25519")
PLAIN = Peernet(secure=False)
