"""Connector: one channel to the peer at an address, whoever makes it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace

from peernet.channel.channel import PeerChannel
from peernet.channel.state import ChannelState
from peernet.config import NetworkConfig
from peernet.connections.dialler import Dialler
from peernet.connections.refusal import Refusal
from peernet.errors import ConnectError, RefusedByPeerError, RefusedByPolicyError
from peernet.peers.address import PeerAddress
from peernet.reasons import Reason
from peernet.runtime.deadline import Deadline
from peernet.switch.finder import Finder
from peernet.switch.switch import Switch

# How long a dial that was refused as a duplicate waits for the channel that is in its way. Seconds.
DUPLICATE_PATIENCE = 2.0


class Connector:
    """Makes channels to addresses, and finds those that are there already.

    Args:
        config: the limits.
        dialler: makes connections.
        switch: makes channels of them.
    """

    def __init__(self, config: NetworkConfig, dialler: Dialler, switch: Switch) -> None:
        self._config = config
        self._dialler = dialler
        self._switch = switch
        self._finder = Finder(switch)
        self._dialling: Counter[str] = Counter()  # to whom new channels are under way

    def connect(self, where: PeerAddress, timeout: float, attempts: int, *, asked: bool = True) -> PeerChannel:
        """The channel to the peer at an address; see :meth:`~peernet.network.PeerNetwork.connect`.

        Args:
            where: the address.
            timeout: seconds for everything.
            attempts: how often to try.
            asked: whether the application wants this connection; of those that a node makes by itself
                there may be ``max_outbound``.
        """
        deadline = Deadline(timeout)
        existing = self._finder.find(where)
        if existing is not None and existing.state is ChannelState.OPEN:
            return existing
        if existing is not None and existing.state is ChannelState.RECONNECTING:
            where = replace(where, identifier=existing.peer.identifier)  # this shall resume it
        elif existing is not None:
            existing.wait_closed(timeout)
        with nullcontext() if asked else self._room_to_dial(where, existing):
            return self._dial(where, deadline, timeout, attempts)

    def redial(self, where: PeerAddress, timeout: float) -> None:
        """Dial once for a channel that is reconnecting.

        Raises:
            ConnectError: or a subclass that says why it has no connection.
        """
        try:
            self._switch.take_dialled(self._dialler.dial(where, timeout, 1))
        except Refusal as refusal:
            raise _overtaken(where, refusal) from refusal

    def _dial(self, where: PeerAddress, deadline: Deadline, timeout: float, attempts: int) -> PeerChannel:
        try:
            return self._switch.take_dialled(self._dialler.dial(where, deadline.cap(timeout), attempts))
        except (RefusedByPeerError, RefusedByPolicyError) as error:
            return self._existing_instead(where, deadline, error)
        except Refusal as refusal:
            raise _overtaken(where, refusal) from refusal

    @contextmanager
    def _room_to_dial(self, where: PeerAddress, existing: PeerChannel | None) -> Iterator[None]:
        """
        Raises:
            ConnectError: there are, or will be, as many channels as this node may dial by itself.
        """
        whom, most = where.identifier or where.endpoint, self._config.max_outbound
        new = existing is None and whom not in self._dialling
        if new and self._switch.channels.outbound + len(self._dialling) >= most:
            raise ConnectError(f"this node has dialled {most} peers already, as many as max_outbound allows")
        self._dialling[whom] += 1
        try:
            yield
        finally:
            self._dialling[whom] -= 1
            if not self._dialling[whom]:
                del self._dialling[whom]

    def _existing_instead(
        self, where: PeerAddress, deadline: Deadline, error: RefusedByPeerError | RefusedByPolicyError
    ) -> PeerChannel:
        """The channel that exists, or is just being made, if that is why a dial was refused.

        Raises:
            ConnectError: ``error``, if it was refused for another reason.
        """
        if Reason.DUPLICATE in (getattr(error, "reason", None), getattr(error, "rule", None)):
            where = replace(where, identifier=error.identifier or where.identifier)
            channel = self._finder.wait_for(where, deadline.cap(DUPLICATE_PATIENCE))
            if channel is not None:
                return channel
        raise error


def _overtaken(where: PeerAddress, refusal: Refusal) -> ConnectError:
    return ConnectError(f"the connection to {where.endpoint} was overtaken: {refusal}")
