"""ChannelTable: which peers are connected, by identifier."""

from __future__ import annotations

from collections.abc import Iterator

from peernet.channel.channel import PeerChannel
from peernet.channel.state import ChannelState


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
