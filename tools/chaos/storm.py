"""Five hundred clients lose their hub, which is killed and started again: all must come back, and none too eagerly."""

from __future__ import annotations

import random
import socket
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import gevent
from gevent.pool import Pool

from peernet.channel.channel import PeerChannel
from peernet.channel.state import ChannelState
from peernet.config import NetworkConfig
from peernet.network import PeerNetwork
from peernet.peers.address import PeerAddress
from peernet.peers.identity import Identity
from peernet.runtime.deadline import Deadline
from peernet.transport.backend import Accepted, Failed, TcpBackend
from peernet.transport.base import Transport
from peernet.transport.listener import Listener
from peernet.transport.tcp import TcpTransport
from tools.bench.child import raise_file_limit
from tools.chaos.figures import Figure, none_of
from tools.chaos.processes import Child
from tools.chaos.traffic import LIMITS

# How long the hub is away, one after the other. Seconds.
# The limit is until all are back, from the moment when the hub listens again, if it was away only for as long as its
# restart took: whoever dials in vain for longer pauses for longer, up to a minute.
LONG: dict[str, Any] = {"clients": 500, "downtimes": (0.0, 0.0, 5.0), "limit": 15.0}
SHORT: dict[str, Any] = {"clients": 20, "downtimes": (0.0, 0.0), "limit": 60.0}

PATIENCE = 70.0
# No client may begin a dial sooner than a second after its last one. We look at the clock a little later than it does,
# and on a busy machine not always equally so. Seconds.
LEAST_PAUSE = 0.99
# Below those that systems choose from for connections (32768 on Linux).
PORTS = (20_000, 32_000)
# So many clients connect for the first time at once: fewer than a hub takes in its handshakes.
AT_ONCE = 16


class Hub:
    """The node that is killed.

    It takes as many channels as come; all other limits are the usual ones.
    """

    def __init__(self, *, home: str, port: int) -> None:
        raise_file_limit(4096)
        config = NetworkConfig(max_inbound=100_000, **LIMITS)
        identity = Identity.load_or_create(Path(home))
        self._backend = _CountingBackend()
        self._network = PeerNetwork(identity, [f"127.0.0.1:{port}"], "chaos", config=config, backend=self._backend)
        self._network.start()

    def address(self) -> str:
        return self._network.addresses[0]

    def account(self) -> dict[str, Any]:
        """When connections came, in monotonic seconds, and what became of them."""
        return {
            "accepted": self._backend.accepted,
            "channels": len(self._network.active_peer_channels),
            "counters": {str(name): count for name, count in self._network.counters.items()},
        }


class _CountingBackend(TcpBackend):
    """TCP that remembers when connections were dialled and when they came, in monotonic seconds."""

    def __init__(self) -> None:
        super().__init__()
        self.dialled: list[float] = []
        self.accepted: list[float] = []

    def dial(self, address: PeerAddress) -> TcpTransport:
        self.dialled.append(time.monotonic())
        return super().dial(address)

    def listen(self, address: PeerAddress, accepted: Accepted, failed: Failed) -> Listener:
        def note(transport: Transport) -> None:
            self.accepted.append(time.monotonic())
            accepted(transport)

        return super().listen(address, note, failed)


class _Client(PeerNetwork):
    """A node that remembers when it has dialled, and when it had a channel."""

    def __init__(self) -> None:
        self.connected_at = 0.0
        backend = _CountingBackend()
        self.dials = backend.dialled
        super().__init__(network_name="chaos", backend=backend)
        for event in (self.peer_added, self.channel_resumed):
            event.add(self._note)
        self.start()

    def is_back(self, hub: str, since: float) -> bool:
        channel = self.channel_to(hub)
        return channel is not None and channel.state is ChannelState.OPEN and self.connected_at > since

    def _note(self, channel: PeerChannel) -> None:
        self.connected_at = time.monotonic()


def run(*, seed: int, clients: int, downtimes: tuple[float, ...], limit: float) -> list[Figure]:
    random.seed(seed)
    raise_file_limit(2 * clients + 500)
    nodes = [_Client() for _ in range(clients)]
    figures = []
    with tempfile.TemporaryDirectory() as home:
        hub = Child(Hub, home=home, port=_free_port())
        try:
            where = PeerAddress.parse(hub.ask("address"))
            Pool(AT_ONCE).map(lambda node: node.connect(str(where)), nodes)
            for number, downtime in enumerate(downtimes, start=1):
                title = f"{clients} clients, kill {number}, hub away for {downtime:g} s"
                hub, figures_of_one = _storm(title, hub, home, where, nodes, downtime, limit)
                figures += figures_of_one
        finally:
            hub.end()
            Pool(AT_ONCE).map(lambda node: node.stop(0), nodes)
    pauses = [later - earlier for node in nodes for earlier, later in pairwise(node.dials)]
    return [*figures, Figure("shortest pause between two dials of a client", min(pauses), "s", at_least=LEAST_PAUSE)]


def _free_port() -> int:
    """A port that nobody listens on, nor gets for a connection while the hub is away."""
    while True:
        port = random.randrange(*PORTS)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                return port


def _storm(
    title: str, hub: Child, home: str, where: PeerAddress, nodes: list[_Client], downtime: float, limit: float
) -> tuple[Child, list[Figure]]:
    killed_at = time.monotonic()
    hub.kill()
    hub.end()
    gevent.sleep(downtime)
    hub = Child(Hub, home=home, port=where.port)
    hub.ask("address")
    listening_at = time.monotonic()
    assert where.identifier is not None
    back = _wait_for_all(nodes, where.identifier, killed_at)
    account = hub.ask("account")
    dials = sum(at > listening_at for node in nodes for at in node.dials)
    accepted = account["accepted"]
    seconds = max(node.connected_at for node in nodes) - listening_at
    return hub, [
        none_of(f"{title}: not back", len(nodes) - back),
        Figure(f"{title}: until the last is back", seconds, "s", at_most=None if downtime else limit),
        Figure(f"{title}: dials per client since it listens", dials / len(nodes), at_most=1 + seconds),
        Figure(f"{title}: connections at the hub per client", len(accepted) / len(nodes), at_most=1 + seconds),
        Figure(f"{title}: most connections in a second", _most_in_a_second(accepted)),
        Figure(f"{title}: turned away as busy", account["counters"].get("busy", 0)),
    ]


def _wait_for_all(nodes: list[_Client], hub: str, since: float) -> int:
    deadline = Deadline(PATIENCE)
    while True:
        back = sum(node.is_back(hub, since) for node in nodes)
        if back == len(nodes) or deadline.expired:
            return back
        gevent.sleep(0.05)


def _most_in_a_second(times: list[float]) -> int:
    times = sorted(times)
    first = most = 0
    for index, at in enumerate(times):
        while at - times[first] > 1:
            first += 1
        most = max(most, index - first + 1)
    return most
