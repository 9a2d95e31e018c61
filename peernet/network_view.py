"""NetworkView: what there is to see of a network, and to listen to."""

from __future__ import annotations

from collections import Counter

from peernet.assembly import Assembly
from peernet.channel.channel import PeerChannel
from peernet.config import NetworkConfig
from peernet.peers.address import PeerAddress
from peernet.peers.address_book import KnownPeers
from peernet.peers.identity import Identity
from peernet.runtime.text import short
from peernet.switch.pending import InboundConnectingPeersQueue
from peernet.trust.bans import Bans


class NetworkView:
    """What there is to see of a network, and the events that it fires. Any native thread may look.

    Attributes:
        identity: who this node is.
        network_name: only peers that give the same name are talked to.
        config: limits and timeouts.
        insecure: whether plain TCP is used instead of TLS.
        routines: jobs that run while the network runs.
        services: what starts and stops with the network; :meth:`services.add() <peernet.runtime.services.Services.add>`
            takes more.
        durable_outbox: packets that wait in a file for peers that are away; ``None`` without a file, and without a
            home.
        incoming_peer_connection_attempt: event, ``listener(attempt)``: a peer asks to be let in.
        peer_pending: event, ``listener(attempt)``: a peer is held until somebody decides.
        peer_added: event, ``listener(channel)``.
        peer_removed: event, ``listener(channel, reason)``.
        packet_received: event, ``listener(channel, packet)``, before the callback.
        packet_refused: event, ``listener(channel, kind, decision)``: the policy does not permit it.
        handler_failing: event, ``listener(channel, kind, error)``: a callback has failed 20 times in a row.
        trust_changed: event, ``listener(channel)``.
        channel_reconnecting: event, ``listener(channel)``: the connection is lost, the channel waits for another one.
        channel_resumed: event, ``listener(channel)``: it has got one; nothing is lost.
        peer_banned: event, ``listener(ban)``: somebody is kept out for a while.
        packet_set_aside: event, ``listener(peer, packet_id, attempts)``: the callback of a peer, by its identifier,
            has failed so often for a durable packet that it is not sent any more.

    Every event has ``add`` and ``remove``; ``@network.peer_added.add`` works as a decorator.
    """

    def __init__(self, parts: Assembly, identity: Identity, network_name: str, *, insecure: bool) -> None:
        self._parts = parts
        self.identity = identity
        self.network_name = network_name
        self.insecure = insecure
        self.config: NetworkConfig = parts.switch.config
        self._home = parts.home
        self.routines = parts.routines
        self.services = parts.services
        self.durable_outbox = parts.durable_outbox
        self.incoming_peer_connection_attempt = parts.events.incoming_peer_connection_attempt
        self.peer_pending = parts.events.peer_pending
        self.peer_added = parts.events.peer_added
        self.peer_removed = parts.events.peer_removed
        self.packet_received = parts.events.packet_received
        self.packet_refused = parts.events.packet_refused
        self.handler_failing = parts.events.handler_failing
        self.trust_changed = parts.events.trust_changed
        self.channel_reconnecting = parts.events.channel_reconnecting
        self.channel_resumed = parts.events.channel_resumed
        self.peer_banned = parts.events.peer_banned
        self.packet_set_aside = parts.events.packet_set_aside

    def __repr__(self) -> str:
        state = f"running, channels: {len(self.active_peer_channels)}" if self.running else "not running"
        return f"<PeerNetwork {self.network_name!r} {short(self.identifier)} {state}>"

    @property
    def identifier(self) -> str:
        """This node's identifier."""
        return self.identity.identifier

    @property
    def running(self) -> bool:
        """Whether the network is started."""
        return self.services.running

    @property
    def addresses(self) -> list[str]:
        """Where this node accepts connections, pinned to its identity."""
        pinned = None if self.insecure else self.identifier
        return [str(PeerAddress(at.host, at.port, pinned)) for at in self._parts.listeners.addresses]

    @property
    def counters(self) -> Counter[str]:
        """How many of what has happened, for example one count per reason of refusal."""
        return self._parts.switch.counters

    @property
    def known_peers(self) -> KnownPeers:
        """The address book."""
        return self._parts.switch.known_peers

    @property
    def bans(self) -> Bans:
        """Who is kept out for a while."""
        return self._parts.switch.bans

    @property
    def inbound_connecting_peers(self) -> InboundConnectingPeersQueue:
        """The peers that are held until somebody decides about them."""
        return self._parts.switch.queue

    @property
    def active_peer_channels(self) -> list[PeerChannel]:
        """The open channels; a copy, safe to iterate while channels come and go."""
        return [control.channel for control in self._parts.switch.channels]

    @property
    def trusted_peer_channels(self) -> list[PeerChannel]:
        """The open channels that are trusted."""
        return [channel for channel in self.active_peer_channels if channel.trusted]

    def channel_to(self, identifier: str) -> PeerChannel | None:
        """The open channel to a peer, if there is one. Any native thread may ask.

        Raises:
            ForkedError: this is a child of the network's process.
        """
        if self._home.forked:
            self._home.check()
        return self._parts.switch.channels.channel_to(identifier)
