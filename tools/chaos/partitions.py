"""Fifty simulated nodes talk while their network falls apart: no packet may be lost, and all must find together again.

Every two nodes have a channel. For five simulated minutes the nodes are parted at random, and single links fail for
moments; each node sends a packet to another one about twice a second. At the end come partitions of one half
from the other, shorter and longer than TCP's patience, and after each of them all must be connected in ten seconds.

That limit does not hold with the default configuration. With a ``backoff_cap`` of sixty seconds, a node that was away
for long is dialled up to a minute after it is back; and with heartbeats every fifteen seconds, the side that has to
dial may learn seventeen seconds after the healing that the other one has given their connection up. What
remains is mostly the time until a dial that hangs knocks again (TCP does after 1, 3 and 7 seconds).
"""

from __future__ import annotations

import resource
import time
from typing import Any

import gevent

from peernet.channel.channel import PeerChannel
from peernet.config import NetworkConfig
from peernet.runtime.deadline import Deadline
from peernet.testing import Ledger, SimulatedNetwork
from peernet.v1.packet_pb2 import PureMessagePacket

LONG: dict[str, Any] = {"nodes": 50, "seconds": 300.0}
SHORT: dict[str, Any] = {"nodes": 8, "seconds": 120.0}

CONFIG = NetworkConfig(backoff_cap=4.0, heartbeat_interval=3.0, dead_after=9.0)

# The most that the nodes may need to find together, and that packets may need after that. Seconds.
LIMIT = 10.0
# The last partitions: within TCP's patience, such that one side gives up just after the healing, and longer. Seconds.
LAST = (5.0, 14.0, 25.0, 45.0)
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
        seconds: simulated, in which the nodes are parted.
        seed: what all chance comes from.

    Returns:
        The figures, by name.

    Raises:
        LedgerError: a packet was lost, or delivered twice or in another order.
        ConnectError: two nodes have not found together in time.
    """
    began, busy = time.monotonic(), time.process_time()
    with SimulatedNetwork(nodes, seed=seed, config=CONFIG) as world:
        world.connect_all()
        talk = Talk(world, Deadline(seconds))
        talk.begin()
        _break(world, seconds - sum(LAST))
        connected_after = [_part_in_half(world, last) for last in LAST]
        connected_at = world.now
        talk.wait_resolved(LIMIT)
        resolved_after = world.now - connected_at
        talk.ledger.check()
        happened = [entry.what for entry in world.log]
    return {
        "nodes": nodes,
        "simulated seconds": round(world.now, 3),
        "partitions": happened.count("cut"),
        "channels that lost their connection": happened.count("reconnecting"),
        "channels that ended": happened.count("removed"),
        "seconds until all were connected, at most": round(max(connected_after), 3),
        "seconds from then until every packet was acknowledged": round(resolved_after, 3),
        **{f"packets {name}": count for name, count in talk.ledger.totals().items()},
        "seconds of this machine": round(time.monotonic() - began, 1),
        "seconds of its processor": round(time.process_time() - busy, 1),
        "most memory, MiB": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }


def _break(world: SimulatedNetwork, seconds: float) -> None:
    """Part and heal the nodes for so many seconds; healed at the end."""
    flapping = world.spawn(_flap, world, Deadline(seconds))
    world.random_partitions(seconds)
    flapping.join()


def _part_in_half(world: SimulatedNetwork, seconds: float) -> float:
    """Part the nodes for so many seconds. Returns how many seconds after that all were connected."""
    world.partition(world.random.sample(range(len(world.nodes)), len(world.nodes) // 2))
    world.run(seconds)
    world.heal()
    return world.wait_connected(LIMIT)


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
