"""Stopping a network: from anywhere, as often as one likes, and nothing is left."""

from __future__ import annotations

import signal
import socket
import sys

import gevent
import gevent.subprocess
import pytest
from gevent.event import Event as Flag

from peernet import PeerAddress, PeerChannel, PeerNetwork, Reason
from peernet.errors import ChannelClosedError, ConnectError
from peernet.peers.address import endpoint
from peernet.transport.tcp import listen
from tests.integration import attackers
from tests.integration.meetings import Networks, config, meet, text
from tests.support import Recorder, known, record, scaled, wait_until

# A node of its own process that stops when it is told to by a signal. {patch} and
# {wait} are how it lives until then.
PROGRAM = """
{patch}
import signal
from peernet import PeerNetwork

network = PeerNetwork(listen=["127.0.0.1:0"], network_name="test")
network.handlers["pure_message"] = lambda channel, packet: channel.send(packet.pure_message)
signal.signal(signal.SIGTERM, lambda number, frame: network.stop(timeout=3))
network.start()
print(network.addresses[0], flush=True)
{wait}
assert network.wait(10)
assert not network.running and not network.active_peer_channels
print("stopped", flush=True)
"""
PATCH = "from gevent import monkey; monkey.patch_all()"
BUSY = "import time\nwhile network.running: time.sleep(0.01)"


def test_stop_says_goodbye_after_what_is_queued(networks: Networks) -> None:
    meeting = meet(networks)
    story: list[object] = []
    meeting.bob.handlers["pure_message"] = lambda channel, packet: story.append(packet.pure_message.message)
    meeting.bob.peer_removed.add(lambda channel, reason: story.append(reason))
    for number in range(500):
        meeting.to_bob.send(text(str(number)))
    meeting.alice.stop()
    wait_until(lambda: len(story) == 501)
    assert story == [*map(str, range(500)), Reason.SHUTDOWN]


def test_stop_is_idempotent_and_may_come_from_many_sides_at_once(networks: Networks) -> None:
    meeting = meet(networks)
    removed = record(meeting.alice.peer_removed)
    gevent.joinall([gevent.spawn(meeting.alice.stop) for _ in range(5)], raise_error=True)
    meeting.alice.stop()
    assert not meeting.alice.running
    assert meeting.alice.wait(0)
    assert removed.calls == [(meeting.to_bob, Reason.SHUTDOWN)]


def test_a_network_that_never_started_can_be_stopped() -> None:
    PeerNetwork().stop()


def test_after_stop_nobody_listens_any_more(networks: Networks) -> None:
    node, other = networks(), networks(config=config(connect_attempts=1))
    address = node.addresses[0]
    node.stop()
    assert node.addresses == []
    with pytest.raises(ConnectError, match="nobody listens there"):
        other.connect(address)


@pytest.mark.parametrize("event", ["peer_added", "packet_received", "peer_removed", "incoming_peer_connection_attempt"])
def test_stop_can_be_called_by_a_listener(networks: Networks, event: str) -> None:
    alice, bob = networks(), networks()
    getattr(bob, event).add(lambda *args: bob.stop())
    channel = alice.connect(bob.addresses[0])
    if event != "incoming_peer_connection_attempt":
        _send_if_open(channel)
    if event == "peer_removed":
        channel.close()
    assert bob.wait(5)
    assert channel.wait_closed(5)
    assert bob.active_peer_channels == []


@pytest.mark.parametrize("side", ["alice", "bob"])
def test_stop_can_be_called_by_a_callback(networks: Networks, side: str) -> None:
    meeting = meet(networks)
    network = meeting.alice if side == "alice" else meeting.bob
    channels = [meeting.to_bob, meeting.to_alice]
    after = []

    @network.handlers.on("pure_message")
    def stop(channel: PeerChannel, packet: object) -> None:
        network.stop()
        after.append(network.running)

    (meeting.to_alice if side == "alice" else meeting.to_bob).send(text("stop"))
    assert network.wait(5)
    assert after == [True]  # it went on in the background
    assert all(channel.wait_closed(5) for channel in channels)
    assert {channel.reason for channel in channels} == {Reason.SHUTDOWN}


def test_stop_can_be_called_by_a_greenlet_that_a_channel_has_spawned(networks: Networks) -> None:
    meeting = meet(networks)
    after = []

    def stop() -> None:
        meeting.bob.stop()
        after.append(meeting.bob.running)

    meeting.to_alice.spawn(stop)
    assert meeting.bob.wait(5)
    assert meeting.to_bob.wait_closed(5)
    assert meeting.to_bob.reason is Reason.SHUTDOWN
    assert after == [True]  # it went on in the background


def test_stop_can_be_called_by_the_trust_protocol(networks: Networks) -> None:
    alice, bob = networks(), networks()
    bob.default_trust_protocol = lambda channel: bob.stop()
    channel = alice.connect(bob.addresses[0])
    assert bob.wait(5)
    assert channel.wait_closed(5)
    assert channel.reason is Reason.SHUTDOWN


def test_stop_can_be_called_in_the_hub(networks: Networks) -> None:
    meeting = meet(networks)
    gevent.get_hub().loop.run_callback(meeting.bob.stop)
    assert meeting.bob.wait(5)
    assert meeting.to_bob.wait_closed(5)


def test_stop_does_not_wait_longer_than_it_may_for_a_callback(networks: Networks) -> None:
    meeting = meet(networks)
    busy, never, ended = Flag(), Flag(), []

    @meeting.bob.handlers.on("pure_message")
    def wait_for_ever(channel: PeerChannel, packet: object) -> None:
        busy.set()
        try:
            never.wait()
        finally:
            ended.append(True)

    meeting.to_bob.send(text("wait"))
    assert busy.wait(5)
    with gevent.Timeout(scaled(5)):
        meeting.bob.stop(timeout=0.2)
    assert ended == [True]  # it was killed
    assert meeting.to_alice.reason is Reason.SHUTDOWN


def test_stop_ends_with_a_peer_that_does_not_read_and_one_that_does_not_hang_up(networks: Networks) -> None:
    node = networks(config=config(close_timeout=5))
    deaf, stubborn = (attackers.dial(node.addresses[0]) for _ in range(2))
    for attacker in (deaf, stubborn):
        attacker.greet()
    channel = known(node.channel_to(deaf.credentials.identifier))
    for _ in range(200):
        node.broadcast(text("x" * 60_000), [channel])
    assert channel.queued_bytes
    with gevent.Timeout(scaled(5)):
        node.stop(timeout=0.3)
    assert stubborn.farewell() == "shutdown"
    for attacker in (deaf, stubborn):
        attacker.leave()


@pytest.mark.parametrize("plain", [True, False], ids=["in TLS", "in the hello"])
def test_stop_ends_handshakes_that_are_under_way(networks: Networks, plain: bool) -> None:
    node = networks()
    strangers = [attackers.dial(node.addresses[0], plain=plain) for _ in range(3)]
    gevent.sleep(0)
    with gevent.Timeout(scaled(5)):
        node.stop()
    for stranger in strangers:
        assert stranger.is_hung_up_on()
        stranger.leave()
    assert node.counters["handshake_timeout"] == 0


@pytest.mark.parametrize("insecure", [False, True], ids=["in TLS", "in the hello"])
def test_stop_ends_dials_that_are_under_way(networks: Networks, insecure: bool) -> None:
    node = networks(insecure=insecure)
    with listen(PeerAddress("127.0.0.1", 0)) as mute:
        dialling = gevent.spawn(_try_to_connect, node, endpoint(*mute.getsockname()))
        accepted, _ = mute.accept()
        node.stop()
        assert "stopping" in dialling.get(timeout=scaled(5))
        accepted.close()


def test_stop_ends_the_pause_between_two_dials(networks: Networks) -> None:
    node = networks(config=config(backoff_base=50, backoff_cap=60))
    with listen(PeerAddress("127.0.0.1", 0)) as hasty:
        dialling = gevent.spawn(_try_to_connect, node, endpoint(*hasty.getsockname()), timeout=600)
        accepted, _ = hasty.accept()
        accepted.shutdown(socket.SHUT_WR)
        while accepted.recv(65536):
            continue  # until the node gives this dial up
        node.stop()
        assert "stopping" in dialling.get(timeout=scaled(5))
        accepted.close()


def _try_to_connect(node: PeerNetwork, address: str, timeout: float | None = None) -> str:
    with pytest.raises(ConnectError) as caught:
        node.connect(address, timeout=timeout)
    return str(caught.value)


def test_nobody_is_let_in_while_the_network_stops(networks: Networks) -> None:
    meeting = meet(networks)
    busy, go_on = Flag(), Flag()

    @meeting.bob.handlers.on("pure_message")
    def hold_up_the_end(channel: PeerChannel, packet: object) -> None:
        busy.set()
        go_on.wait()

    meeting.to_bob.send(text("wait"))
    assert busy.wait(5)
    late = attackers.dial(meeting.bob.addresses[0])
    stopping = gevent.spawn(meeting.bob.stop)
    wait_until(lambda: not meeting.bob.addresses)
    late.send_hello()
    assert late.farewell() in ("shutdown", None)
    go_on.set()
    stopping.get(timeout=5)
    late.leave()


def test_a_sender_that_waits_learns_that_the_network_stops(networks: Networks) -> None:
    node = networks(config=config())
    attacker = attackers.dial(node.addresses[0])
    attacker.greet()
    channel = known(node.channel_to(attacker.credentials.identifier))
    outcome = []

    def send_for_ever() -> None:
        try:
            while True:
                channel.send(text("x" * 60_000))
        except ChannelClosedError as error:
            outcome.append(error.reason)

    sender = gevent.spawn(send_for_ever)
    wait_until(lambda: channel.queued_packets > 10)
    node.stop(timeout=0.2)
    sender.join(scaled(5))
    assert outcome == [Reason.SHUTDOWN]
    attacker.vanish()


def test_two_networks_that_stop_at_the_same_time_stop_both(networks: Networks) -> None:
    meeting = meet(networks)
    with gevent.Timeout(scaled(5)):
        gevent.joinall([gevent.spawn(meeting.alice.stop), gevent.spawn(meeting.bob.stop)], raise_error=True)
    assert meeting.to_bob.reason is Reason.SHUTDOWN
    assert meeting.to_alice.reason is Reason.SHUTDOWN


def test_a_network_comes_back_at_the_same_port(networks: Networks) -> None:
    first = networks()
    port = PeerAddress.parse(first.addresses[0]).port
    other = networks(config=config())
    other.connect(first.addresses[0])
    first.stop()
    second = networks(identity=first.identity, listen=[f"127.0.0.1:{port}"])
    assert other.connect(second.addresses[0]).ping() > 0


@pytest.mark.parametrize(
    ("patch", "wait"), [("", ""), (PATCH, ""), (PATCH, BUSY)], ids=["unpatched", "patched", "patched and busy"]
)
def test_stop_can_be_called_by_a_signal_handler(networks: Networks, patch: str, wait: str) -> None:
    program = PROGRAM.format(patch=patch, wait=wait)
    process = gevent.subprocess.Popen(
        [sys.executable, "-c", program], stdout=gevent.subprocess.PIPE, stderr=gevent.subprocess.STDOUT
    )
    try:
        stdout = known(process.stdout)
        address = stdout.readline().decode().strip()
        node = networks()
        heard = node.handlers["pure_message"] = Recorder()
        channel = node.connect(address)
        channel.send(text("hello"))
        heard.wait_for(1)
        process.send_signal(signal.SIGTERM)
        assert channel.wait_closed(scaled(5))
        assert channel.reason is Reason.SHUTDOWN
        assert stdout.read().decode() == "stopped\n"
        assert process.wait(scaled(5)) == 0
    finally:
        process.kill()
        process.wait()
        known(process.stdout).close()


def _send_if_open(channel: PeerChannel) -> None:
    try:
        channel.send(text("hello"))
    except ChannelClosedError:
        return
