"""NetworkEvents: what the applications of a network can listen to."""

from __future__ import annotations

from peernet.runtime.events import Event


class NetworkEvents:
    """The events of one network; :class:`~peernet.network.PeerNetwork` says what each of them means.

    Only the switch fires them, and the parts that it lets.
    """

    def __init__(self) -> None:
        self.incoming_peer_connection_attempt = Event("incoming_peer_connection_attempt")
        self.peer_pending = Event("peer_pending")
        self.peer_added = Event("peer_added")
        self.peer_removed = Event("peer_removed")
        self.packet_received = Event("packet_received")
        self.packet_refused = Event("packet_refused")
        self.handler_failing = Event("handler_failing")
        self.trust_changed = Event("trust_changed")
        self.channel_reconnecting = Event("channel_reconnecting")
        self.channel_resumed = Event("channel_resumed")
        self.peer_banned = Event("peer_banned")
