"""Networks with TLS over streams in memory, at addresses that only their backend understands."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent.event import Event as Flag

from peernet.channel.channel import PeerChannel
from peernet.config import MIB, NetworkConfig
from peernet.errors import ConnectError, IdentityMismatchError, SendTimeout
from peernet.network import PeerNetwork
from peernet.peers.address import PeerAddress
from peernet.peers.identity import Identity
from peernet.reasons import Reason
from peernet.transport.backend import Accepted, Failed
from peernet.transport.memory import MemoryTransport, memory_pair
from peernet.transport.tls import TlsContext
from peernet.v1.packet_pb2 import DataTransmissionPacket, PureMessagePacket
from tests.support import Recorder, scaled, wait_until

QUICK: dict[str, Any] = {
    "backoff_base": 0.01,
    "backoff_cap": 0.02,
    "redial_interval": 0.01,
    "close_timeout": 1.0,
    "accept_burst": 1000,
}


class Board:
    """Where the networks of a test meet. Their hosts are names in a domain that no resolver knows.

    Attributes:
        accepted: who is called when somebody dials an address.
        pairs: the connections that were made, the dialling end first.
        silent: whether nobody answers any more.
        dialling: how many wait for an answer.
        most_dialling: the most that did at once.
    """

    def __init__(self) -> None:
        self.accepted: dict[str, Accepted] = {}
        self.pairs: list[tuple[MemoryTransport, MemoryTransport]] = []
        self.silent = False
        self.dialling = self.most_dialling = 0

    def dial(self, caller: str, address: PeerAddress) -> MemoryTransport:
        if self.silent:
            self._wait_in_vain()
        accepted = self.accepted.get(address.endpoint)
        if accepted is None:
            raise ConnectError(f"nobody is at {address.endpoint}")
        near, far = memory_pair()
        near.remote, far.remote = (address.host, address.port), (caller, 40_000 + len(self.pairs))
        self.pairs.append((near, far))
        accepted(far)
        return near

    def cut(self) -> None:
        """End all connections, as if the way between the networks were gone."""
        for end in (end for pair in self.pairs for end in pair):
            end.abort()

    def _wait_in_vain(self) -> None:
        self.dialling += 1
        self.most_dialling = max(self.most_dialling, self.dialling)
        try:
            Flag().wait()
        finally:
            self.dialling -= 1


class Backend:
    """How the network of one host reaches others over a board; see :class:`~peernet.transport.backend.Backend`."""

    def __init__(self, board: Board, host: str) -> None:
        self._board = board
        self._host = host

    def dial(self, address: PeerAddress) -> MemoryTransport:
        return self._board.dial(self._host, address)

    def listen(self, address: PeerAddress, accepted: Accepted, failed: Failed) -> Listening:
        self._board.accepted[address.endpoint] = accepted
        return Listening(self._board, address)

    def secure(self, identity: Identity) -> TlsContext:
        return TlsContext(identity)


class Listening:
    """What accepts connections at one address of a board."""

    def __init__(self, board: Board, address: PeerAddress) -> None:
        self._board = board
        self.address = address

    def stop(self) -> None:
        self._board.accepted.pop(self.address.endpoint, None)


class World:
    """Some networks on one board."""

    def __init__(self) -> None:
        self.board = Board()
        self.networks: list[PeerNetwork] = []

    def network(self, name: str, config: dict[str, Any] | None = None, **options: Any) -> PeerNetwork:
        network = PeerNetwork(
            listen=[f"{name}.memory:1"],
            backend=Backend(self.board, f"{name}.memory"),
            config=NetworkConfig(**(QUICK | (config or {}))),
            **options,
        )
        self.networks.append(network)
        network.start()
        return network

    def meet(self, config: dict[str, Any] | None = None) -> tuple[PeerNetwork, PeerNetwork, PeerChannel, PeerChannel]:
        """Alice, who has dialled, and Bob; and the channel of each, who trusts the other."""
        alice, bob = self.network("alice", config), self.network("bob", config)
        to_bob = alice.connect(bob.addresses[0])
        to_alice = wait_until(lambda: bob.channel_to(alice.identifier), what="the channel at the other side")
        for channel in (to_bob, to_alice):
            channel.trust()
        return alice, bob, to_bob, to_alice


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.board.silent = False
    for network in made.networks:
        network.stop(timeout=scaled(2))


def text(message: str) -> PureMessagePacket:
    return PureMessagePacket(message=message)


def test_each_side_knows_who_the_other_has_proven_to_be_and_where(world: World) -> None:
    alice, bob, to_bob, to_alice = world.meet()
    assert (to_bob.peer.identifier, to_alice.peer.identifier) == (bob.identifier, alice.identifier)
    assert to_bob.peer.proven
    assert to_alice.peer.proven
    assert to_bob.peer.endpoint == "bob.memory:1"
    assert to_alice.peer.address == "alice.memory"
    assert alice.connect("bob.memory:1") is to_bob


def test_somebody_else_at_the_address_is_found_out(world: World) -> None:
    alice, _ = world.network("alice"), world.network("bob")
    with pytest.raises(IdentityMismatchError):
        alice.connect(f"peer://{alice.identifier}@bob.memory:1")


def test_nothing_travels_in_clear_text(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    written = bytearray()
    send = MemoryTransport.send

    def note(self: MemoryTransport, data: bytes | memoryview) -> int:
        count = send(self, data)
        written.extend(data[:count])
        return count

    monkeypatch.setattr(MemoryTransport, "send", note)
    _, bob, to_bob, _ = world.meet()
    bob.handlers["pure_message"] = Recorder()
    assert to_bob.send(text("a word that can be found")).wait(scaled(5))
    assert len(written) > 1000
    assert b"a word" not in written
    assert b"bob.memory" not in written


@pytest.mark.parametrize("size", [0, 1, 16 * 1024, MIB - 100])
def test_packets_of_all_sizes_go_both_ways(world: World, size: int) -> None:
    alice, bob, to_bob, to_alice = world.meet()
    content = os.urandom(size)
    heard = {network: Recorder() for network in (alice, bob)}
    for network, recorder in heard.items():
        network.handlers["data_transmission"] = recorder
    receipts = [channel.send(DataTransmissionPacket(data=content)) for channel in (to_bob, to_alice)]
    assert all(receipt.wait(scaled(10)) for receipt in receipts)
    for recorder in heard.values():
        assert [packet.data_transmission.data for packet in recorder.packets] == [content]


def test_a_slow_reader_makes_the_sender_wait_and_loses_nothing(world: World) -> None:
    _, bob, to_bob, _ = world.meet({"outbox_bytes": MIB})
    go_on, digests = Flag(), []

    def take(channel: PeerChannel, packet: Any) -> None:
        go_on.wait()
        digests.append(hashlib.sha256(packet.data_transmission.data).digest())

    bob.handlers["data_transmission"] = take
    bob.handlers["pure_message"] = Recorder()
    sent: list[bytes] = []

    def send_until_full() -> None:
        while len(sent) < 1000:
            content = os.urandom(64 * 1024)
            to_bob.send(DataTransmissionPacket(data=content), timeout=scaled(0.2))
            sent.append(hashlib.sha256(content).digest())

    with pytest.raises(SendTimeout):
        send_until_full()
    assert len(sent) < 100
    go_on.set()
    wait_until(lambda: len(digests) == len(sent), what="all that was accepted")
    assert digests == sent
    assert to_bob.send(text("there is room again")).wait(scaled(5))


def test_a_channel_whose_connection_is_cut_goes_on_without_a_loss(world: World) -> None:
    alice, bob, to_bob, to_alice = world.meet()
    heard: dict[str, list[str]] = {"alice": [], "bob": []}
    alice.handlers["pure_message"] = lambda channel, packet: heard["alice"].append(packet.pure_message.message)
    bob.handlers["pure_message"] = lambda channel, packet: heard["bob"].append(packet.pure_message.message)
    receipts, cuts = [], 0

    def has_resumed(times: int) -> bool:
        return alice.counters["resumed"] == times

    for number in range(300):
        receipts += [channel.send(text(str(number)), timeout=scaled(10)) for channel in (to_bob, to_alice)]
        if number % 100 == 50:
            world.board.cut()
            cuts += 1
            wait_until(partial(has_resumed, cuts), what="another connection")
    assert all(receipt.wait(scaled(10)) for receipt in receipts)
    expected = [str(number) for number in range(300)]
    assert heard == {"alice": expected, "bob": expected}
    assert cuts == 3
    assert len(world.board.pairs) == 4  # redialled at an address that is no address of the internet


def test_the_goodbye_arrives_behind_all_that_was_sent(world: World) -> None:
    alice, bob, to_bob, to_alice = world.meet()
    recorder = Recorder()
    bob.handlers["data_transmission"] = recorder
    for _ in range(20):
        to_bob.send(DataTransmissionPacket(data=bytes(64 * 1024)), timeout=scaled(5))
    to_bob.close()
    assert to_alice.wait_closed(scaled(5))
    assert (to_alice.reason, to_alice.ended_by_peer) == (Reason.CLOSED, True)
    assert len(recorder) == 20
    assert alice.active_peer_channels == []


def test_stopping_leaves_no_connection(world: World) -> None:
    alice, _, _, to_alice = world.meet()
    alice.stop()
    assert to_alice.wait_closed(scaled(5))
    assert to_alice.reason is Reason.SHUTDOWN
    wait_until(lambda: all(end.ended() for pair in world.board.pairs for end in pair))


def test_max_redials_holds_once_for_lost_channels_and_stored_packets(world: World, tmp_path: Path) -> None:
    alice = world.network("alice", {"max_redials": 3}, durable_outbox=tmp_path / "outbox.sqlite")
    peers = [world.network(f"bob-{number}") for number in range(4)]
    for peer in peers:
        alice.connect(peer.addresses[0])
    world.board.silent = True
    world.board.cut()
    for number in range(4):
        stranger = Identity.generate().identifier
        alice.send(f"peer://{stranger}@nobody-{number}.memory:1", text("for later"), durable=True)
    wait_until(lambda: world.board.dialling == 3, what="the dials")
    for _ in range(20):
        gevent.sleep(0.005)  # longer than any pause before a dial
    assert world.board.most_dialling == 3
