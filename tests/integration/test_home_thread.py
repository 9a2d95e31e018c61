"""Everything that acts on a network refuses to do so in another native thread, and in a forked child.

The tests look at every public method and setter of what a network consists of, so that a new one is guarded, or stands
among those that are free, with the reason why.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import gevent
import pytest

from peernet import (
    Bans,
    DurableOutbox,
    DurableReceipt,
    Event,
    Identity,
    InboundConnectingPeersQueue,
    IncomingPeerConnectionAttempt,
    KnownPeers,
    NetworkRoutines,
    PacketHandleProtocol,
    PeerChannel,
    PeerNetwork,
    Receipt,
)
from peernet.errors import ConfigurationError, ForkedError, WrongThreadError
from peernet.runtime.routines import Routine
from peernet.runtime.services import Services
from peernet.v1.packet_pb2 import Packet, PureMessagePacket
from tests.integration.forking import in_child
from tests.integration.meetings import Networks, meet, text
from tests.support import AssemblyOf, Recorder, handle, scaled, wait_until

# Methods that begin and end with two underscores, and act.
ACTING = {"__enter__", "__setitem__", "__delitem__", "__ior__"}
# What may be called in any thread, because it only looks, or is made for that.
FREE: dict[type, set[str]] = {
    PeerNetwork: {"call_soon", "channel_to"},
    PeerChannel: set(),
    PacketHandleProtocol: {"belong_to", "copy", "fromkeys", "get", "items", "keys", "values"},
    Event: set(),
    DurableOutbox: set(),
    # settle: the outbox alone calls it, also while it stops in a forked child.
    DurableReceipt: {"settle"},
    Receipt: set(),
    Bans: set(),
    KnownPeers: {"get", "is_kept"},
    InboundConnectingPeersQueue: set(),
    IncomingPeerConnectionAttempt: set(),
    NetworkRoutines: set(),
    Routine: set(),
    # Those that only look and raise.
    Services: {"check_running", "check_stopped", "is_starting_in"},
}
# Of those, what the copy of a network refuses in a child process all the same.
REFUSED_IN_CHILDREN = frozenset({(PeerNetwork, "call_soon"), (PeerNetwork, "channel_to")})
# In a child nobody listens to what happens to the parent's network, and nobody who fires has to know that.
SILENT_IN_CHILDREN = frozenset({(Event, "fire")})

# What methods that look at their arguments first are called with.
VALUES: dict[str, list[Any]] = {
    "send": [PureMessagePacket()],
    "try_send": [PureMessagePacket()],
    "send_text": ["x"],
    "send_data": [b"x"],
    "reply": [Packet(), "x"],
    "call_soon": [print],
}

Names = frozenset[tuple[Any, str]]


class Act(NamedTuple):
    """Something that a program can do to a part of a network."""

    name: str
    do: Callable[[], object]


def acts_of(thing: object, kind: type, free: set[str]) -> Iterator[Act]:
    """Everything that can be done to a thing, but for what is free."""
    for name in dir(kind):
        found = inspect.getattr_static(kind, name)
        if (name.startswith("_") and name not in ACTING) or name in free:
            continue
        if isinstance(found, property):
            if found.fset is not None:
                yield Act(f"{kind.__name__}.{name} = ", partial(set_again, thing, name))
        elif callable(found):
            yield Act(f"{kind.__name__}.{name}()", partial(call, getattr(thing, name)))


def set_again(thing: object, name: str) -> None:
    """Give an attribute the value that it has."""
    setattr(thing, name, getattr(thing, name))


def call(method: Callable[..., Any]) -> object:
    """Call a method with one value or another; what guards it comes before anybody looks at them."""
    if method.__name__ in VALUES:
        values = ["x" * 52] if "to" in inspect.signature(method).parameters else []
        return method(*values, *VALUES[method.__name__])
    try:
        needed = [
            one
            for one in inspect.signature(method).parameters.values()
            if one.default is one.empty and one.kind is one.POSITIONAL_OR_KEYWORD
        ]
    except ValueError:  # of a dict
        needed = []
    return method(*["pure_message"] * len(needed))


class World(NamedTuple):
    """A network that runs, with one of each part that a program can meet."""

    network: PeerNetwork
    channel: PeerChannel
    parts: list[object]


@pytest.fixture
def world(networks: Networks, assembly_of: AssemblyOf, tmp_path: Path) -> World:
    meeting = meet(networks, alice={"durable_outbox": tmp_path / "outbox"})
    network, channel = meeting.alice, meeting.to_bob
    handle(meeting.bob)
    assert network.durable_outbox is not None
    control = SimpleNamespace(channel=channel)
    attempt = IncomingPeerConnectionAttempt(control, assembly_of(network).home)  # type: ignore[arg-type]
    receipt, durable = channel.send(text("x")), network.send(meeting.bob.identifier, text("y"), durable=True)
    assert receipt.wait(scaled(5))
    assert durable.wait(scaled(5))
    parts = [
        *(network, channel, network.handlers, channel.handlers, network.durable_outbox, receipt, durable),
        *(network.bans, network.bans.banned, network.known_peers, network.inbound_connecting_peers, attempt),
        *(network.routines, network.routines["liveness"], network.services),
        *(one for one in vars(network).values() if isinstance(one, Event)),
    ]
    return World(network, channel, parts)


def acts_in(world: World, also: Names = frozenset(), less: Names = frozenset()) -> list[Act]:
    """Everything that is refused in a thread; in a child ``also`` is refused, and ``less`` is not."""
    acts: list[Act] = []
    for part in world.parts:
        kind = type(part)
        free = {name for name in FREE[kind] if (kind, name) not in also} | {name for one, name in less if one is kind}
        acts += acts_of(part, kind, free)
    return acts


def what_is_not_refused(acts: list[Act], error: type[Exception]) -> list[str]:
    """Do it all. Returns what was done, or refused in another way."""
    wrong: list[str] = []
    for act in acts:
        try:
            act.do()
        except error:
            continue
        except BaseException as other:
            wrong.append(f"{act.name} raises {other!r}")
        else:
            wrong.append(f"{act.name} does it")
    return wrong


def in_thread(function: Callable[[], Any]) -> Any:
    """What a function returns in a native thread."""
    outcome: list[Any] = []
    thread = threading.Thread(target=lambda: outcome.append(function()))
    thread.start()
    wait_until(lambda: not thread.is_alive(), what="the thread")
    return outcome[0]


def test_the_parts_of_a_network_are_all_of_its_kinds(world: World) -> None:
    assert {type(part) for part in world.parts} == set(FREE)
    assert len(acts_in(world)) > 100
    assert [(kind, name) for kind, names in FREE.items() for name in names if not hasattr(kind, name)] == []


def test_nothing_acts_in_a_foreign_thread(world: World) -> None:
    acts = acts_in(world)
    assert in_thread(lambda: what_is_not_refused(acts, WrongThreadError)) == []
    assert world.channel.send(text("works")).wait(scaled(5))


def test_the_error_says_what_to_do(world: World) -> None:
    def say() -> list[str]:
        sentences = []
        network, channel = world.network, world.channel
        for act in (lambda: network.trust("x"), lambda: channel.send(text("x")), network.handlers.clear):
            with pytest.raises(WrongThreadError) as caught:
                act()
            sentences.append(str(caught.value))
        return sentences

    for sentence, who in zip(in_thread(say), ["this network", "<PeerChannel", "the handlers of this"], strict=True):
        assert sentence.startswith(who)
        assert "network.call_soon(function, *args), for example network.call_soon(channel.send, message)" in sentence


def test_looking_is_free(world: World) -> None:
    def look() -> list[object]:
        network, channel = world.network, world.channel
        for thing in (network, channel):
            for name in dir(type(thing)):
                if isinstance(inspect.getattr_static(type(thing), name), property):
                    getattr(thing, name)
        return [network.channel_to(channel.peer.identifier), network.running, "pure_message" in network.handlers]

    assert in_thread(look) == [world.channel, True, False]


def test_before_the_start_and_after_the_end_any_thread_may_configure() -> None:
    network = PeerNetwork(listen=["127.0.0.1:0"], network_name="test")

    def configure() -> str:
        network.handlers["pure_message"] = lambda channel, packet: None
        del network.handlers["pure_message"]
        network.trust("a" * 52)
        network.untrust("a" * 52)
        network.peer_added.remove(network.peer_added.add(print))
        network.bans.unban("192.0.2.1")
        network.set_identity(Identity.generate())
        network.stop()
        return "done" if network.wait() else ""

    assert in_thread(configure) == "done"
    with network:
        assert isinstance(in_thread(lambda: error_of(configure)), WrongThreadError)
    assert in_thread(configure) == "done"


def error_of(function: Callable[[], object]) -> BaseException | None:
    """What it raises."""
    try:
        function()
    except Exception as error:
        return error
    return None


def test_a_network_belongs_to_the_thread_that_starts_it() -> None:
    network = PeerNetwork(listen=["127.0.0.1:0"], network_name="test")
    started, over = threading.Event(), threading.Event()
    seen: list[object] = []

    def run() -> None:
        with network:
            seen.append(network.running)
            started.set()
            while not over.is_set():
                gevent.sleep(0.01)
        seen.append(network.running)
        gevent.get_hub().destroy(destroy_loop=True)

    thread = threading.Thread(target=run)
    thread.start()
    wait_until(started.is_set)
    for act in (network.start, network.stop, network.wait, lambda: network.trust("a" * 52)):
        assert isinstance(error_of(act), WrongThreadError)
    assert network.running
    over.set()
    wait_until(lambda: not thread.is_alive())
    assert seen == [True, False]
    with network:  # it belongs to nobody by then
        assert network.running


def test_a_network_works_in_one_thread_after_the_other(networks: Networks, tmp_path: Path) -> None:
    peer, heard = networks(), Recorder()
    peer.handlers["pure_message"] = heard
    network = PeerNetwork(listen=["127.0.0.1:0"], network_name="test", durable_outbox=tmp_path / "outbox")

    def work() -> list[bool]:
        with network:
            network.connect(peer.addresses[0]).send(text("hello")).wait(scaled(5))
            sent = network.send(peer.identifier, text("again"), durable=True)
            return [sent.wait(scaled(5)), network.channel_to(peer.identifier) is not None]

    def work_and_leave() -> list[bool]:
        try:
            return work()
        finally:
            gevent.get_hub().destroy(destroy_loop=True)

    for run in (lambda: in_thread(work_and_leave), work, lambda: in_thread(work_and_leave)):
        assert run() == [True, True]
    assert len(heard.wait_for(6)) == 6


def test_handlers_that_networks_share_belong_to_each_that_runs() -> None:
    shared: PacketHandleProtocol[PeerChannel] = PacketHandleProtocol()
    one = PeerNetwork(network_name="test", handlers=shared)
    other = PeerNetwork(network_name="test", handlers=shared)
    with one:
        assert isinstance(in_thread(lambda: error_of(shared.clear)), WrongThreadError)
    assert in_thread(lambda: error_of(shared.clear)) is None
    with other:
        assert isinstance(in_thread(lambda: error_of(shared.clear)), WrongThreadError)


def test_handlers_that_could_not_be_guarded_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="must be a PacketHandleProtocol"):
        PeerNetwork(network_name="test", handlers={"pure_message": print})  # type: ignore[arg-type]


def test_nothing_acts_in_a_forked_child(world: World) -> None:
    acts = acts_in(world, also=REFUSED_IN_CHILDREN, less=SILENT_IN_CHILDREN)
    assert in_child(lambda: what_is_not_refused(acts, ForkedError)) == []
    assert world.channel.send(text("works")).wait(scaled(5))


def test_nobody_hears_in_a_child_what_happens_to_the_network(world: World) -> None:
    heard: list[object] = []
    world.network.peer_added.add(heard.append)
    assert in_child(lambda: [world.network.peer_added.fire(world.channel), heard]) == [False, []]


def test_leaving_the_network_in_a_child_is_silent(networks: Networks) -> None:
    network = networks()

    def leave() -> list[object]:
        network.__exit__(None, None, None)
        return [network.running]

    assert in_child(leave) == [False]
    assert network.running
