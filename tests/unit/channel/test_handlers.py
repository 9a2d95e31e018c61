from __future__ import annotations

import copy
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, cast, get_args

import pytest

from peernet.channel.handlers import CALLED_BACK, InThreadpool, PacketHandleProtocol, PacketKind, find_callback
from peernet.errors import ConfigurationError
from peernet.peers.address import MAX_LISTEN_ADDRESSES
from peernet.runtime.threads import HomeThread
from peernet.v1.packet_pb2 import IdentifierPacket, Packet
from tests.support import Recorder
from tests.unit.sample_peers import FakeChannel


@pytest.mark.parametrize("kind", CALLED_BACK)
def test_every_kind_can_be_given_a_callback(kind: Any) -> None:
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
    with pytest.raises(ConfigurationError, match=r"is not a kind of packet; there are disconnect, .*data_transmission"):
        PacketHandleProtocol()[kind] = Recorder()


@pytest.mark.parametrize("kind", ["hello", "heartbeat", "acknowledge", "withdrawn"])
def test_a_kind_that_reaches_no_callback_is_refused(kind: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"packets of kind '{kind}' belong to the protocol .* there are disc"):
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
    def protocol(callbacks: dict[Any, Recorder]) -> PacketHandleProtocol:
        made = PacketHandleProtocol(defaults=False)
        for kind, callback in callbacks.items():
            made[kind] = callback
        return made

    override = None if own is None else protocol(own)
    assert find_callback("pure_message", override, protocol(shared)) is expected


def ior(handlers: Any, callbacks: dict[str, Any]) -> None:
    handlers |= callbacks


# Every way to put a callback into a dict. Each returns what it was put into.
SETTINGS: dict[str, Callable[[Any, Any], Any]] = {
    "[]": lambda kind, callback: made_by(lambda handlers: handlers.__setitem__(kind, callback)),
    "update": lambda kind, callback: made_by(lambda handlers: handlers.update({kind: callback})),
    "update with pairs": lambda kind, callback: made_by(lambda handlers: handlers.update([(kind, callback)])),
    "update with keywords": lambda kind, callback: made_by(lambda handlers: handlers.update(**{kind: callback})),
    "setdefault": lambda kind, callback: made_by(lambda handlers: handlers.setdefault(kind, callback)),
    "|=": lambda kind, callback: made_by(lambda handlers: ior(handlers, {kind: callback})),
    "|": lambda kind, callback: PacketHandleProtocol() | {kind: callback},
    "| of a dict": lambda kind, callback: {kind: callback} | PacketHandleProtocol(defaults=False),
    "on": lambda kind, callback: made_by(lambda handlers: handlers.on(kind)(callback)),
    "constructor": lambda kind, callback: PacketHandleProtocol({kind: callback}),
    "constructor with pairs": lambda kind, callback: PacketHandleProtocol(cast(Any, [(kind, callback)])),
    "constructor with keywords": lambda kind, callback: PacketHandleProtocol(**{kind: callback}),
    "fromkeys": lambda kind, callback: PacketHandleProtocol.fromkeys([kind], callback),
}
every_setting = pytest.mark.parametrize("set_callback", SETTINGS.values(), ids=SETTINGS)


def made_by(change: Callable[[Any], object]) -> PacketHandleProtocol:
    handlers = PacketHandleProtocol()
    change(handlers)
    return handlers


@every_setting
def test_a_callback_can_be_set_in_every_way_of_a_dict(set_callback: Callable[[Any, Any], Any]) -> None:
    handlers = set_callback("data_transmission", print)
    assert handlers["data_transmission"] is print
    assert type(handlers) is PacketHandleProtocol


@every_setting
def test_an_unknown_kind_is_refused_in_every_way_of_setting_it(set_callback: Callable[[Any, Any], Any]) -> None:
    with pytest.raises(ConfigurationError, match="'pure_mesage' is not a kind of packet; there are disconnect, "):
        set_callback("pure_mesage", print)


async def coroutine(channel: object, packet: Packet) -> None: ...


async def asynchronous_generator(channel: object, packet: Packet) -> AsyncIterator[int]:
    yield 5


def generator(channel: object, packet: Packet) -> Iterator[int]:
    yield 5


UNUSABLE: dict[str, Any] = {
    "none": None,
    "no argument": lambda: None,
    "one argument": lambda channel: None,
    "three arguments": lambda channel, packet, more: None,
    "a keyword": lambda channel, *, packet: None,
    "a coroutine": coroutine,
    "an asynchronous generator": asynchronous_generator,
    "a generator": generator,
}
unusable = pytest.mark.parametrize("callback", UNUSABLE.values(), ids=UNUSABLE)


@every_setting
@unusable
def test_a_callback_that_cannot_be_called_as_one_is_refused_in_every_way_of_setting_it(
    callback: Any, set_callback: Callable[[Any, Any], Any]
) -> None:
    with pytest.raises(ConfigurationError, match=r"^the callback for data_transmission (must be|is called with 2 pos)"):
        set_callback("data_transmission", callback)


@unusable
def test_a_callback_that_cannot_be_called_as_one_is_refused_for_a_thread_too(callback: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^a callback (must be|is called with 2 positional arguments)"):
        InThreadpool(callback)
    with pytest.raises(ConfigurationError, match=r"^a callback (must be|is called with 2 positional arguments)"):
        PacketHandleProtocol().on("data_transmission", threadpool=True)(callback)


def test_setdefault_leaves_what_is_set() -> None:
    handlers = PacketHandleProtocol(pure_message=print)
    assert handlers.setdefault("pure_message", divmod) is print
    assert handlers["pure_message"] is print


def test_an_update_that_is_refused_changes_nothing() -> None:
    handlers = PacketHandleProtocol()
    with pytest.raises(ConfigurationError):
        handlers.update({"pure_message": print, "pure_mesage": print})  # type: ignore[dict-item]
    assert handlers == PacketHandleProtocol()


def test_the_callbacks_of_a_constructor_go_before_the_defaults() -> None:
    handlers = PacketHandleProtocol({"pure_message": print})
    assert handlers == {**PacketHandleProtocol(), "pure_message": print}
    assert PacketHandleProtocol({"pure_message": print}, defaults=False) == {"pure_message": print}


def test_joined_callbacks_are_of_the_right_side_where_both_have_one() -> None:
    left = PacketHandleProtocol(pure_message=print, identifier=print, defaults=False)
    right = {"pure_message": divmod, "disconnect": divmod}
    assert left | right == {"pure_message": divmod, "identifier": print, "disconnect": divmod}
    assert right | left == {"pure_message": print, "identifier": print, "disconnect": divmod}
    assert left == {"pure_message": print, "identifier": print}


@pytest.mark.parametrize("other", [None, 5, [("pure_message", print)]])
def test_nothing_but_a_mapping_is_joined(other: Any) -> None:
    with pytest.raises(TypeError):
        PacketHandleProtocol() | other
    with pytest.raises(TypeError):
        other | PacketHandleProtocol()


@pytest.mark.parametrize("copied", [PacketHandleProtocol.copy, copy.copy], ids=["method", "module"])
def test_a_copy_has_the_same_callbacks_and_checks_new_ones(copied: Callable[[Any], Any]) -> None:
    handlers = PacketHandleProtocol(pure_message=print, defaults=False)
    other = copied(handlers)
    assert type(other) is PacketHandleProtocol
    assert other == handlers
    with pytest.raises(ConfigurationError):
        other["pure_mesage"] = print  # type: ignore[index]
    del other["pure_message"]
    assert "pure_message" in handlers


def test_type_checkers_know_the_kinds_that_there_are() -> None:
    assert get_args(PacketKind) == CALLED_BACK


def test_kinds_are_taken_out_as_of_any_dict() -> None:
    handlers = PacketHandleProtocol()
    assert handlers.pop("disconnect") is not None
    assert handlers.popitem()[0] == "identifier"
    handlers["pure_message"] = Recorder()
    handlers.clear()
    assert handlers == {}


def test_those_of_a_network_that_is_gone_belong_to_nobody() -> None:
    handlers = PacketHandleProtocol()
    handlers.belong_to(HomeThread())  # of a network that nobody has
    handlers["pure_message"] = callback = Recorder()
    assert handlers["pure_message"] is callback
