"""Backend: how a network dials and listens. Over sockets, unless it is given another one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from peernet.peers.address import PeerAddress
from peernet.peers.identity import Identity
from peernet.transport import tcp
from peernet.transport.base import Security, Transport
from peernet.transport.listener import Listener
from peernet.transport.tcp import TcpTransport
from peernet.transport.tls import TlsContext


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

        Raises:
            ConnectError: nobody is reached there.
        """

    def listen(
        self, address: PeerAddress, accepted: Callable[[Any, tuple[str, int]], None], failed: Callable[[str], None]
    ) -> Listening:
        """Accept connections.

        Args:
            address: where.
            accepted: called with each connection, and the host and port of its other end. The connection has a
                method ``close()``, and :meth:`take_over` makes a transport of it.
            failed: called with the name of a counter when one could not be accepted.

        Raises:
            ListenError: the address cannot be listened on.
        """

    def take_over(self, connection: Any, remote: tuple[str, int]) -> Transport:
        """Make a transport of what ``accepted`` was given."""

    def secure(self, identity: Identity) -> Security:
        """What proves this identity to others, and theirs to this network."""


class TcpBackend:
    """TCP, with TLS over it where that is wanted.

    Args:
        descriptor_reserve: how many descriptors are kept free for other things than connections.
    """

    def __init__(self, descriptor_reserve: int = 0) -> None:
        self._descriptor_reserve = descriptor_reserve

    def dial(self, address: PeerAddress) -> TcpTransport:
        return tcp.dial(address)

    def listen(
        self, address: PeerAddress, accepted: Callable[[Any, tuple[str, int]], None], failed: Callable[[str], None]
    ) -> Listener:
        return Listener(address, accepted, failed, self._descriptor_reserve)

    def take_over(self, connection: Any, remote: tuple[str, int]) -> TcpTransport:
        return TcpTransport(connection, remote)

    def secure(self, identity: Identity) -> TlsContext:
        return TlsContext(identity)
