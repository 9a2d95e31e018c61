"""What `send --durable` and `outbox` do with a node that runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from peernet.errors import ConfigurationError, PingTimeout
from peernet.network import PeerNetwork
from peernet.node import bodies
from peernet.node.directory import Directory, is_address
from peernet.node.messaging import directory_of
from peernet.peers.address import PeerAddress
from peernet.runtime.deadline import Deadline
from peernet.runtime.text import duration, short

if TYPE_CHECKING:
    from peernet.durable.outbox import DurableOutbox

Message = dict[str, Any]


def say_durably(
    network: PeerNetwork, peer: str, message: Message, timeout: float, confirm: bool, deadline: Deadline | None = None
) -> dict[str, Any]:
    """Store a message described by plain values, as :func:`~peernet.node.messaging.say` takes them.

    Args:
        network: the node that sends.
        peer: who gets it.
        message: as there.
        timeout: seconds for all of it.
        confirm: wait until the peer has dealt with it.
        deadline: when these seconds end, if they have begun already.

    Raises:
        PeerNetError: it could not be stored.
        PingTimeout: it is stored, and not delivered yet.
        DeliveryFailed: the peer has refused it, or it was dropped, or the node stops.
    """
    deadline = deadline or Deadline(timeout)
    directory = directory_of(network).extended(_outbox_of(network).peers)
    receipt = network.send(recipient_of(peer, directory), bodies.from_json(message), durable=True)
    if confirm and not receipt.wait(deadline.cap(timeout)):
        raise PingTimeout(
            f"{short(receipt.peer)} has not dealt with it within {duration(timeout)}; it stays stored and is sent "
            "when the peer is there"
        )
    return stored_row(receipt.peer, receipt.packet_id, message, confirmed=confirm)


def describe_outbox(network: PeerNetwork, packets: bool) -> list[dict[str, Any]]:
    """What a running node has stored, a row for each peer or for each of the packets."""
    return _outbox_of(network).describe(each=packets)


def drop_from_outbox(network: PeerNetwork, peer: str | None) -> dict[str, Any]:
    """Have a running node remove what is stored for a peer, or everything."""
    outbox = _outbox_of(network)
    peers = outbox.peers if peer is None else [directory_of(network).extended(outbox.peers).identifier(peer)]
    return {"dropped": outbox.drop(peers), "peers": peers}


def retry_in_outbox(network: PeerNetwork, peer: str | None) -> dict[str, Any]:
    """Have a running node send again what is set aside for a peer, or everything."""
    outbox = _outbox_of(network)
    identifier = None if peer is None else directory_of(network).extended(outbox.peers).identifier(peer)
    return {"retried": outbox.retry(identifier), "peer": identifier}


def recipient_of(peer: str, directory: Directory) -> str:
    """Whom a user means, for :meth:`PeerNetwork.send`: an address that names a peer stays, so that it is dialled."""
    identifier = directory.identifier(peer)
    return peer if is_address(peer) and PeerAddress.parse(peer).identifier is not None else identifier


def stored_row(peer: str, packet_id: bytes, message: Message, *, confirmed: bool) -> dict[str, Any]:
    """A stored message as plain values."""
    return {
        "stored": True,
        "peer": peer,
        "packet_id": packet_id.hex(),
        "kind": "pure_message" if "text" in message else "data_transmission",
        "confirmed": confirmed,
    }


def _outbox_of(network: PeerNetwork) -> DurableOutbox:
    if network.durable_outbox is None:
        raise ConfigurationError("this node has no durable outbox")
    return network.durable_outbox
