"""Quota: how much is stored for whom, and how much may be."""

from __future__ import annotations

from collections import Counter

from peernet.config import NetworkConfig
from peernet.durable.packet import Backlog, NewPacket
from peernet.durable.store import DurableStore
from peernet.errors import OutboxFullError


class Quota:
    """Counts what is stored, or about to be.

    Args:
        config: the limits.
        backlogs: what is stored now.
    """

    def __init__(self, config: NetworkConfig, backlogs: dict[str, Backlog]) -> None:
        self._config = config
        self._aside = Counter({peer: backlog.aside for peer, backlog in backlogs.items() if backlog.aside})
        self._peers = {peer: [backlog.packets, backlog.bytes] for peer, backlog in backlogs.items()}
        self.packets = sum(packets for packets, _ in self._peers.values())
        self.bytes = sum(size for _, size in self._peers.values())

    def __contains__(self, peer: str) -> bool:
        return peer in self._peers

    @property
    def peers(self) -> list[str]:
        """For whom something is stored."""
        return list(self._peers)

    @property
    def aside(self) -> int:
        """How many packets are set aside. They count for the limits as well."""
        return self._aside.total()

    def is_waiting(self, peer: str) -> bool:
        """Whether something is stored for a peer that is to be sent."""
        return peer in self._peers and self._peers[peer][0] > self._aside[peer]

    def set_aside(self, peer: str, packets: int) -> None:
        """So many packets more are set aside; fewer if negative."""
        self._aside[peer] += packets
        if not self._aside[peer]:
            del self._aside[peer]

    def take(self, peer: str, size: int) -> None:
        """Make room for a packet.

        Raises:
            OutboxFullError: there is none.
        """
        config = self._config
        packets, used = self._peers.get(peer, (0, 0))
        if packets >= config.durable_packets_per_peer or used + size > config.durable_bytes_per_peer:
            raise _full(f"for {peer[:8]}", packets, used)
        if self.packets >= config.durable_packets or self.bytes + size > config.durable_bytes:
            raise _full("for all peers", self.packets, self.bytes)
        self._count(peer, 1, size)

    def give_back(self, peer: str, packets: int, size: int) -> None:
        """Packets are no longer stored."""
        self._count(peer, -packets, -size)

    def _count(self, peer: str, packets: int, size: int) -> None:
        counts = self._peers.setdefault(peer, [0, 0])
        counts[0] += packets
        counts[1] += size
        self.packets += packets
        self.bytes += size
        if not counts[0]:
            del self._peers[peer]


def store_checked(store: DurableStore, config: NetworkConfig, packet: NewPacket) -> int:
    """Store a packet if there is room for it, when nobody keeps count. Within a transaction.

    Raises:
        OutboxFullError: there is no room.
    """
    Quota(config, store.backlogs()).take(packet.peer, len(packet.body))
    return store.add(packet)


def _full(whom: str, packets: int, size: int) -> OutboxFullError:
    return OutboxFullError(
        f"the durable outbox {whom} is full ({packets} packets, {size} bytes); wait until some are delivered, "
        "drop them, or raise its limits"
    )
