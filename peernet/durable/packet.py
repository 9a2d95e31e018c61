"""The packets of the durable outbox, and what is known of those for one peer, as values."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from peernet.config import NetworkConfig
from peernet.errors import ConfigurationError, LocalProtocolError, PacketTooBigError
from peernet.peers.address import PeerAddress, is_identifier
from peernet.runtime import clock
from peernet.wire.packets import PACKET_ID_SIZE, Encoded

# What the id adds to a packet: tag, length and content. Bytes.
ID_FIELD_SIZE = 2 + PACKET_ID_SIZE


@dataclass(frozen=True)
class NewPacket:
    """A packet to be stored.

    Attributes:
        peer: identifier of who gets it.
        address: ``host:port`` to dial for it; empty if none was given.
        packet_id: the same each time it is sent.
        kind: the name of its kind.
        body: its body as :func:`~peernet.wire.packets.encode_body` writes it: tag, length and content.
        stored_at: Unix seconds.
    """

    peer: str
    address: str
    packet_id: bytes
    kind: str
    body: bytes
    stored_at: float


@dataclass(frozen=True)
class StoredPacket:
    """A packet in the store; ``number`` gives the order, the rest is as in :class:`NewPacket`."""

    number: int
    packet_id: bytes
    kind: str
    body: bytes


@dataclass(frozen=True)
class Setback:
    """What becomes of a packet whose callback has failed at the peer.

    Attributes:
        number: of the packet.
        attempts: how often its callback has failed by now.
        pause: seconds until it is sent again; ``None`` means that it is set aside.
    """

    number: int
    attempts: int
    pause: float | None


@dataclass
class Backlog:
    """What is stored for one peer.

    Attributes:
        packets: how many packets.
        bytes: the bytes of their bodies.
        oldest: when the oldest was stored, in Unix seconds.
        addresses: where to dial the peer, as whoever stored them has said.
        aside: how many of the packets are set aside.
    """

    packets: int
    bytes: int
    oldest: float
    addresses: set[str]
    aside: int = 0


def new_packet(to: str, encoded: Encoded, config: NetworkConfig) -> NewPacket:
    """A packet to be stored, with a fresh id.

    Args:
        to: identifier of a peer, or ``peer://identifier@host:port``.
        encoded: its body.
        config: the limits.

    Raises:
        ConfigurationError: it is not said who shall get it.
        LocalProtocolError: packets of this kind are sent by channels themselves.
        PacketTooBigError: it is too big for any peer.
    """
    kind, prefix, content = encoded
    where = None if is_identifier(to) else PeerAddress.parse(to)
    if where is not None and where.identifier is None:
        raise ConfigurationError(f"who shall get the packet? write peer://identifier@{where.endpoint}")
    if kind.control:
        raise LocalProtocolError(f"channels send {kind.name} packets themselves")
    size, limit = (
        ID_FIELD_SIZE + len(prefix) + len(content),
        config.max_frame if kind.bulk else config.max_control_packet,
    )
    if size > limit:
        raise PacketTooBigError(f"a {kind.name} packet of {size} bytes; {limit} are the most; send it in parts")
    return NewPacket(
        peer=to if where is None else str(where.identifier),
        address="" if where is None else where.endpoint,
        packet_id=secrets.token_bytes(PACKET_ID_SIZE),
        kind=kind.name,
        body=prefix + content,
        stored_at=clock.wall(),
    )
