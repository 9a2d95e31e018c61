"""What `peers` and `pending` show: connected, pending and known peers as plain values."""

from __future__ import annotations

import time
from typing import Any
from weakref import WeakKeyDictionary

from peernet.channel.channel import PeerChannel
from peernet.channel.state import ChannelState
from peernet.network import PeerNetwork
from peernet.peers.address_book import KnownPeer
from peernet.runtime import clock
from peernet.state.home import Home
from peernet.switch.pending import IncomingPeerConnectionAttempt
from peernet.switch.stores import PEERS, TRUST

Row = dict[str, Any]

# What people call the states of a channel. `away` is a peer that is known and has none.
STATES = {
    ChannelState.PENDING: "pending",
    ChannelState.OPEN: "connected",
    ChannelState.RECONNECTING: "reconnecting",
    ChannelState.CLOSING: "closing",
    ChannelState.CLOSED: "away",
}
AWAY = "away"


class PeerList:
    """The peers of a running node, from now on.

    Args:
        network: the node's.
    """

    def __init__(self, network: PeerNetwork) -> None:
        self._network = network
        self._lost_at: WeakKeyDictionary[PeerChannel, float] = WeakKeyDictionary()
        network.channel_reconnecting.add(self._lost)
        network.channel_resumed.add(self._found)

    def rows(self) -> list[Row]:
        """Everybody: those with a channel, those who wait to be let in, and those who are known."""
        rows = [*map(self.channel_row, self._network.active_peer_channels), *self.pending()]
        seen = {row["identifier"] for row in rows}
        trusted = self._network.policy.trusted_identifiers
        known = [known_row(peer, peer.identifier in trusted) for peer in self._network.known_peers]
        return rows + [row for row in known if row["identifier"] not in seen]

    def pending(self) -> list[Row]:
        """Those who wait to be let in."""
        return [_pending_row(attempt) for attempt in self._network.inbound_connecting_peers]

    def channel_row(self, channel: PeerChannel) -> Row:
        """A peer with a channel."""
        now = clock.monotonic()
        opened = now if channel.opened_at is None else channel.opened_at
        return {
            **channel.peer.to_dict(),
            "state": STATES[channel.state],
            "connected": channel.state is ChannelState.OPEN,
            "seconds_reconnecting": round(now - self._lost_at.get(channel, now), 1),
            "trusted": channel.trusted,
            "dialled": channel.dialled,
            "seconds_open": round(now - opened, 1),
            "seconds_silent": round(now - channel.last_received, 1),
            "queued_bytes": channel.queued_bytes,
            "counters": dict(channel.counters),
            "last_seen": time.time() - (now - channel.last_received),
        }

    def _lost(self, channel: PeerChannel) -> None:
        self._lost_at[channel] = clock.monotonic()

    def _found(self, channel: PeerChannel) -> None:
        self._lost_at.pop(channel, None)


def known_row(known: KnownPeer, trusted: bool) -> Row:
    """A peer that is known and has no channel."""
    return {
        "identifier": known.identifier,
        "state": AWAY,
        "connected": False,
        "trusted": trusted,
        "proven": known.proven,
        "address": known.addresses[0] if known.addresses else "",
        "addresses": known.addresses,
        "last_seen": known.last_seen,
    }


def peers_of_home(home: Home) -> list[Row]:
    """The known peers of a home on which no node runs."""
    trusted = TRUST.load(home.trust_file, look_only=True).trusted_identifiers
    return [known_row(peer, peer.identifier in trusted) for peer in PEERS.load(home.peers_file, look_only=True)]


def _pending_row(attempt: IncomingPeerConnectionAttempt) -> Row:
    peer = attempt.peer
    return {
        "peer": peer.identifier,
        **peer.to_dict(),
        "state": STATES[ChannelState.PENDING],
        "connected": False,
        "trusted": False,
        "last_seen": time.time(),
    }
