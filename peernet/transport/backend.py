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
        self, address: PeerAddress, accepted: Callable[[Any, tuple[str, int]], None], failed: Callable[[], None]
    ) -> Listening:
        """Accept connections. Each is given to ``accepted`` with the host and port of its other end, and can be closed.

        ``failed`` is called when one could not be accepted.

        Raises:
            ListenError: the address cannot be listened on.
        """

    def take_over(self, connection: Any, remote: tuple[str, int]) -> Transport:
        """Make a transport of what ``accepted`` was given."""

    def secure(self, identity: Identity) -> Security:
        """What proves this identity to others, and theirs to this network."""


class TcpBackend:
    """TCP, with TLS over it where that is wanted."""

    def dial(self, address: PeerAddress) -> TcpTransport:
        return tcp.dial(address)

    def listen(
        self, address: PeerAddress, accepted: Callable[[Any, tuple[str, int]], None], failed: Callable[[], None]
    ) -> Listener:
        return Listener(address, accepted, failed)

    def take_over(self, connection: Any, remote: tuple[str, int]) -> TcpTransport:
        return TcpTransport(connection, remote)

    def secure(self, identity: Identity) -> TlsContext:
        return TlsContext(identity)
