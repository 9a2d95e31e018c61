"""Starting a network: all or nothing, whatever comes between, and whoever stops it meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent.event import Event as Flag

from peernet import PeerAddress, PeerChannel, PeerNetwork, Reason
from peernet.channel.state import ChannelState
from peernet.durable.store import DurableStore
from peernet.errors import ConfigurationError, ConnectError, ListenError
from peernet.runtime.services import RunState
from peernet.transport.backend import TcpBackend
from peernet.transport.tcp import TcpTransport
from tests.integration.meetings import Networks, config, meet, text
from tests.support import PartsOf, make_network, record, scaled, wait_until


class SlowBackend(TcpBackend):
    """TCP on a machine where the second address to listen on is looked up for as long as a test likes."""

    def __init__(self) -> None:
        super().__init__()
        self.looked_up = Flag()
        self.dials: list[str] = []
        self.dialled = Flag()
        self._listened = 0

    def dial(self, address: PeerAddress) -> TcpTransport:
        self.dials.append(address.endpoint)
        self.dialled.set()
        return super().dial(address)

    def listen(self, address: PeerAddress, *args: Any) -> Any:
        self._listened += 1
        if self._listened % 2 == 0:
            self.looked_up.wait()
        return super().listen(address, *args)


@pytest.fixture
def nodes() -> Iterator[Callable[..., PeerNetwork]]:
    """A factory of networks that are not started."""
    made: list[PeerNetwork] = []

    def make(**options: Any) -> PeerNetwork:
        made.append(PeerNetwork(network_name="test", **({"config": config()} | options)))
        return made[-1]

    yield make
    for node in made:
        node.stop(2)


class SlowDisk:
    """A disk that hangs until it is told to go on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
        self.busy, self._go_on = threading.Event(), threading.Event()
        original = getattr(DurableStore, method)

        def wait(store: DurableStore, *args: Any) -> Any:
            self.busy.set()
            assert self._go_on.wait(30)
            return original(store, *args)

        monkeypatch.setattr(DurableStore, method, wait)

    def go_on(self) -> None:
        self._go_on.set()


TWO = ["127.0.0.1:0", "127.0.0.1:0"]


# All or nothing.


def test_a_start_that_a_timeout_ends_while_a_name_is_looked_up_leaves_nothing(
    nodes: Callable[..., PeerNetwork],
) -> None:
    backend = SlowBackend()
    node = nodes(listen=TWO, backend=backend)
    with pytest.raises(gevent.Timeout), gevent.Timeout(0.05):
        node.start()
    assert (node.running, node.addresses, node.wait(0)) == (False, [], True)
    with pytest.raises(ConfigurationError, match="not started"):
        node.connect("127.0.0.1:1")
    backend.looked_up.set()
    node.start()
    assert node.running
    assert len(node.addresses) == 2


def test_a_start_that_a_timeout_ends_while_the_outbox_opens_its_file_leaves_nothing(
    nodes: Callable[..., PeerNetwork], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = SlowDisk(monkeypatch, "__init__")
    node = nodes(listen=["127.0.0.1:0"], durable_outbox=tmp_path / "outbox.db")
    try:
        with pytest.raises(gevent.Timeout), gevent.Timeout(0.05):
            node.start()
        assert (node.running, node.addresses) == (False, [])
    finally:
        disk.go_on()
    node.start()  # waits until the file is closed again
    node.send("s" * 52, text("hello"), durable=True)


def test_peers_that_came_early_are_told_when_the_start_fails_after_all(
    nodes: Callable[..., PeerNetwork], networks: Networks
) -> None:
    """A network with two addresses is reached at the first one while it still looks for the second."""
    backend = SlowBackend()
    taken = PeerAddress.parse(networks().addresses[0])
    node = nodes(listen=["127.0.0.1:0", taken.endpoint], backend=backend)
    starting = gevent.spawn(_error_of_start, node)
    wait_until(lambda: node.addresses)
    early = networks().connect(node.addresses[0])
    backend.looked_up.set()
    assert isinstance(starting.get(timeout=scaled(5)), ListenError)
    assert early.wait_closed(scaled(5))
    assert early.reason is Reason.SHUTDOWN
    assert node.active_peer_channels == []


def test_peers_that_come_early_when_a_network_starts_again_are_let_in(
    nodes: Callable[..., PeerNetwork], networks: Networks
) -> None:
    backend = SlowBackend()
    backend.looked_up.set()
    node = nodes(listen=TWO, backend=backend)
    node.start()
    node.stop()
    backend.looked_up.clear()
    starting = gevent.spawn(node.start)
    wait_until(lambda: node.addresses)
    early = networks().connect(node.addresses[0])
    backend.looked_up.set()
    starting.get(timeout=scaled(5))
    assert early.ping(scaled(5)) > 0
    assert node.counters[Reason.SHUTDOWN] == 0


# A stop meanwhile.


def test_a_stop_while_a_start_opens_a_file_wins(
    nodes: Callable[..., PeerNetwork], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = SlowDisk(monkeypatch, "__init__")
    node = nodes(listen=["127.0.0.1:0"], durable_outbox=tmp_path / "outbox.db")
    starting = gevent.spawn(_error_of_start, node)
    wait_until(disk.busy.is_set)
    try:
        with gevent.Timeout(scaled(5)):
            node.stop(0.1)
        assert (node.running, node.addresses, node.wait(0)) == (False, [], True)
    finally:
        disk.go_on()
    error = starting.get(timeout=scaled(5))
    assert isinstance(error, ConfigurationError)
    assert "was stopped while it started" in str(error)
    gevent.sleep(0.05)
    assert (node.running, node.addresses) == (False, [])


def test_a_start_while_the_network_stops_waits_for_that_and_wins(networks: Networks) -> None:
    meeting = meet(networks)
    busy, go_on = Flag(), Flag()

    @meeting.bob.handlers.on("pure_message")
    def hold_up_the_end(channel: PeerChannel, packet: object) -> None:
        busy.set()
        go_on.wait()

    meeting.to_bob.send(text("wait"))
    assert busy.wait(5)
    stopping = gevent.spawn(meeting.bob.stop)
    wait_until(lambda: meeting.bob.services.state is RunState.STOPPING)
    starting = gevent.spawn(meeting.bob.start)
    gevent.sleep(0)
    assert not starting.ready()
    go_on.set()
    starting.get(timeout=scaled(5))
    stopping.get(timeout=scaled(5))
    assert meeting.bob.running
    assert meeting.bob.active_peer_channels == []
    assert meeting.alice.connect(meeting.bob.addresses[0]).ping() > 0


def test_an_identity_cannot_be_changed_while_the_network_starts(nodes: Callable[..., PeerNetwork]) -> None:
    backend = SlowBackend()
    node = nodes(listen=TWO, backend=backend)
    starting = gevent.spawn(node.start)
    wait_until(lambda: node.addresses)
    with pytest.raises(ConfigurationError, match="stop it first"):
        node.set_identity(node.identity)
    backend.looked_up.set()
    starting.get(timeout=scaled(5))


# The end keeps its promises.


def test_stop_does_not_wait_for_a_disk_that_hangs(
    nodes: Callable[..., PeerNetwork], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    node = nodes(durable_outbox=tmp_path / "outbox.db")
    node.start()
    disk = SlowDisk(monkeypatch, "add")
    sending = gevent.spawn(node.send, "s" * 52, text("hello"), durable=True)
    wait_until(disk.busy.is_set)
    try:
        with gevent.Timeout(scaled(5)):
            node.stop(0.1)
        assert (node.running, node.wait(0)) == (False, True)
        assert "DurableOutbox does not stop in time" in caplog.text
    finally:
        disk.go_on()
    receipt = sending.get(timeout=scaled(5))
    node.start()  # waits until the file is closed
    assert node.durable_outbox is not None
    assert node.durable_outbox.packets == 1
    assert receipt.stored


def test_a_channel_that_is_lost_while_the_network_stops_is_not_dialled_again(
    networks: Networks, parts_of: PartsOf
) -> None:
    """Lost at any moment of the end: whatever takes its time there is a routine that is slow to stop."""
    backend, going, go_on = SlowBackend(), Flag(), Flag()
    soon = config(redial_interval=0.01)
    meeting = meet(networks, alice={"backend": backend, "listen": [], "config": soon})

    def be_slow_to_stop() -> None:
        try:
            Flag().wait()
        finally:
            going.set()
            go_on.wait()

    meeting.alice.routines.add("slow", 0.001, be_slow_to_stop)
    gevent.sleep(0.02)
    reconnecting = record(meeting.alice.channel_reconnecting)
    stopping = gevent.spawn(meeting.alice.stop)
    assert going.wait(scaled(5))
    parts_of(meeting.to_bob).control.detach("cut")
    assert len(reconnecting) == 1
    backend.dialled.clear()
    assert not backend.dialled.wait(0.1)  # ten times as long as the longest pause before a redial
    assert len(backend.dials) == 1
    go_on.set()
    stopping.get(timeout=scaled(10))
    assert meeting.to_bob.state is ChannelState.CLOSED


# Parts that come from elsewhere.


class Discovery:
    """As much of another part as it takes: it wants to know where the network listens, and whom it is connected to."""

    def __init__(self, network: PeerNetwork) -> None:
        self._network = network
        self.fails = False
        self.story: list[object] = []

    def start(self) -> None:
        self.story.append(("start", len(self._network.addresses)))
        if self.fails:
            raise ConfigurationError("it cannot discover anything")

    def stop(self, timeout: float) -> None:
        self.story.append(("stop", len(self._network.active_peer_channels)))


def test_a_new_part_is_a_service_and_starts_and_stops_with_the_network(
    nodes: Callable[..., PeerNetwork], networks: Networks
) -> None:
    node = nodes(listen=TWO)
    discovery = Discovery(node)
    node.services.add(discovery)
    node.start()
    networks().connect(node.addresses[0])
    wait_until(lambda: node.active_peer_channels)
    node.stop()
    assert discovery.story == [("start", 2), ("stop", 1)]  # after the listeners, and before the goodbyes


def test_a_new_part_that_cannot_start_keeps_the_network_from_starting(nodes: Callable[..., PeerNetwork]) -> None:
    node = nodes(listen=TWO)
    discovery = Discovery(node)
    discovery.fails = True
    node.services.add(discovery)
    with pytest.raises(ConfigurationError, match="discover"):
        node.start()
    assert discovery.story == [("start", 2), ("stop", 0)]
    assert (node.running, node.addresses) == (False, [])


def test_a_part_cannot_come_when_the_network_runs() -> None:
    with make_network() as node, pytest.raises(ConfigurationError, match="stop it first"):
        node.services.add(Discovery(node))


def _error_of_start(node: PeerNetwork) -> BaseException | None:
    try:
        node.start()
    except (ConfigurationError, ConnectError, ListenError) as error:
        return error
    return None
