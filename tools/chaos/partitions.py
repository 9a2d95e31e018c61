"""Fifty simulated nodes talk while their network falls apart: no packet may be lost, and all must find together again.

Every two nodes have a channel. For five simulated minutes the nodes are parted at random, and single links fail for
moments; each node sends a packet to another one about twice a second. Then, after a partition that lasts
longer than any connection, the network is healed.

The limit of ten seconds holds with a ``backoff_cap`` of four: with the sixty seconds that are the default, a node that
was away for long is dialled up to a minute after it is back. The other parts of the ten seconds are
what a dial that hangs needs to notice (TCP knocks after 1, 3 and 7 seconds).
"""

from __future__ import annotations

import resource
import time
from typing import Any

import gevent

from peernet.channel import PeerChannel
from peernet.config import NetworkConfig
from peernet.deadline import Deadline
from peernet.testing import Ledger, SimulatedNetwork
from peernet.v1.packet_pb2 import PureMessagePacket

LONG: dict[str, Any] = {"nodes": 50, "seconds": 300.0}
SHORT: dict[str, Any] = {"nodes": 8, "seconds": 100.0}

CONFIG = NetworkConfig(backoff_cap=4.0)

# The most that the nodes may need to find together, and that packets may need after that. Seconds.
LIMIT = 10.0
# The last partition: longer than TCP's patience and ``dead_after``, so that both sides know of it. Seconds.
LAST = 45.0
# Of each node, from one packet to the next, at most. Seconds.
PAUSE = 1.0
# How often a single link fails, and for how long, at most. Seconds.
FLAP_EVERY, FLAP_LASTS = 2.0, 5.0


class Talk:
    """What the nodes say to each other."""

    def __init__(self, world: SimulatedNetwork, ends: Deadline) -> None:
        self._world = world
        self._ends = ends
        self.ledger = Ledger()
        for node in world.nodes:
            node.handlers["pure_message"] = _listen
            self.ledger.watch(node)

    def begin(self) -> None:
        """Let every node talk, until the end."""
        for node in range(len(self._world.nodes)):
            self._world.spawn(self._talk, node)

    def _talk(self, node: int) -> None:
        random, number = self._world.random, 0
        while not self._ends.expired:
            gevent.sleep(random.uniform(0, PAUSE))
            channels = self._world.nodes[node].active_peer_channels
            number += 1
            self.ledger.send(random.choice(channels), PureMessagePacket(message=f"{number} of {node}"))

    def wait_resolved(self, timeout: float) -> None:
        """Wait until every packet is acknowledged or failed, or for so many seconds."""
        deadline = Deadline(timeout)
        while self.ledger.totals()["pending"] and not deadline.expired:
            gevent.sleep(0.1)


def run(*, nodes: int, seconds: float, seed: int) -> dict[str, float]:
    """Run the scenario.

    Args:
        nodes: how many.
        seconds: simulated, from the first partition to the last healing.
        seed: what all chance comes from.

    Returns:
        The figures, by name.

    Raises:
        LedgerError: a packet was lost, or delivered twice or in another order.
        ConnectError: two nodes have not found together in time.
    """
    began = time.monotonic()
    with SimulatedNetwork(nodes, seed=seed, config=CONFIG) as world:
        world.connect_all()
        talk = Talk(world, Deadline(seconds))
        talk.begin()
        _break(world, seconds)
        healed_at = world.now
        connected_after = world.wait_connected(LIMIT)
        talk.wait_resolved(LIMIT)
        resolved_after = world.now - healed_at
        talk.ledger.check()
        happened = [entry.what for entry in world.log]
    return {
        "nodes": nodes,
        "simulated seconds": round(world.now, 3),
        "partitions": happened.count("cut"),
        "channels that lost their connection": happened.count("reconnecting"),
        "channels that ended": happened.count("removed"),
        "seconds until all were connected": round(connected_after, 3),
        "seconds until every packet was acknowledged": round(resolved_after, 3),
        **{f"packets {name}": count for name, count in talk.ledger.totals().items()},
        "seconds of this machine": round(time.monotonic() - began, 1),
        "most memory, MiB": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }


def _break(world: SimulatedNetwork, seconds: float) -> None:
    """Part and heal the nodes for so many seconds; healed at the end."""
    flapping = world.spawn(_flap, world, Deadline(seconds - LAST))
    world.random_partitions(seconds - LAST)
    flapping.join()
    world.partition(range(len(world.nodes) // 2))
    world.run(LAST)
    world.heal()


def _flap(world: SimulatedNetwork, ends: Deadline) -> None:
    """Let single links fail for a moment."""
    while not ends.expired:
        world.run(ends.cap(world.random.uniform(0, FLAP_EVERY)))
        one, other = world.random.sample(range(len(world.nodes)), 2)
        world.cut(one, other)
        world.run(ends.cap(world.random.uniform(0, FLAP_LASTS)))
        world.mend(one, other)


def _listen(channel: PeerChannel, packet: Any) -> None:
    """A callback that has nothing to add."""
