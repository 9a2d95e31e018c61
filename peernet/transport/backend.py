"""Backend: how a network dials and listens. Over sockets, unless it is given another one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from gevent import socket

from peernet.peers.address import PeerAddress
from peernet.peers.identity import Identity
from peernet.transport import tcp
from peernet.transport.base import Security, Transport
from peernet.transport.listener import Listener
from peernet.transport.tcp import TcpTransport
from peernet.transport.tls import TlsContext

Accepted = Callable[[Transport], None]
Failed = Callable[[str], None]


class Listening(Protocol):
    """What accepts connections at one address until it is told to stop."""

    @property
    def address(self) -> PeerAddress:
        """Where; with the port that was chosen, if that was left open."""

    def stop(self) -> None:
        """Accept no more. Idempotent."""


class Backend(Protocol):
    """How a network reaches others and is reached."""

    def dial(self, address: PeerAddress) -> Transport:
        """Connect to an address; waits, so bound it from outside.

        The host means what the backend makes of it: it may be a name in a domain that only this one knows.

        Raises:
            ConnectError: nobody is reached there.
        """

    def listen(self, address: PeerAddress, accepted: Accepted, failed: Failed) -> Listening:
        """Accept connections.

        Args:
            address: where.
            accepted: called with each connection, which it takes over. It does not wait.
            failed: called with the name of a counter when one could not be accepted.

        Raises:
            ListenError: the address cannot be listened on.
        """

    def secure(self, identity: Identity) -> Security:
        """What proves this identity to others, and theirs to this network."""


class TcpBackend:
    """TCP, with TLS over it where that is wanted.

    Args:
        descriptor_reserve: how many descriptors are kept free for other things than connections.
        key_exchange: as in :class:`~peernet.config.NetworkConfig`.
    """

    def __init__(self, descriptor_reserve: int = 0, key_exchange: str = "hybrid") -> None:
        self._descriptor_reserve = descriptor_reserve
        self._key_exchange = key_exchange

    def dial(self, address: PeerAddress) -> TcpTransport:
        return tcp.dial(address)

    def listen(self, address: PeerAddress, accepted: Accepted, failed: Failed) -> Listener:
        def take_over(sock: socket.socket, remote: tuple[str, int]) -> None:
            transport = TcpTransport(sock, remote)
            try:
                accepted(transport)
            except BaseException:
                transport.close()
                raise

        return Listener(address, take_over, failed, self._descriptor_reserve)

    def secure(self, identity: Identity) -> TlsContext:
        return TlsContext(identity, key_exchange=self._key_exchange)


class Listeners:
    """Where a network listens.

    Args:
        backend: how.
        addresses: where; port 0 lets the system choose.
        accepted: as for :meth:`Backend.listen`.
        failed: as for :meth:`Backend.listen`.
    """

    def __init__(
        self,
        backend: Backend,
        addresses: Sequence[PeerAddress],
        accepted: Accepted,
        failed: Failed,
    ) -> None:
        self._backend = backend
        self._wanted = addresses
        self._accepted = accepted
        self._failed = failed
        self._listening: list[Listening] = []

    @property
    def addresses(self) -> list[PeerAddress]:
        """The addresses where connections are accepted now, with the ports that were chosen."""
        return [one.address for one in self._listening]

    def start(self) -> None:
        """Listen at all addresses.

        Raises:
            ListenError: one cannot be listened on. Call :meth:`stop` then, as after any other interruption.
        """
        for address in self._wanted:
            self._listening.append(self._backend.listen(address, self._accepted, self._failed))

    def stop(self) -> None:
        """Listen nowhere any more. Idempotent."""
        listening, self._listening = self._listening, []
        for one in listening:
            one.stop()
