"""DurableOwner: what the durable outbox asks of the network whose packets it keeps."""

from __future__ import annotations

from collections import Counter
from typing import Protocol

from peernet.channel.control import ChannelControl
from peernet.peers.address_book import KnownPeers
from peernet.runtime.threads import HomeThread


class DurableOwner(Protocol):
    """A network, as its durable outbox sees it.

    Attributes:
        identifier: who the network is, and so to whom nothing is sent.
        counters: count what was refused.
        known_peers: where peers can be dialled.
        home: the native thread that it belongs to.
    """

    identifier: str
    counters: Counter[str]
    known_peers: KnownPeers
    home: HomeThread

    def control_to(self, identifier: str) -> ChannelControl | None:
        """The control of the channel to a peer, if there is one."""

    def on_set_aside(self, peer: str, packet_id: bytes, attempts: int) -> None:
        """A packet for a peer is not sent any more, because its callback has failed so often."""
