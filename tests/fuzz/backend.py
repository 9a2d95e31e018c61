"""A backend in memory: how networks under test reach each other, through the same gates as over sockets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from peernet.errors import ConnectError
from peernet.peers.address import PeerAddress
from peernet.peers.identity import Identity
from peernet.transport.base import Security
from peernet.transport.memory import MemoryTransport

Accepted = Callable[[MemoryTransport], None]


class MemoryBackend:
    """How one network is reached in memory, and reaches others; see :class:`~peernet.transport.backend.Backend`.

    Args:
        dial: makes the connections that the network asks for.
    """

    def __init__(self, dial: Callable[[PeerAddress], MemoryTransport] | None = None) -> None:
        self._dial = dial
        self._listeners: list[MemoryListener] = []

    def call(self, transport: MemoryTransport, remote: tuple[str, int]) -> None:
        """Connect somebody to the network; if it does not listen, hang up."""
        transport.remote = remote
        if self._listeners:
            self._listeners[0].accepted(transport)
        else:
            transport.close()

    def dial(self, address: PeerAddress) -> MemoryTransport:
        if self._dial is None:
            raise ConnectError("there is nobody to dial")
        return self._dial(address)

    def listen(self, address: PeerAddress, accepted: Accepted, failed: Callable[[str], None]) -> MemoryListener:
        listener = MemoryListener(address, accepted, self._listeners)
        self._listeners.append(listener)
        return listener

    def secure(self, identity: Identity) -> Security:
        raise AssertionError("connections in memory are insecure")


@dataclass(eq=False)
class MemoryListener:
    """What accepts connections until it is stopped."""

    address: PeerAddress
    accepted: Accepted
    listeners: list[MemoryListener]

    def stop(self) -> None:
        """Accept no more. Idempotent."""
        if self in self.listeners:
            self.listeners.remove(self)
