"""Why a connection ended or a packet was not delivered: the one list of reasons, on the wire and off it."""

from __future__ import annotations

from enum import Enum

from peernet.v1 import packet_pb2 as pb


class Reason(str, Enum):
    """Why a connection ended.

    A member equals its name in lower case, which is what events, counters and the
    CLI show; ``sentence`` tells a person what it means and what to do. Members
    whose name is in ``peernet.v1.DisconnectReason`` travel in a disconnect packet;
    the others are this side's own findings.
    """

    sentence: str

    def __new__(cls, name: str, sentence: str = "") -> Reason:
        member = str.__new__(cls, name)
        member._value_ = name
        member.sentence = sentence
        return member

    def __str__(self) -> str:
        return str(self.value)

    UNSPECIFIED = "unspecified", "The peer gave no reason."
    CLOSED = "closed", "The application closed the channel."
    SHUTDOWN = "shutdown", "The node is stopping."
    WRONG_VERSION = "wrong_version", "No protocol version in common; update the older node."
    WRONG_NETWORK = "wrong_network", "The nodes are configured for different networks; compare their network names."
    BLOCKED = "blocked", "The refused peer is on the blocklist of the node that refused it."
    NOT_ALLOWED = "not_allowed", "The refusing node admits only peers on its allowlist."
    REJECTED = "rejected", "The application rejected the connection."
    DECISION_TIMEOUT = "decision_timeout", "Nobody accepted the pending connection in time; try again later."
    BUSY = "busy", "The node has no room for another connection; try again later."
    DUPLICATE = "duplicate", "Another connection between the same two peers is kept instead."
    SELF_CONNECTION = (
        "self_connection",
        "The node reached itself, or one with the same key; remove its address.",
    )
    BAD_PACKET = "bad_packet", "A packet could not be understood; the peer's software is broken or hostile."
    FRAME_TOO_BIG = "frame_too_big", "A frame exceeds the receiver's limit; send smaller packets."
    UNEXPECTED_PACKET = "unexpected_packet", "A packet arrived that the state of the connection forbids."
    SLOW_PEER = "slow_peer", "The peer did not read what was sent to it."
    TIMEOUT = "timeout", "Nothing was heard from the peer for too long."
    HANDSHAKE_TIMEOUT = "handshake_timeout", "The handshake was not completed in time."
    ORIGIN_MISMATCH = "origin_mismatch", "A packet named an origin other than the peer that sent it."
    RATE_LIMITED = "rate_limited", "The peer sends more than its share."
    BANNED = "banned", "The refused peer is banned for a while, for misbehaviour or by the operator."
    INTERNAL_ERROR = "internal_error", "Something broke in the node; its log says what."

    # Without a number on the wire: what this side saw of a connection, most of which ended without a goodbye.
    CONNECTION_LOST = "connection_lost", "The connection ended without a goodbye."
    EXPIRED = "expired", "The connection was lost and did not come back in time."
    FRAME_TIMEOUT = "frame_timeout", "The peer began a frame and did not finish it in time."
    SESSION_LOST = "session_lost", "The peer no longer knew the session: it was restarted, or gave up waiting."
    HANDSHAKE_FAILED = "handshake_failed", "The other side does not speak peernet, or left during the handshake."

    # Never why a connection ended: what became of a single packet.
    NO_SESSION = "no_session", "One of the two sides keeps no session, so that delivery cannot be confirmed."
    NOT_PERMITTED = "not_permitted", "The receiver takes this kind of packet only from peers that it trusts."
    UNHANDLED = "unhandled", "Nobody handles this kind of packet at the receiver."
    TOO_BIG = "too_big", "The packet exceeds the receiver's limit for its kind."
    HANDLER_FAILED = "handler_failed", "The receiver's callback for the packet failed; its log says how."
    DROPPED = "dropped", "It was taken out of the durable outbox before it was delivered."
    REFUSED = "refused", "The receiver refused the packet for a reason that only newer peers know."

    @property
    def number(self) -> pb.DisconnectReason.ValueType:
        """The value in ``peernet.v1.DisconnectReason``; unspecified for what is never sent."""
        return _NUMBERS.get("DISCONNECT_REASON_" + self.name, pb.DISCONNECT_REASON_UNSPECIFIED)

    @classmethod
    def from_number(cls, number: int) -> Reason:
        """The reason a peer gave; UNSPECIFIED for numbers that only newer peers know."""
        return _BY_NUMBER.get(number, cls.UNSPECIFIED)

    @property
    def refusal_number(self) -> pb.RefusalReason.ValueType:
        """The value in ``peernet.v1.RefusalReason``; unspecified for what is no refusal of a packet."""
        return _REFUSALS.get("REFUSAL_REASON_" + self.name, pb.REFUSAL_REASON_UNSPECIFIED)

    @classmethod
    def from_refusal_number(cls, number: int) -> Reason:
        """Why a peer refused a packet; REFUSED for numbers that only newer peers know."""
        return _BY_REFUSAL.get(number, cls.REFUSED)


_NUMBERS = dict(pb.DisconnectReason.items())
_BY_NUMBER: dict[int, Reason] = {reason.number: reason for reason in reversed(Reason)}
_REFUSALS = dict(pb.RefusalReason.items())
_BY_REFUSAL: dict[int, Reason] = {reason.refusal_number: reason for reason in Reason if reason.refusal_number}
