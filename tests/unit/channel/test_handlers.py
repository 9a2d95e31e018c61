from __future__ import annotations

from typing import Any

import pytest

from peernet.channel.handlers import InThreadpool, PacketHandleProtocol, find_callback
from peernet.errors import ConfigurationError
from peernet.peers.address import MAX_LISTEN_ADDRESSES
from peernet.v1.packet_pb2 import IdentifierPacket, Packet
from peernet.wire.packets import KINDS
from tests.support import Recorder
from tests.unit.sample_peers import FakeChannel


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_can_be_given_a_callback(kind: str) -> None:
    handlers = PacketHandleProtocol()
    callback = Recorder()
    handlers[kind] = callback
    assert handlers[kind] is callback


def test_the_defaults_are_installed() -> None:
    assert set(PacketHandleProtocol()) == {"identifier", "disconnect"}


def test_the_callbacks_of_one_channel_start_empty() -> None:
    assert PacketHandleProtocol(defaults=False) == {}


def test_two_protocols_share_nothing() -> None:
    one, other = PacketHandleProtocol(), PacketHandleProtocol()
    del one["identifier"]
    assert "identifier" in other


@pytest.mark.parametrize("kind", ["", "pure_mesage", "PureMessagePacket", "unknown", 20])
def test_a_kind_that_does_not_exist_is_refused_with_those_that_do(kind: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"is not a kind of packet; there are hello, .*data_transmission"):
        PacketHandleProtocol()[kind] = Recorder()


@pytest.mark.parametrize("callback", [None, "print", 5])
def test_what_cannot_be_called_is_refused(callback: Any) -> None:
    with pytest.raises(ConfigurationError, match="the callback for pure_message must be callable"):
        PacketHandleProtocol()["pure_message"] = callback


def test_on_installs_what_it_decorates_and_returns_it() -> None:
    handlers = PacketHandleProtocol()

    @handlers.on("data_transmission")
    def received(channel: object, packet: Packet) -> str:
        return "called"

    assert handlers["data_transmission"] is received
    assert received(None, Packet()) == "called"


def test_a_callback_that_blocks_is_marked_and_can_be_called_like_any_other() -> None:
    handlers = PacketHandleProtocol()

    @handlers.on("pure_message", threadpool=True)
    def received(channel: object, packet: Packet) -> str:
        return f"called on {channel}"

    marked = handlers["pure_message"]
    assert isinstance(marked, InThreadpool)
    assert marked.callback is received
    assert received("me", Packet()) == marked("me", Packet()) == "called on me"
    assert repr(marked) == f"InThreadpool({received!r})"


def test_the_other_default_does_nothing() -> None:
    assert PacketHandleProtocol()["disconnect"](FakeChannel(), Packet()) is None


@pytest.mark.parametrize("count", [0, 1, MAX_LISTEN_ADDRESSES, MAX_LISTEN_ADDRESSES + 1, 1000])
def test_an_identifier_packet_changes_the_addresses_known_of_a_peer_and_nothing_else(count: int) -> None:
    channel = FakeChannel()
    before = channel.peer.to_dict()
    addresses = [f"192.0.2.1:{port}" for port in range(1, count + 1)]
    packet = Packet(identifier=IdentifierPacket(message="me", listen_addresses=addresses))
    PacketHandleProtocol()["identifier"](channel, packet)
    assert channel.peer.listen_addresses == tuple(addresses[:MAX_LISTEN_ADDRESSES])
    assert channel.peer.to_dict() == before | {"listen_addresses": addresses[:MAX_LISTEN_ADDRESSES]}


OWN, SHARED = Recorder(), Recorder()


@pytest.mark.parametrize(
    ("own", "shared", "expected"),
    [
        (None, {}, None),
        (None, {"pure_message": SHARED}, SHARED),
        ({}, {"pure_message": SHARED}, SHARED),
        ({"pure_message": OWN}, {"pure_message": SHARED}, OWN),
        ({"pure_message": OWN}, {}, OWN),
        ({"identifier": OWN}, {}, None),
    ],
    ids=[
        "nobody",
        "the network's",
        "the network's, beside none",
        "the channel's first",
        "the channel's",
        "another kind",
    ],
)
def test_the_callback_of_the_channel_goes_before_the_one_of_the_network(own: Any, shared: Any, expected: Any) -> None:
    def protocol(callbacks: dict[str, Recorder]) -> PacketHandleProtocol:
        made = PacketHandleProtocol(defaults=False)
        for kind, callback in callbacks.items():
            made[kind] = callback
        return made

    override = None if own is None else protocol(own)
    assert find_callback("pure_message", override, protocol(shared)) is expected


def test_update_checks_what_setting_one_kind_checks() -> None:
    handlers = PacketHandleProtocol()
    with pytest.raises(ConfigurationError, match="is not a kind"):
        handlers.update({"pure_mesage": print})
    handlers.update(pure_message=print)
    assert handlers["pure_message"] is print
