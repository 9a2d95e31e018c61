"""Whatever a program's function raises, wherever it is called: it hurts nobody, and the network goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import gevent
import pytest

from peernet import IncomingPeerMode, IncomingPeerTrustPolicy, PeerChannel, PeerNetwork
from peernet.channel.callbacks import FAILING
from peernet.errors import DeliveryFailed
from peernet.reasons import Reason
from peernet.runtime.events import Event
from peernet.v1.packet_pb2 import IdentifierPacket
from tests.integration.attackers import dial
from tests.integration.meetings import Networks, config, text
from tests.support import wait_until


class OwnError(BaseException):
    """What a program may have made, and no library expects."""


ERRORS: dict[str, Callable[[], BaseException]] = {
    "an error": lambda: ValueError("oops"),
    "a timeout": lambda: gevent.Timeout(1),
    "an exit that nobody has sent": gevent.GreenletExit,
    "a cancelled task": asyncio.CancelledError,
    "the end of a generator": GeneratorExit,
    "one of the program's own": lambda: OwnError("oops"),
}
QUEUE = IncomingPeerTrustPolicy(incoming_peer_placement=IncomingPeerMode.QUEUE_BASED)


class Scene:
    """A network with a function that raises, and guests that have it called."""

    def __init__(self, networks: Networks, error: Callable[[], BaseException], folder: Path) -> None:
        self._networks = networks
        self._error = error
        self.folder = folder
        self.calls = 0
        self.bob = networks(config=config(durable_attempts=1), durable_outbox=folder / "outbox.db")
        self.bob.handlers["pure_message"] = lambda channel, packet: None

    def fail(self, *args: object) -> None:
        """What the program has given to the network."""
        self.calls += 1
        raise self._error()

    def guest(self) -> tuple[PeerNetwork, PeerChannel]:
        """A new peer, and its channel to Bob."""
        alice = self._networks(config=config())
        return alice, alice.connect(self.bob.addresses[0])

    def guest_inside(self) -> tuple[PeerChannel, PeerChannel]:
        """A new peer that was let in: its channel and Bob's."""
        alice, channel = self.guest()
        return channel, wait_until(lambda: self.bob.channel_to(alice.identifier))

    def is_called(self) -> None:
        wait_until(lambda: self.calls, what="the function to be called")


def incoming_peer_connection_attempt(scene: Scene) -> None:
    scene.bob.incoming_peer_connection_attempt.add(scene.fail)
    _, channel = scene.guest()
    assert channel.wait_closed(5)
    assert channel.reason is Reason.INTERNAL_ERROR  # it is told, and nobody believes to be connected
    scene.bob.incoming_peer_connection_attempt.remove(scene.fail)
    assert scene.bob.counters["internal_error"] == 1


def peer_pending(scene: Scene) -> None:
    scene.bob.peer_pending.add(scene.fail)
    scene.bob.policy = QUEUE
    alice, channel = scene.guest()
    scene.is_called()
    scene.bob.policy = IncomingPeerTrustPolicy()
    scene.bob.inbound_connecting_peers.accept(alice.identifier)
    assert channel.send(text("hello")).wait(5)


def peer_added(scene: Scene) -> None:
    scene.bob.peer_added.add(scene.fail)
    _, channel = scene.guest()
    assert channel.send(text("hello")).wait(5)


def peer_removed(scene: Scene) -> None:
    scene.bob.peer_removed.add(scene.fail)
    channel, _ = scene.guest_inside()
    channel.close()


def packet_received(scene: Scene) -> None:
    scene.bob.packet_received.add(scene.fail)
    _, channel = scene.guest()
    assert channel.send(text("hello")).wait(5)  # the callback decides, and not who looks on


def packet_refused(scene: Scene) -> None:
    scene.bob.packet_refused.add(scene.fail)
    _, channel = scene.guest()
    with pytest.raises(DeliveryFailed):
        channel.send_data(b"not permitted").wait(5)


def callback(scene: Scene) -> None:
    scene.bob.handlers["pure_message"] = scene.fail
    _, channel = scene.guest()
    with pytest.raises(DeliveryFailed) as failed:
        channel.send(text("hello")).wait(5)
    assert failed.value.reason is Reason.HANDLER_FAILED
    assert scene.bob.counters["callback_failed"] == 1
    scene.bob.handlers["pure_message"] = lambda channel, packet: None


def handler_failing(scene: Scene) -> None:
    scene.bob.handler_failing.add(scene.fail)
    scene.bob.handlers["pure_message"] = lambda channel, packet: 1 / 0
    _, channel = scene.guest()
    for _ in range(FAILING):
        channel.send(text("hello"))
    scene.is_called()
    scene.bob.handlers["pure_message"] = lambda channel, packet: None


def trust_changed(scene: Scene) -> None:
    scene.bob.trust_changed.add(scene.fail)
    _, to_guest = scene.guest_inside()
    scene.bob.call_soon(to_guest.trust)


def channel_reconnecting(scene: Scene) -> None:
    scene.bob.channel_reconnecting.add(scene.fail)
    attacker = dial(scene.bob.addresses[0])
    attacker.greet(session_id=7)
    wait_until(lambda: scene.bob.channel_to(attacker.credentials.identifier))
    attacker.vanish()


def peer_banned(scene: Scene) -> None:
    scene.bob.peer_banned.add(scene.fail)
    scene.bob.call_soon(scene.bob.bans.ban, "203.0.113.7")


def packet_set_aside(scene: Scene) -> None:
    scene.bob.packet_set_aside.add(scene.fail)
    alice, _ = scene.guest()
    alice.handlers["pure_message"] = lambda channel, packet: 1 / 0
    scene.bob.send(alice.identifier, text("hello"), durable=True)


def default_trust_protocol(scene: Scene) -> None:
    scene.bob.default_trust_protocol = scene.fail
    _, to_guest = scene.guest_inside()
    scene.is_called()
    assert not to_guest.trusted


def receipt(scene: Scene) -> None:
    channel, to_guest = scene.guest_inside()
    channel.handlers["identifier"] = lambda channel, packet: None
    to_guest.send(IdentifierPacket(message="hello")).add_done_callback(scene.fail)
    scene.is_called()
    assert to_guest.ping() > 0  # whoever reads from the guest has called it


def durable_receipt(scene: Scene) -> None:
    alice, _ = scene.guest()
    alice.handlers["pure_message"] = lambda channel, packet: None
    scene.bob.send(alice.identifier, text("hello"), durable=True).add_done_callback(scene.fail)
    scene.is_called()
    assert scene.bob.send(alice.identifier, text("again"), durable=True).wait(5)


def routine(scene: Scene) -> None:
    scene.bob.routines.add("fails", 0.01, scene.fail)
    wait_until(lambda: scene.calls > 1, what="the routine to run again")


def call_soon(scene: Scene) -> None:
    scene.bob.call_soon(scene.fail)


def spawned(scene: Scene) -> None:
    _, to_guest = scene.guest_inside()
    to_guest.spawn(scene.fail)
    scene.is_called()
    assert to_guest.ping() > 0


PLACES = [
    incoming_peer_connection_attempt,
    peer_pending,
    peer_added,
    peer_removed,
    packet_received,
    packet_refused,
    callback,
    handler_failing,
    trust_changed,
    channel_reconnecting,
    peer_banned,
    packet_set_aside,
    default_trust_protocol,
    receipt,
    durable_receipt,
    routine,
    call_soon,
    spawned,
]


@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)
def test_what_a_function_of_the_program_raises_hurts_nobody(
    networks: Networks, tmp_path: Path, place: Callable[[Scene], None], error: Callable[[], BaseException]
) -> None:
    scene = Scene(networks, error, tmp_path)
    place(scene)
    scene.is_called()
    _, channel = scene.guest()
    assert channel.send(text("still there?")).wait(5)
    assert scene.bob.running


def test_every_event_is_among_the_places() -> None:
    events = {name for name, one in vars(PeerNetwork()).items() if isinstance(one, Event)}
    assert events - {place.__name__ for place in PLACES} == {"channel_resumed"}
