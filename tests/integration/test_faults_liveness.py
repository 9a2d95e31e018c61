"""Peers that die, fall silent, do not read, or never stop talking."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import gevent
import gevent.subprocess
import pytest
from gevent.event import Event as Flag

from peernet import IncomingPeerTrustPolicy, PeerChannel, PeerNetwork, Reason
from peernet.channel.control import ChannelControl
from peernet.errors import ChannelClosedError
from peernet.runtime import clock
from peernet.v1 import packet_pb2 as pb
from peernet.v1.packet_pb2 import DataTransmissionPacket
from tests.integration.attackers import Attacker, beginning, dial, varint
from tests.integration.meetings import Networks, config, fill, meet, node_in_use, text, undisturbed
from tests.support import AssemblyOf, known, record, wait_until

tls_and_plain = pytest.mark.parametrize("insecure", [False, True], ids=["tls", "plain"])
# Death comes soon in these tests, and heartbeats often enough.
MORTAL = {"heartbeat_interval": 0.05, "dead_after": 0.4}
CHUNK = DataTransmissionPacket(data=bytes(100_000))

# A peer of its own process, which can be stopped as a whole.
PROGRAM = """
import sys
from peernet import NetworkConfig, PeerNetwork

network = PeerNetwork(network_name="test", config=NetworkConfig(heartbeat_interval=0.05, dead_after=60))
network.start()
network.connect(sys.argv[1])
print("connected", flush=True)
network.wait()
"""


@pytest.fixture(params=[False, True], ids=["tls", "plain"])
def node(networks: Networks, request: pytest.FixtureRequest) -> Iterator[PeerNetwork]:
    """A node that soon takes a silent peer for dead, and serves an honest peer all the time."""
    with node_in_use(networks, options={"insecure": request.param}, **MORTAL) as node:
        yield node


def _guest(node: PeerNetwork, **hello: object) -> tuple[Attacker, PeerChannel]:
    attacker = dial(node.addresses[0], plain=node.insecure)
    attacker.greet(**hello)
    return attacker, wait_until(lambda: node.channel_to(attacker.credentials.identifier))


# The silent.


def test_a_peer_that_falls_silent_is_dead(node: PeerNetwork) -> None:
    removed = record(node.peer_removed)
    attacker, channel = _guest(node)
    assert removed.wait_for(1) == [(channel, Reason.TIMEOUT)]
    assert attacker.farewell() == "timeout"
    assert node.counters["timeout"] == 1
    attacker.leave()


def test_a_peer_that_sends_anything_at_all_is_alive(node: PeerNetwork) -> None:
    """One byte of a frame that never ends will do."""
    attacker, channel = _guest(node)
    attacker.send_bytes(beginning(1_000_000))
    for _ in range(20):
        attacker.send_bytes(b"x")
        gevent.sleep(MORTAL["dead_after"] / 10)
    assert channel.reason is None
    attacker.leave()


def test_a_peer_that_has_promised_rare_heartbeats_gets_more_patience(node: PeerNetwork) -> None:
    attacker, channel = _guest(node, heartbeat_interval_ms=1_500)
    boaster, boasting = _guest(node, heartbeat_interval_ms=2**32 - 1)
    assert channel.patience == 3.0
    assert boasting.patience == 2 * 10 * MORTAL["dead_after"]
    silent, _ = _guest(node)
    wait_until(lambda: node.counters["timeout"] == 1)
    assert channel.reason is boasting.reason is None
    for one in (attacker, boaster, silent):
        one.leave()


def test_a_peer_whose_process_is_stopped_is_dead(networks: Networks) -> None:
    node = networks(config=config(**MORTAL, session_ttl=0))
    removed = record(node.peer_removed)
    with undisturbed(networks, node) as neighbour:
        process = gevent.subprocess.Popen(
            [sys.executable, "-c", PROGRAM, node.addresses[0]], stdout=gevent.subprocess.PIPE
        )
        try:
            assert known(process.stdout).readline() == b"connected\n"
            channel = node.active_peer_channels[-1]
            heard = channel.last_received
            wait_until(lambda: channel.last_received > heard + 0.5, what="half a second of heartbeats")
            process.send_signal(signal.SIGSTOP)
            assert removed.wait_for(1) == [(channel, Reason.TIMEOUT)]
            neighbour.is_served()
        finally:
            process.kill()
            process.wait()
            known(process.stdout).close()


@tls_and_plain
def test_heartbeats_keep_an_idle_channel_alive(networks: Networks, insecure: bool) -> None:
    meeting = meet(networks, config=config(**MORTAL), insecure=insecure)
    began = time.monotonic()
    channels = (meeting.to_bob, meeting.to_alice)
    wait_until(lambda: all(channel.last_received > began + 2 * MORTAL["dead_after"] for channel in channels))
    assert [channel.received for channel in channels] == [0, 0]  # nobody is bothered with them


def test_no_heartbeats_are_sent_while_there_is_something_to_say(networks: Networks) -> None:
    node = networks(config=config(heartbeat_interval=0.2, dead_after=5))
    attacker, channel = _guest(node)
    began = time.monotonic()
    while time.monotonic() < began + 0.6:
        channel.send(text("news"))
        gevent.sleep(0.01)
    channel.close(timeout=0)
    packets = attacker.receive_all()
    kinds = [packet.WhichOneof("body") for packet in packets]
    assert kinds.count("pure_message") > 10
    assert kinds.count("heartbeat") <= 1  # on a machine that stood still for a while
    attacker.leave()


@tls_and_plain
def test_a_peer_that_is_busy_in_a_callback_stays_alive_and_its_partner_too(networks: Networks, insecure: bool) -> None:
    meeting = meet(networks, config=config(**MORTAL), insecure=insecure)
    busy, done = Flag(), Flag()

    @meeting.bob.handlers.on("pure_message")
    def take_long(channel: PeerChannel, packet: object) -> None:
        busy.set()
        done.wait()

    meeting.to_bob.send(text("take your time"))
    assert busy.wait(5)
    began = time.monotonic()
    channels = (meeting.to_bob, meeting.to_alice)
    wait_until(lambda: all(channel.last_received > began + 2 * MORTAL["dead_after"] for channel in channels))
    assert meeting.to_bob.reason is meeting.to_alice.reason is None
    done.set()
    assert meeting.to_bob.ping() > 0


def test_a_peer_that_dies_while_a_callback_runs_is_removed_before_it_returns(node: PeerNetwork) -> None:
    removed = record(node.peer_removed)
    attacker, channel = _guest(node)
    busy, done = Flag(), Flag()

    @channel.handlers.on("pure_message")
    def take_long(channel: PeerChannel, packet: object) -> None:
        busy.set()
        done.wait()

    attacker.say("take your time")
    assert busy.wait(5)
    assert removed.wait_for(1) == [(channel, Reason.TIMEOUT)]
    done.set()
    attacker.leave()


def test_a_peer_that_falls_silent_while_a_callback_leaves_its_bytes_unread_is_dead(node: PeerNetwork) -> None:
    removed = record(node.peer_removed)
    attacker, channel = _guest(node)
    busy, done = Flag(), Flag()

    @channel.handlers.on("pure_message")
    def take_long(channel: PeerChannel, packet: object) -> None:
        busy.set()
        done.wait()

    attacker.say("take your time")
    assert busy.wait(5)
    attacker.say("these are my last words")
    assert removed.wait_for(1, 10) == [(channel, Reason.TIMEOUT)]
    done.set()
    attacker.leave()


def test_a_peer_that_cannot_send_because_a_callback_leaves_its_bytes_unread_is_alive(networks: Networks) -> None:
    meeting = meet(networks, config=config(**MORTAL, write_timeout=20))
    busy, done = Flag(), Flag()

    @meeting.bob.handlers.on("pure_message")
    def take_long(channel: PeerChannel, packet: object) -> None:
        busy.set()
        done.wait()

    meeting.to_bob.send(text("take your time"))
    assert busy.wait(5)
    fill(meeting.to_bob, text("x" * 60_000))
    silent_since = meeting.to_alice.last_received
    wait_until(lambda: clock.monotonic() - silent_since > 2 * MORTAL["dead_after"], what="a long silence")
    assert meeting.bob.counters["reconnecting"] == meeting.alice.counters["reconnecting"] == 0
    done.set()


def test_a_callback_that_blocks_the_whole_process_kills_no_peer(networks: Networks) -> None:
    meeting = meet(networks, config=config(**MORTAL))

    @meeting.bob.handlers.on("pure_message")
    def hog(channel: PeerChannel, packet: object) -> None:
        end = time.monotonic() + 2 * MORTAL["dead_after"]
        while time.monotonic() < end:
            pass

    meeting.to_bob.send(text("compute"))
    wait_until(lambda: meeting.to_alice.received)
    assert meeting.to_bob.ping() > 0
    assert meeting.to_bob.reason is meeting.to_alice.reason is None


# The deaf.


@tls_and_plain
def test_a_peer_that_does_not_read_is_cut_off_when_nothing_moves(networks: Networks, insecure: bool) -> None:
    with node_in_use(networks, options={"insecure": insecure}, write_timeout=0.3) as node:
        removed = record(node.peer_removed)
        attacker, channel = _guest(node)
        sender = gevent.spawn(_send_until_closed, channel)
        assert removed.wait_for(1) == [(channel, Reason.TIMEOUT)]
        assert sender.get(timeout=5) is Reason.TIMEOUT
        assert node.counters["timeout"] == 1
        attacker.leave()


def test_a_peer_that_reads_slowly_is_not_cut_off(networks: Networks) -> None:
    policy = IncomingPeerTrustPolicy(allow_enhanced_packet_exchange=True)
    meeting = meet(networks, config=config(write_timeout=0.4), policy=policy)
    meeting.bob.handlers["data_transmission"] = lambda channel, packet: gevent.sleep(0.02)
    for _ in range(45):
        meeting.to_bob.send(CHUNK)
    wait_until(lambda: meeting.to_alice.received == 45, 10)
    assert meeting.to_bob.reason is None


def test_a_peer_that_sends_but_never_reads_the_answers_costs_no_more_than_its_outbox(networks: Networks) -> None:
    with node_in_use(networks, write_timeout=0.5) as node:
        removed = record(node.peer_removed)
        attacker, channel = _guest(node)
        largest = 0
        content = pb.Packet(pure_message=text("x" * 9_000)).SerializeToString()
        frame = varint(len(content)) + content

        def flood() -> None:
            while True:
                attacker.send_bytes(frame * 10)

        flooding = gevent.spawn(_ignoring_errors, flood)

        def is_cut() -> bool:
            nonlocal largest
            largest = max(largest, channel.queued_bytes)
            return bool(removed)

        wait_until(is_cut, 10)
        assert removed.calls == [(channel, Reason.TIMEOUT)]
        assert largest <= 4 * 1024 * 1024
        flooding.kill()
        attacker.leave()


# The noisy.


@contextmanager
def _flood(node: PeerNetwork, frame: bytes) -> Iterator[PeerChannel]:
    attacker, channel = _guest(node)
    channel.handlers["pure_message"] = lambda channel, packet: None
    stream = frame * (256 * 1024 // len(frame))

    def pour() -> None:
        while True:
            attacker.send_bytes(stream)

    pouring = gevent.spawn(_ignoring_errors, pour)
    yield channel
    pouring.kill()
    attacker.leave()


TINY_FRAMES = {
    "empty messages": b"\x03\xa2\x01\x00",
    "heartbeats": b"\x03\x8a\x01\x00",
    "heartbeats that ask": b"\x05\x18\x01\x8a\x01\x00",
    "data that is refused": b"\x03\xba\x01\x00",
    "unknown kinds": b"\x03\xc2\x01\x00",
}


@pytest.mark.parametrize("frame", TINY_FRAMES.values(), ids=TINY_FRAMES.keys())
def test_a_flood_of_tiny_frames_stops_nobody_else(networks: Networks, frame: bytes) -> None:
    _flood_stops_nobody_else(networks, frame, insecure=False)


def test_a_flood_without_tls_stops_nobody_else(networks: Networks) -> None:
    _flood_stops_nobody_else(networks, TINY_FRAMES["empty messages"], insecure=True)


def _flood_stops_nobody_else(networks: Networks, frame: bytes, *, insecure: bool) -> None:
    node = networks(insecure=insecure, config=config(**MORTAL, untrusted_frame_rate=0))
    with undisturbed(networks, node) as neighbour, _flood(node, frame) as channel:
        heard = channel.last_received
        neighbour.is_served(10)
        wait_until(lambda: channel.last_received > heard)
        neighbour.is_served(10)
        assert channel.reason in (None, Reason.SLOW_PEER, Reason.TIMEOUT)


def test_three_floods_at_once_stop_nobody_else(networks: Networks) -> None:
    node = networks(config=config(untrusted_frame_rate=0))
    frame = b"\x03\xa2\x01\x00"
    with (
        undisturbed(networks, node) as neighbour,
        _flood(node, frame) as one,
        _flood(node, frame) as two,
        _flood(node, frame) as three,
    ):
        neighbour.is_served(10)
        wait_until(lambda: min(channel.received for channel in (one, two, three)) > 1_000, 10)
        neighbour.is_served(10)


def test_strangers_who_come_and_go_stop_nobody_else(networks: Networks) -> None:
    with node_in_use(networks) as node:
        for number in range(60):
            attacker = dial(node.addresses[0])
            if number % 3:
                attacker.greet()
            if number % 2:
                attacker.vanish()
            else:
                attacker.leave()
        wait_until(lambda: len(node.active_peer_channels) == 1, what="only the honest peer")


def _send_until_closed(channel: PeerChannel) -> Reason:
    try:
        while True:
            channel.send(text("x" * 60_000))
    except ChannelClosedError as error:
        return error.reason


def _ignoring_errors(function: Callable[[], object]) -> None:
    try:
        function()
    except OSError:
        return  # cut off, as the test expects


def test_looking_after_many_channels_lets_others_run(
    networks: Networks, assembly_of: AssemblyOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = networks(config=config(seconds_per_turn=0.001))
    guests = [dial(node.addresses[0]) for _ in range(3)]
    for guest in guests:
        guest.greet()
    wait_until(lambda: len(node.active_peer_channels) == 3)
    node.routines["liveness"].stop()
    seen: list[str] = []

    def take_long(control: ChannelControl, now: float, lag: float) -> None:
        seen.append("channel")
        time.sleep(0.002)

    monkeypatch.setattr(ChannelControl, "tick", take_long)
    gevent.spawn(seen.append, "others")
    assembly_of(node).ticker.tick()
    assert seen == ["channel", "others", "channel", "channel"]
    for guest in guests:
        guest.leave()
