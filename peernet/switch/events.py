"""NetworkEvents: what the applications of a network can listen to."""

from __future__ import annotations

from peernet.channel.channel import PeerChannel
from peernet.reasons import Reason
from peernet.runtime.events import Event
from peernet.runtime.threads import HomeThread
from peernet.switch.pending import IncomingPeerConnectionAttempt
from peernet.trust.bans import Ban
from peernet.trust.policy import Decision
from peernet.v1 import packet_pb2 as pb


class NetworkEvents:
    """The events of one network; :class:`~peernet.network.PeerNetwork` says what each of them means.

    Only the switch fires them, and the parts that it lets.

    Args:
        home: the native thread of the network.
    """

    def __init__(self, home: HomeThread) -> None:
        self.incoming_peer_connection_attempt: Event[[IncomingPeerConnectionAttempt]] = Event(
            "incoming_peer_connection_attempt", ["attempt"], home
        )
        self.peer_pending: Event[[IncomingPeerConnectionAttempt]] = Event("peer_pending", ["attempt"], home)
        self.peer_added: Event[[PeerChannel]] = Event("peer_added", ["channel"], home)
        self.peer_removed: Event[[PeerChannel, Reason]] = Event("peer_removed", ["channel", "reason"], home)
        self.packet_received: Event[[PeerChannel, pb.Packet]] = Event("packet_received", ["channel", "packet"], home)
        self.packet_refused: Event[[PeerChannel, str, Decision]] = Event(
            "packet_refused", ["channel", "kind", "decision"], home
        )
        self.handler_failing: Event[[PeerChannel, str, BaseException]] = Event(
            "handler_failing", ["channel", "kind", "error"], home
        )
        self.trust_changed: Event[[PeerChannel]] = Event("trust_changed", ["channel"], home)
        self.channel_reconnecting: Event[[PeerChannel]] = Event("channel_reconnecting", ["channel"], home)
        self.channel_resumed: Event[[PeerChannel]] = Event("channel_resumed", ["channel"], home)
        self.peer_banned: Event[[Ban]] = Event("peer_banned", ["ban"], home)
        self.packet_set_aside: Event[[str, bytes, int]] = Event(
            "packet_set_aside", ["peer", "packet_id", "attempts"], home
        )
