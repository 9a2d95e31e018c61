"""Getting from what a user wrote for a peer to an open channel."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from peernet.channel.channel import PeerChannel
from peernet.errors import (
    ChannelClosedError,
    ConnectError,
    ConnectTimeout,
    DeliveryFailed,
    LocalProtocolError,
    PingTimeout,
)
from peernet.network import PeerNetwork
from peernet.node import bodies
from peernet.node.directory import Directory, is_address, listed_identifiers
from peernet.peers.address import PeerAddress
from peernet.reasons import Reason
from peernet.runtime.deadline import Deadline
from peernet.runtime.text import duration, printable, short


def directory_of(network: PeerNetwork) -> Directory:
    """The peers that can be meant: connected, pending, known, or on a list of the policy."""
    return Directory(
        [
            *((channel.peer.identifier, [channel.peer.endpoint]) for channel in network.active_peer_channels),
            *((attempt.peer.identifier, [attempt.peer.endpoint]) for attempt in network.inbound_connecting_peers),
            *((known.identifier, known.addresses) for known in network.known_peers),
            *((identifier, []) for identifier in listed_identifiers(network.policy)),
        ],
        network.identifier,
    )


def reach(network: PeerNetwork, peer: str, timeout: float) -> PeerChannel:
    """An open channel to a peer; if there is none it is dialled.

    Raises:
        ConfigurationError: nobody is meant.
        ConnectError: the peer cannot be reached.
    """
    directory = directory_of(network)
    if is_address(peer):
        directory.check_other(PeerAddress.parse(peer).identifier or "")
        return network.connect(peer, timeout=timeout, attempts=1)
    identifier = directory.identifier(peer)
    if identifier in network.inbound_connecting_peers:
        raise LocalProtocolError(
            f"{short(identifier)} is pending; let it in first with `peernet-node accept {short(identifier)}`"
        )
    return network.channel_to(identifier) or _dial_known(network, identifier, Deadline(timeout))


def say(
    network: PeerNetwork,
    peer: str,
    message: dict[str, Any],
    timeout: float,
    confirm: bool,
    deadline: Deadline | None = None,
) -> dict[str, Any]:
    """Send a message described by plain values, and wait until the peer has dealt with it.

    Args:
        network: the node that sends.
        peer: who gets it.
        message: as :func:`~peernet.node.bodies.from_json` takes it.
        timeout: seconds for all of it.
        confirm: wait for the peer.
        deadline: when these seconds end, if they have begun already.

    Raises:
        RequestError: this is no message.
        ConnectError, ChannelError: it could not be sent.
        PingTimeout: it was sent, and the peer has not dealt with it in time.
        DeliveryFailed: the peer has refused it, or the session has ended.
    """
    deadline = deadline or Deadline(timeout)
    body = bodies.from_json(message)
    channel = reach(network, peer, deadline.cap(timeout))
    with _told_why(channel):
        receipt = channel.send(body, timeout=deadline.remaining)
        if confirm and receipt.reason is Reason.NO_SESSION:
            _await_turn(channel, deadline, timeout)
        elif confirm and not receipt.wait(deadline.cap(timeout)):
            raise _not_dealt_with(channel, timeout)
    return {
        "sent": True,
        "peer": channel.peer.identifier,
        "kind": "pure_message" if "text" in message else "data_transmission",
        "bytes": body.ByteSize(),
        "confirmed": confirm,
    }


def ping(
    network: PeerNetwork, peer: str, timeout: float, count: int, deadline: Deadline | None = None
) -> list[dict[str, Any]]:
    """Ping a peer some times, and return what came of it as plain values.

    Raises:
        ConnectError: it cannot be reached.
        PingTimeout: it did not answer in time.
    """
    deadline = deadline or Deadline(timeout)
    channel = reach(network, peer, deadline.cap(timeout))
    try:
        with _told_why(channel):
            seconds = [channel.ping(deadline.cap(timeout)) for _ in range(count)]
    except PingTimeout as error:
        raise PingTimeout(f"{short(channel.peer.identifier)} did not answer within {duration(timeout)}") from error
    return [{"peer": channel.peer.identifier, "seconds": each} for each in seconds]


@contextmanager
def _told_why(channel: PeerChannel) -> Iterator[None]:
    """Where a closed channel is told of, with what the peer has said about it."""
    try:
        yield
    except (ChannelClosedError, DeliveryFailed) as error:
        if not channel.reason_text or error.reason is not channel.reason:
            raise
        raise type(error)(f"{error} ({printable(channel.reason_text)})", error.reason) from error


def _await_turn(channel: PeerChannel, deadline: Deadline, timeout: float) -> None:
    """For peers without sessions: packets are dealt with in order, so an answered ping says that all before it are."""
    try:
        channel.ping(deadline.cap(timeout))
    except PingTimeout as error:
        raise _not_dealt_with(channel, timeout) from error


def _not_dealt_with(channel: PeerChannel, timeout: float) -> PingTimeout:
    return PingTimeout(
        f"sent, but {short(channel.peer.identifier)} has not dealt with it within {duration(timeout)}; "
        "it may be busy or away, or still has to accept this node"
    )


def _dial_known(network: PeerNetwork, identifier: str, deadline: Deadline) -> PeerChannel:
    known = network.known_peers.get(identifier)
    failure = ConnectError(f"no address of {short(identifier)} is known; give it as peer://identifier@host:port")
    for endpoint in known.addresses if known else ():
        if deadline.expired:
            raise ConnectTimeout(f"{short(identifier)} could not be reached in time at any address known")
        where = PeerAddress.parse(endpoint)
        pinned = PeerAddress(where.host, where.port, None if network.insecure else identifier)
        try:
            return network.connect(str(pinned), timeout=deadline.remaining, attempts=1)
        except ConnectError as error:
            failure = error
    raise failure
