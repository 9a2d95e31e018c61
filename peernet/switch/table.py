"""ChannelTable: which peers are connected, by identifier."""

from __future__ import annotations

from collections.abc import Iterator

from peernet.channel.channel import PeerChannel
from peernet.channel.control import ChannelControl
from peernet.channel.state import ChannelState
from peernet.peers.address import PeerAddress


class ChannelTable:
    """The channels of a network: at most one per peer.

    Attributes:
        inbound: how many of them the other side has dialled.
    """

    def __init__(self) -> None:
        self._channels: dict[str, ChannelControl] = {}
        self.inbound = 0

    def __len__(self) -> int:
        return len(self._channels)

    def __iter__(self) -> Iterator[ChannelControl]:
        return iter(list(self._channels.values()))

    @property
    def outbound(self) -> int:
        """How many of them this side has dialled."""
        return len(self._channels) - self.inbound

    @property
    def detached(self) -> list[ChannelControl]:
        """Those that the other side has dialled and that have no connection, in the order in which they give way.

        Who has lost his first goes first, and whoever is trusted last.
        """
        inbound = (control for control in self if not control.channel.dialled)
        found = [control for control in inbound if control.channel.state is ChannelState.RECONNECTING]
        return sorted(found, key=lambda control: (control.channel.trusted, control.expires_at))

    def get(self, identifier: str) -> ChannelControl | None:
        """The control of the channel to a peer, if there is one."""
        return self._channels.get(identifier)

    def channel_to(self, identifier: str) -> PeerChannel | None:
        """The channel to a peer, if there is one."""
        control = self._channels.get(identifier)
        return None if control is None else control.channel

    def find(self, where: PeerAddress, *, claimed: bool = False) -> PeerChannel | None:
        """The channel to the peer that an address names; if it names none, the one that was dialled there.

        Args:
            where: the address.
            claimed: whether a peer without TLS that only says it listens there will do, if nobody else is found.
        """
        if where.identifier is not None:
            return self.channel_to(where.identifier)
        channels, wanted = [control.channel for control in self], (where.host, where.port)
        for channel in channels:
            if channel.dialled and (channel.peer.address, channel.peer.port) == wanted:
                return channel
        claimants = (one for one in channels if not one.peer.proven and where.endpoint in one.peer.listen_addresses)
        return next(claimants, None) if claimed else None

    def control_of(self, channel: PeerChannel) -> ChannelControl | None:
        """The control of a channel, if that is the one to its peer: not once it has ended."""
        control = self._channels.get(channel.peer.identifier)
        return control if control is not None and control.channel is channel else None

    def add(self, control: ChannelControl) -> ChannelControl | None:
        """Add a channel. Returns the one that it replaces, if any."""
        identifier = control.channel.peer.identifier
        replaced = self._channels.get(identifier)
        if replaced is not None:
            self.remove(replaced.channel)
        self._channels[identifier] = control
        self.inbound += not control.channel.dialled
        return replaced

    def remove(self, channel: PeerChannel) -> bool:
        """Remove a channel. Returns whether it was there: a replaced one is not."""
        if self.control_of(channel) is None:
            return False
        del self._channels[channel.peer.identifier]
        self.inbound -= not channel.dialled
        return True
