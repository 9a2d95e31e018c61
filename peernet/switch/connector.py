"""Connector: one channel to the peer at an address, whoever makes it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace

from gevent.event import Event as Flag

from peernet.channel.channel import PeerChannel
from peernet.channel.state import ChannelState
from peernet.config import NetworkConfig
from peernet.connections.dial_history import DialHistory
from peernet.connections.dialler import Dialler
from peernet.connections.refusal import Refusal
from peernet.errors import ConnectError, RefusedByPeerError, RefusedByPolicyError
from peernet.peers.address import PeerAddress
from peernet.reasons import Reason
from peernet.runtime.deadline import Deadline
from peernet.switch.switch import Switch

# How long a dial that was refused as a duplicate waits for the channel that is in its way. Seconds.
DUPLICATE_PATIENCE = 2.0


class _Found(Exception):
    """There is a channel, so nobody needs to be dialled."""

    def __init__(self, channel: PeerChannel) -> None:
        self.channel = channel


class Connector:
    """Makes channels to addresses, and finds those that are there already.

    Args:
        config: the limits.
        dialler: makes connections.
        switch: makes channels of them.
        history: told of addresses whose peer was there, although a dial has failed.
        insecure: whether nobody can prove who they are.
    """

    def __init__(
        self, config: NetworkConfig, dialler: Dialler, switch: Switch, history: DialHistory, *, insecure: bool
    ) -> None:
        self._config = config
        self._history = history
        self._insecure = insecure
        self._dialler = dialler
        self._switch = switch
        self._dialling: Counter[str] = Counter()  # to whom new channels are under way, that nobody has asked for

    def connect(self, where: PeerAddress, timeout: float | None, attempts: int | None) -> PeerChannel:
        """The channel to the peer at an address; see :meth:`~peernet.network.PeerNetwork.connect`.

        Args:
            where: the address.
            timeout: seconds for everything; ``None`` means ``config.connect_timeout``.
            attempts: how often to try; ``None`` is the default of :meth:`~peernet.connections.dialler.Dialler.dial`.
        """
        deadline = self._deadline(timeout)
        existing = self._find(where, deadline)
        if existing is None or existing.state is not ChannelState.OPEN:
            existing = self._dial(_resuming(where, existing), deadline, attempts)
        self._switch.known_peers.note(existing.peer, dialled=existing.dialled, kept=True)
        return existing

    def connect_unasked(self, where: PeerAddress, timeout: float | None) -> PeerChannel:
        """One attempt, made only while fewer than ``max_outbound`` channels were dialled."""
        deadline = self._deadline(timeout)
        existing = self._find(where, deadline)
        if existing is not None and existing.state is ChannelState.OPEN:
            return existing
        counted = existing is not None and existing.dialled
        with nullcontext() if counted else self._room_to_dial(where):
            return self._dial(_resuming(where, existing), deadline, 1)

    def connect_to(self, identifier: str, where: PeerAddress) -> PeerChannel:
        """:meth:`connect_unasked` to a peer that is said to be at an address; without TLS to whoever answers there."""
        return self.connect_unasked(replace(where, identifier=None if self._insecure else identifier), None)

    def redial(self, where: PeerAddress, timeout: float) -> None:
        """Dial once for a channel that is reconnecting.

        Raises:
            ConnectError: or a subclass that says why it has no connection.
        """
        try:
            self._switch.take_dialled(self._dialler.dial(where, timeout, 1))
        except Refusal as refusal:
            raise _overtaken(where, refusal) from refusal

    def _deadline(self, timeout: float | None) -> Deadline:
        return Deadline(self._config.connect_timeout if timeout is None else timeout)

    def _find(self, where: PeerAddress, deadline: Deadline) -> PeerChannel | None:
        """The channel that is there, open or reconnecting; not one that closes just now, whose end is waited for."""
        existing = self._switch.channels.find(where)
        if existing is None or existing.state in (ChannelState.OPEN, ChannelState.RECONNECTING):
            return existing
        existing.wait_closed(deadline.remaining)
        return None

    def _dial(self, where: PeerAddress, deadline: Deadline, attempts: int | None) -> PeerChannel:
        def rest(seconds: float) -> None:
            """Until it is the address's turn, somebody else may make the channel."""
            channel = self._wait_for(where, seconds)
            if channel is not None:
                raise _Found(channel)

        try:
            return self._switch.take_dialled(self._dialler.dial(where, deadline.remaining or 0.0, attempts, rest))
        except _Found as found:
            return found.channel
        except (RefusedByPeerError, RefusedByPolicyError) as error:
            return self._existing_instead(where, deadline, error)
        except Refusal as refusal:
            raise _overtaken(where, refusal) from refusal

    @contextmanager
    def _room_to_dial(self, where: PeerAddress) -> Iterator[None]:
        """
        Raises:
            ConnectError: there are, or will be, as many channels as this node may dial by itself.
        """
        whom, most = where.identifier or where.endpoint, self._config.max_outbound
        if whom not in self._dialling and self._switch.channels.outbound + len(self._dialling) >= most:
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
            channel = self._wait_for(where, deadline.cap(DUPLICATE_PATIENCE))
            if channel is not None:
                self._history.forgive((where.host, where.port))  # it has refused us because it is there
                return channel
        raise error

    def _wait_for(self, where: PeerAddress, timeout: float) -> PeerChannel | None:
        """The open channel to the peer at an address that has just refused a second one, as soon as there is one.

        Waits at most ``timeout`` seconds for it.
        """
        arrived = Flag()

        def open_one() -> PeerChannel | None:
            found = self._switch.channels.find(where, claimed=True)
            return found if found is not None and found.state is ChannelState.OPEN else None

        def look(channel: PeerChannel) -> None:
            if open_one() is not None:
                arrived.set()

        for event in (self._switch.events.peer_added, self._switch.events.channel_resumed):
            event.add(look)
        try:
            if open_one() is None:
                arrived.wait(timeout)
            return open_one()
        finally:
            for event in (self._switch.events.peer_added, self._switch.events.channel_resumed):
                event.remove(look)


def _resuming(where: PeerAddress, existing: PeerChannel | None) -> PeerAddress:
    """An address as it has to be dialled so that a channel which is reconnecting resumes."""
    return where if existing is None else replace(where, identifier=existing.peer.identifier)


def _overtaken(where: PeerAddress, refusal: Refusal) -> ConnectError:
    return ConnectError(f"the connection to {where.endpoint} was overtaken: {refusal}")
