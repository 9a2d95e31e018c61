"""Which peers are known, and which are connected. Two tables, both keyed by identifier."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from peernet import clock
from peernet.channel import PeerChannel
from peernet.channel_state import ChannelState
from peernet.config import NetworkConfig
from peernet.peer import GenericPeer


@dataclass
class KnownPeer:
    """What is remembered of a peer.

    Attributes:
        identifier: who it is.
        proven: whether TLS has proven it.
        addresses: ``host:port`` where dialling it has worked, newest first.
        last_seen: wall-clock seconds (Unix time), for people.
    """

    identifier: str
    proven: bool
    addresses: list[str] = field(default_factory=list)
    last_seen: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return dict(vars(self))


class KnownPeers:
    """The address book.

    When it is full, the peer not seen for longest is forgotten; peers that have only come
    to us and cannot be dialled go before those that can, because anybody can come often.
    """

    def __init__(self, config: NetworkConfig) -> None:
        self._config = config
        self._peers: dict[str, KnownPeer] = {}
        self._visitors: dict[str, None] = {}  # those of them without an address, oldest first

    def __len__(self) -> int:
        return len(self._peers)

    def __iter__(self) -> Iterator[KnownPeer]:
        return iter(list(self._peers.values()))

    def __contains__(self, identifier: object) -> bool:
        return identifier in self._peers

    def get(self, identifier: str) -> KnownPeer | None:
        """What is known of a peer, if anything."""
        return self._peers.get(identifier)

    def note(self, peer: GenericPeer, *, dialled: bool) -> KnownPeer:
        """Remember that a peer was met, and where, if that is where it can be dialled again."""
        known = self._peers.pop(peer.identifier, None) or KnownPeer(peer.identifier, peer.proven)
        self._peers[peer.identifier] = known  # now the youngest
        known.proven = peer.proven
        known.last_seen = clock.wall()
        if dialled:
            self._remember_address(known, peer.endpoint)
        self._list_visitor(known)
        self._forget_oldest()
        return known

    def restore(self, known: KnownPeer) -> None:
        """Put back what an earlier process remembered."""
        self._list_visitor(self._peers.setdefault(known.identifier, known))
        self._forget_oldest()

    def forget(self, identifier: str) -> None:
        """Remove a peer; one that is not known is no error."""
        self._peers.pop(identifier, None)
        self._visitors.pop(identifier, None)

    def _list_visitor(self, known: KnownPeer) -> None:
        self._visitors.pop(known.identifier, None)
        if not known.addresses:
            self._visitors[known.identifier] = None

    def _forget_oldest(self) -> None:
        if len(self._peers) > self._config.max_known_peers:
            self.forget(next(iter(self._visitors or self._peers)))

    def _remember_address(self, known: KnownPeer, address: str) -> None:
        if address in known.addresses:
            known.addresses.remove(address)
        known.addresses.insert(0, address)
        del known.addresses[self._config.max_addresses_per_peer :]


class ChannelTable:
    """The channels of a network: at most one per peer.

    Of two connections between the same two peers both sides keep the one that the
    peer with the smaller identifier has dialled; of two that the same side has
    dialled, the older one.
    """

    def __init__(self, identifier: str) -> None:
        self._identifier = identifier
        self._channels: dict[str, PeerChannel] = {}
        self.inbound = 0  # how many of them the other side has dialled

    def __len__(self) -> int:
        return len(self._channels)

    def __iter__(self) -> Iterator[PeerChannel]:
        return iter(list(self._channels.values()))

    @property
    def outbound(self) -> int:
        """How many of them this side has dialled."""
        return len(self._channels) - self.inbound

    def get(self, identifier: str) -> PeerChannel | None:
        """The channel to a peer, if there is one."""
        return self._channels.get(identifier)

    def keeps_existing(self, identifier: str, *, dialled: bool) -> bool:
        """Whether a new connection with this peer has to give way to the channel that exists."""
        existing = self._channels.get(identifier)
        if existing is None or existing.state is ChannelState.CLOSING:
            return False
        return existing.dialled == dialled or self._dialled_by_smaller(existing)

    def add(self, channel: PeerChannel) -> PeerChannel | None:
        """Add a channel. Returns the one that it replaces, if any."""
        replaced = self._channels.get(channel.peer.identifier)
        if replaced is not None:
            self.remove(replaced)
        self._channels[channel.peer.identifier] = channel
        self.inbound += not channel.dialled
        return replaced

    def remove(self, channel: PeerChannel) -> bool:
        """Remove a channel. Returns whether it was there: a replaced one is not."""
        if self._channels.get(channel.peer.identifier) is not channel:
            return False
        del self._channels[channel.peer.identifier]
        self.inbound -= not channel.dialled
        return True

    def _dialled_by_smaller(self, channel: PeerChannel) -> bool:
        return channel.dialled == (self._identifier < channel.peer.identifier)
