"""Finder: the channel to the peer at an address, whoever has made it."""

from __future__ import annotations

from gevent.event import Event as Flag

from peernet.channel.channel import PeerChannel
from peernet.channel.state import ChannelState
from peernet.peers.address import PeerAddress
from peernet.switch.switch import Switch


class Finder:
    """Finds channels by address.

    Args:
        switch: whose channels these are.
    """

    def __init__(self, switch: Switch) -> None:
        self._switch = switch

    def find(self, where: PeerAddress) -> PeerChannel | None:
        """The channel to the peer that an address names; if it names none, the one that was dialled there."""
        if where.identifier is not None:
            return self._switch.channels.channel_to(where.identifier)
        dialled = (control.channel for control in self._switch.channels if control.channel.dialled)
        return next((one for one in dialled if (one.peer.address, one.peer.port) == (where.host, where.port)), None)

    def _find_claimant(self, where: PeerAddress) -> PeerChannel | None:
        """The channel to a peer without TLS that says it listens at an address, if nobody knows who does."""
        if where.identifier is not None:
            return None
        unproven = (one.channel for one in self._switch.channels if not one.channel.peer.proven)
        return next((one for one in unproven if where.endpoint in one.peer.listen_addresses), None)

    def wait_for(self, where: PeerAddress, timeout: float) -> PeerChannel | None:
        """The open channel to the peer at an address that has just refused a second one, as soon as there is one.

        Waits at most ``timeout`` seconds for it.
        """
        arrived = Flag()

        def open_one() -> PeerChannel | None:
            found = self.find(where) or self._find_claimant(where)
            return found if found is not None and found.state is ChannelState.OPEN else None

        def look(channel: PeerChannel) -> None:
            if open_one() is not None:
                arrived.set()

        for event in (self._switch.peer_added, self._switch.channel_resumed):
            event.add(look)
        try:
            if open_one() is None:
                arrived.wait(timeout)
            return open_one()
        finally:
            for event in (self._switch.peer_added, self._switch.channel_resumed):
                event.remove(look)
