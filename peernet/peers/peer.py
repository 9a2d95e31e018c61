"""Who is at the other end."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from peernet.peers.address import endpoint


class IPeer(Protocol):
    """What everything else needs to know of a peer.

    ``identifier`` decides who a peer is; ``address`` and ``port`` only say where it
    was last seen. ``proven`` tells whether the identifier was proven by TLS or is
    merely claimed (insecure connections).
    """

    @property
    def identifier(self) -> str: ...

    @property
    def address(self) -> str: ...

    @property
    def port(self) -> int: ...

    @property
    def proven(self) -> bool: ...


@dataclass(slots=True)
class GenericPeer:
    """The default :class:`IPeer`.

    Attributes:
        identifier: base32 SHA-256 of the peer's public key.
        address: the IP address (or name) at the other end of the connection.
        port: the TCP port at the other end; for an inbound connection the peer's
            ephemeral port, not one that it listens on.
        proven: whether TLS proved the identifier.
        agent: software name and version the peer gave; cleaned text, for people.
        listen_addresses: where the peer says it listens; hints, never dialled unasked.
    """

    identifier: str
    address: str
    port: int
    proven: bool = True
    agent: str = ""
    listen_addresses: tuple[str, ...] = field(default=())

    @property
    def endpoint(self) -> str:
        """``host:port`` of the other end."""
        return endpoint(self.address, self.port)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "identifier": self.identifier,
            "address": self.endpoint,
            "proven": self.proven,
            "agent": self.agent,
            "listen_addresses": list(self.listen_addresses),
        }
