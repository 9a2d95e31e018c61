"""Networks that know each other, for tests that begin where the handshake has ended."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import gevent
import gevent.socket
from google.protobuf.message import Message

from peernet import NetworkConfig, PeerChannel, PeerNetwork
from peernet.errors import ChannelClosedError, OutboxFullError
from peernet.v1.packet_pb2 import DataTransmissionPacket, PureMessagePacket
from tests.support import wait_until

Networks = Callable[..., PeerNetwork]

CHUNK = DataTransmissionPacket(data=bytes(256 * 1024))

# Timeouts that a test can wait for, and as many connections from one address as it likes. What is left out
# keeps its default.
BRISK: dict[str, Any] = {
    "close_timeout": 0.5,
    "backoff_base": 0.01,
    "backoff_cap": 0.02,
    "allow_loopback_burst": True,
}


def config(**changes: Any) -> NetworkConfig:
    """A configuration whose timeouts a test can wait for."""
    return NetworkConfig(**(BRISK | changes))


def text(message: str) -> PureMessagePacket:
    """A text message."""
    return PureMessagePacket(message=message)


@dataclass
class Meeting:
    """Alice has dialled Bob, and both sides have their channel."""

    alice: PeerNetwork
    bob: PeerNetwork
    to_bob: PeerChannel
    to_alice: PeerChannel


def meet(
    networks: Networks, alice: dict[str, Any] | None = None, bob: dict[str, Any] | None = None, **both: Any
) -> Meeting:
    """Two networks with a channel: ``alice`` and ``bob`` are the options of each, ``both`` those they share."""
    both.setdefault("config", config())
    one, other = networks(**(both | (alice or {}))), networks(**(both | (bob or {})))
    to_bob = one.connect(other.addresses[0])
    to_alice = wait_until(lambda: other.channel_to(one.identifier), what="the channel at the other side")
    return Meeting(one, other, to_bob, to_alice)


def fill(channel: PeerChannel, body: Message = CHUNK) -> int:
    """Send until there is no more room, neither in the system nor in the outbox. Returns how many were taken."""
    taken = 0

    def is_full() -> bool:
        nonlocal taken
        try:
            while True:
                channel.try_send(body)
                taken += 1
        except OutboxFullError:
            before = channel.queued_bytes
            gevent.sleep(0.02)  # in which the system may take some more
            return channel.queued_bytes == before

    wait_until(is_full)
    return taken


def wait_for_sign_of_life(channel: PeerChannel) -> None:
    """Wait until something more comes."""
    heard = channel.last_received
    wait_until(lambda: channel.last_received > heard, what=f"a heartbeat on {channel}")


def echo(channel: PeerChannel, packet: Any) -> None:
    """A callback that sends back what came."""
    channel.send(getattr(packet, packet.WhichOneof("body")))


class Neighbour:
    """An honest peer that talks to a node all the time, and notices when it gets no answers."""

    def __init__(self, network: PeerNetwork, node: PeerNetwork) -> None:
        self.rounds = 0
        self.channel = network.connect(node.addresses[0])
        self.channel.handlers["pure_message"] = self._answered
        self.channel.send(text("0"))

    def _answered(self, channel: PeerChannel, packet: Any) -> None:
        assert packet.pure_message.message == str(self.rounds)
        self.rounds += 1
        channel.spawn(self._go_on)

    def _go_on(self) -> None:
        gevent.sleep(0.002)  # a conversation, not a load test
        with suppress(ChannelClosedError):  # the test is over
            self.channel.send(text(str(self.rounds)))

    def is_served(self, rounds: int = 5) -> None:
        """Fail unless the node goes on answering."""
        goal = self.rounds + rounds
        wait_until(lambda: self.rounds >= goal, 10, "the honest peer's echo")


@contextmanager
def undisturbed(networks: Networks, node: PeerNetwork) -> Iterator[Neighbour]:
    """An honest peer of ``node`` that is served before, during and after what happens inside.

    The node gets a callback that echoes text messages.
    """
    node.handlers["pure_message"] = echo
    neighbour = Neighbour(networks(network_name=node.network_name, listen=[], insecure=node.insecure), node)
    neighbour.is_served()
    yield neighbour
    neighbour.is_served()


@contextmanager
def node_in_use(networks: Networks, *, options: dict[str, Any] | None = None, **limits: Any) -> Iterator[PeerNetwork]:
    """A new node, :func:`undisturbed` by what happens inside: ``limits`` go into its configuration."""
    node = networks(config=config(**limits), **(options or {}))
    with undisturbed(networks, node):
        yield node
