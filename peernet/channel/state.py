"""Where a channel may stand, and what may follow."""

from __future__ import annotations

from enum import Enum


class ChannelState(Enum):
    """Where a channel stands."""

    PENDING = "pending"
    OPEN = "open"
    RECONNECTING = "reconnecting"
    CLOSING = "closing"
    CLOSED = "closed"


# state -> the states that may follow. PENDING: identity proven, decision awaited.
# RECONNECTING: the connection is lost and the session waits for another one. CLOSING: a
# goodbye is said or heard, and of what the peer still sends only acknowledgements count.
TRANSITIONS: dict[ChannelState, frozenset[ChannelState]] = {
    ChannelState.PENDING: frozenset({ChannelState.OPEN, ChannelState.CLOSING, ChannelState.CLOSED}),
    ChannelState.OPEN: frozenset({ChannelState.RECONNECTING, ChannelState.CLOSING, ChannelState.CLOSED}),
    ChannelState.RECONNECTING: frozenset({ChannelState.OPEN, ChannelState.CLOSED}),
    ChannelState.CLOSING: frozenset({ChannelState.CLOSED}),
    ChannelState.CLOSED: frozenset(),
}

# Where packets are accepted.
SENDABLE = frozenset({ChannelState.OPEN, ChannelState.RECONNECTING})
