"""NetworkEvents: what the applications of a network can listen to."""

from __future__ import annotations

from peernet.channel.channel import PeerChannel
from peernet.reasons import Reason
from peernet.runtime.events import Event
from peernet.switch.pending import IncomingPeerConnectionAttempt
from peernet.trust.bans import Ban
from peernet.trust.policy import Decision
from peernet.v1 import packet_pb2 as pb


class NetworkEvents:
    """The events of one network; :class:`~peernet.network.PeerNetwork` says what each of them means.

    Only the switch fires them, and the parts that it lets.
    """

    def __init__(self) -> None:
        self.incoming_peer_connection_attempt: Event[[IncomingPeerConnectionAttempt]] = Event(
            "incoming_peer_connection_attempt", ["attempt"]
        )
        self.peer_pending: Event[[IncomingPeerConnectionAttempt]] = Event("peer_pending", ["attempt"])
        self.peer_added: Event[[PeerChannel]] = Event("peer_added", ["channel"])
        self.peer_removed: Event[[PeerChannel, Reason]] = Event("peer_removed", ["channel", "reason"])
        self.packet_received: Event[[PeerChannel, pb.Packet]] = Event("packet_received", ["channel", "packet"])
        self.packet_refused: Event[[PeerChannel, str, Decision]] = Event(
            "packet_refused", ["channel", "kind", "decision"]
        )
        self.handler_failing: Event[[PeerChannel, str, BaseException]] = Event(
            "handler_failing", ["channel", "kind", "error"]
        )
        self.trust_changed: Event[[PeerChannel]] = Event("trust_changed", ["channel"])
        self.channel_reconnecting: Event[[PeerChannel]] = Event("channel_reconnecting", ["channel"])
        self.channel_resumed: Event[[PeerChannel]] = Event("channel_resumed", ["channel"])
        self.peer_banned: Event[[Ban]] = Event("peer_banned", ["ban"])
        self.packet_set_aside: Event[[str, bytes, int]] = Event("packet_set_aside", ["peer", "packet_id", "attempts"])
