"""KnownPeers: the address book, which remembers whom this node has met and where they can be dialled."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from peernet.config import NetworkConfig
from peernet.errors import ConfigurationError
from peernet.peers.address import PeerAddress, is_identifier, prefix_of
from peernet.peers.peer import GenericPeer
from peernet.runtime import clock
from peernet.runtime.text import printable
from peernet.runtime.threads import NO_HOME, HomeThread, at_home

# All that is in one of these counts as one source: a provider's customer can have that much.
SOURCE_IPV4 = 16
SOURCE_IPV6 = 32
# So many sources have to work together to fill the address book.
SOURCES = 16


@dataclass
class KnownPeer:
    """What is remembered of a peer.

    Attributes:
        identifier: who it is.
        proven: whether TLS has proven it.
        addresses: ``host:port`` where dialling it has worked, newest first.
        last_seen: wall-clock seconds (Unix time), for people.
        source: the /16 (IPv4) or /32 (IPv6) in which it was seen last; empty if that is not known.
        kept: whether this node was told to connect to it.
    """

    identifier: str
    proven: bool
    addresses: list[str] = field(default_factory=list)
    last_seen: float = 0.0
    source: str = ""
    kept: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return dict(vars(self))

    @classmethod
    def from_dict(cls, entry: dict[str, Any]) -> KnownPeer:
        """What :meth:`to_dict` has described.

        Raises:
            ConfigurationError, AddressError, LookupError, TypeError, ValueError, OverflowError: it is damaged.
        """
        if not is_identifier(entry["identifier"]):
            raise ConfigurationError(f"{entry['identifier']!r} is not an identifier")
        return cls(
            entry["identifier"],
            bool(entry["proven"]),
            [PeerAddress.parse(address).endpoint for address in entry["addresses"]],
            clock.moment_of(entry["last_seen"]),
            printable(entry.get("source", "")),  # these two came with the second version
            bool(entry.get("kept", False)),
        )


# Identifier -> monotonic seconds when the peer was seen, oldest first.
Seen = OrderedDict[str, float]


class KnownPeers:
    """The address book.

    When it is full, the peer not seen for longest is forgotten; peers that have only come to us and
    cannot be dialled go before those that can, because anybody can come often, and those that this
    node was told to connect to go last. These are not forgotten for their age either. All the
    others from one source, a /16 of IPv4 or a /32 of IPv6, get a sixteenth of the book at most.

    Args:
        config: the limits.
        home: the native thread of the network.

    Attributes:
        revision: another number after every change.
    """

    def __init__(self, config: NetworkConfig, home: HomeThread = NO_HOME) -> None:
        self._home = home
        self._config = config
        self._peers: OrderedDict[str, KnownPeer] = OrderedDict()
        # Each peer is in one of these three, and the peers of the first two in those of their source.
        self._visitors: Seen = OrderedDict()
        self._reachable: Seen = OrderedDict()
        self._kept: Seen = OrderedDict()
        self._sources: dict[tuple[str, bool], Seen] = {}  # source and whether it can be dialled
        self.revision = 0
        self._share = max(1, config.max_known_peers // SOURCES)

    def __repr__(self) -> str:
        return f"<KnownPeers: {len(self)}, of which {len(self._visitors)} cannot be dialled>"

    def __len__(self) -> int:
        return len(self._peers)

    def __iter__(self) -> Iterator[KnownPeer]:
        return iter(list(self._peers.values()))

    def __contains__(self, identifier: object) -> bool:
        return identifier in self._peers

    def get(self, identifier: str) -> KnownPeer | None:
        """What is known of a peer, if anything."""
        return self._peers.get(identifier)

    @at_home
    def note(self, peer: GenericPeer, *, dialled: bool, kept: bool = False) -> KnownPeer:
        """Remember that a peer was met.

        Args:
            peer: who and where.
            dialled: whether it can be dialled there again.
            kept: whether this node was told to connect to it; that stays true.
        """
        known = self._peers.get(peer.identifier) or KnownPeer(peer.identifier, peer.proven)
        self.forget(peer.identifier)
        known.proven = peer.proven
        known.kept = known.kept or kept
        known.last_seen = clock.wall()
        known.source = prefix_of(peer.address, SOURCE_IPV4, SOURCE_IPV6) or ""
        if dialled:
            self._remember_address(known, peer.endpoint)
        self._enter(known, clock.monotonic())
        return known

    def is_kept(self, identifier: str) -> bool:
        """Whether this node was told to connect to a peer."""
        return identifier in self._kept

    @at_home
    def restore(self, peers: Iterable[KnownPeer]) -> None:
        """Put back what an earlier process remembered, the peer not seen for longest first.

        How old an entry is counts from the youngest, and not from now: neither a node that was off
        for long nor a clock that was set empties the address book.
        """
        peers = list(peers)
        now, wall_now = clock.monotonic(), clock.wall()
        youngest = max((min(known.last_seen, wall_now) for known in peers), default=0.0)
        for known in peers:
            if known.identifier not in self._peers:
                del known.addresses[self._config.max_addresses_per_peer :]
                self._enter(known, now - max(0.0, youngest - known.last_seen))

    @at_home
    def forget(self, identifier: str) -> None:
        """Remove a peer; one that is not known is no error."""
        known = self._peers.pop(identifier, None)
        if known is None:
            return
        self.revision += 1
        del self._table(known)[identifier]
        if not known.kept:
            source = self._sources[known.source, bool(known.addresses)]
            del source[identifier]
            if not source:
                del self._sources[known.source, bool(known.addresses)]

    def _enter(self, known: KnownPeer, seen: float) -> None:
        self.revision += 1
        self._peers[known.identifier] = known  # now the youngest
        self._table(known)[known.identifier] = seen
        if not known.kept:
            self._sources.setdefault((known.source, bool(known.addresses)), OrderedDict())[known.identifier] = seen
            self._forget_of_source(known.source)
        self._forget_expired()
        if len(self._peers) > self._config.max_known_peers:
            self.forget(next(iter(self._visitors or self._reachable or self._kept)))

    def _table(self, known: KnownPeer) -> Seen:
        if known.kept:
            return self._kept
        return self._reachable if known.addresses else self._visitors

    def _forget_of_source(self, source: str) -> None:
        none: Seen = OrderedDict()
        visitors, reachable = (self._sources.get((source, dialled), none) for dialled in (False, True))
        if len(visitors) + len(reachable) > self._share:
            self.forget(next(iter(visitors or reachable)))

    def _forget_expired(self) -> None:
        limit = clock.monotonic() - self._config.known_peer_ttl
        for table in (self._visitors, self._reachable):
            while table and next(iter(table.values())) < limit:  # the oldest come first
                self.forget(next(iter(table)))

    def _remember_address(self, known: KnownPeer, address: str) -> None:
        if address in known.addresses:
            known.addresses.remove(address)
        known.addresses.insert(0, address)
        del known.addresses[self._config.max_addresses_per_peer :]
