"""A client written in JavaScript from the specification alone, against the real library."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import gevent
import gevent.subprocess
import pytest
from google.protobuf import json_format

from peernet import Identity, PeerNetwork, Reason
from peernet.errors import IdentityMismatchError, RefusedByPeerError
from peernet.v1.packet_pb2 import DataTransmissionPacket, Packet, PureMessagePacket
from tests.integration.meetings import wait_for_sign_of_life
from tests.support import Recorder, known, scaled, wait_until

PROGRAM = Path(__file__).parent / "node"
VECTORS = Path(__file__).parents[1] / "vectors"
OLDEST_NODE = 18
NPM_TIMEOUT = 120  # seconds, scaled
TEXTS = ["hello", "", "Grüße aus Köln", "こんにちは", "🦊 and\nnew lines \x00"]
MESSAGES = 500
BULK = bytes(range(256)) * 2800  # 700 KiB, that is many TLS records


class NodePeer:
    """A running ``main.js`` and the events that it has reported."""

    def __init__(self, *arguments: str) -> None:
        self.events: list[dict[str, Any]] = []
        self._process = gevent.subprocess.Popen(
            ["node", str(PROGRAM / "main.js"), *arguments],
            stdin=gevent.subprocess.PIPE,
            stdout=gevent.subprocess.PIPE,
        )
        self._stdin, self._stdout = known(self._process.stdin), known(self._process.stdout)
        self._reader = gevent.spawn(self._read)

    def tell(self, **command: Any) -> None:
        """Give it a command."""
        self._stdin.write(json.dumps(command).encode() + b"\n")
        self._stdin.flush()

    def all(self, event: str) -> list[dict[str, Any]]:
        """The events of this name, so far."""
        return [one for one in self.events if one["event"] == event]

    def wait_for(self, event: str, count: int = 1) -> dict[str, Any]:
        """The ``count``-th event of this name, as soon as it has come."""
        wait_until(lambda: len(self.all(event)) >= count, 10, f"{count} times {event!r}; it reported {self.events}")
        return self.all(event)[count - 1]

    def exit_code(self) -> int:
        """How it ended; waits for that."""
        self._process.wait(scaled(5))
        self._reader.join(scaled(5))
        return self._process.returncode

    def stop(self) -> None:
        """End it politely, or else by force."""
        self._stdin.close()
        try:
            self._process.wait(scaled(5))
        except gevent.subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()
        self._stdout.close()

    def _read(self) -> None:
        for line in self._stdout:
            self.events.append(json.loads(line))


Networks = Callable[..., PeerNetwork]
Nodes = Callable[..., NodePeer]
Pair = tuple[PeerNetwork, NodePeer]


@pytest.fixture(scope="session")
def installed() -> None:
    """Node with the packages that the client needs; where it cannot be had, nothing here is tested."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    version = _output("node", "--version")
    if int(version.removeprefix("v").partition(".")[0]) < OLDEST_NODE:
        pytest.skip(f"Node {OLDEST_NODE} or newer is needed, this is {version}")
    lock, installed = PROGRAM / "package-lock.json", PROGRAM / "node_modules" / ".package-lock.json"
    if installed.exists() and installed.stat().st_mtime > lock.stat().st_mtime:
        return
    try:
        _output("npm", "ci", "--no-audit", "--no-fund")
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        said = str(error.stderr).partition("\n")[0]
        pytest.skip(f"npm cannot install what the client needs; is there a network? {error} {said}")


@pytest.fixture
def node(installed: None) -> Iterator[Nodes]:
    """A factory of running Node peers in the network "test": ``node("dial", address)``."""
    started: list[NodePeer] = []

    def start(*arguments: str, network: str = "test") -> NodePeer:
        peer = NodePeer(*arguments, "--network", network)
        started.append(peer)
        return peer

    yield start
    for peer in started:
        peer.stop()


@pytest.fixture
def pair(networks: Networks, node: Nodes) -> Pair:
    """A network, and a Node peer that has dialled it."""
    network = networks()
    peer = node("dial", network.addresses[0])
    peer.wait_for("open")
    wait_until(lambda: channels(network), what="the channel to the Node peer")
    return network, peer


def channels(network: PeerNetwork) -> list[Any]:
    return list(network.active_peer_channels)


class TestNodeDials:
    def test_each_side_sees_the_identifier_that_the_other_has_proven(self, pair: Pair) -> None:
        network, peer = pair
        [channel] = channels(network)
        assert channel.peer.proven
        assert channel.peer.identifier == peer.wait_for("ready")["identifier"]
        assert peer.wait_for("open")["identifier"] == network.identifier

    def test_an_identity_that_is_kept_is_the_same_next_time(
        self, networks: Networks, node: Nodes, tmp_path: Path
    ) -> None:
        address = networks().addresses[0]
        first = node("dial", address, "--key", str(tmp_path / "key.pem"))
        first.wait_for("open")
        first.tell(close=True)
        assert first.exit_code() == 0
        second = node("dial", address, "--key", str(tmp_path / "key.pem"))
        assert second.wait_for("ready") == first.wait_for("ready")
        second.wait_for("open")

    def test_it_hangs_up_if_another_identity_answers(self, networks: Networks, node: Nodes) -> None:
        network = networks()
        peer = node("dial", address_of_another(network.addresses[0]))
        assert network.identifier in peer.wait_for("failed")["message"]
        assert peer.exit_code() == 1
        assert not peer.all("open")
        assert not channels(network)

    def test_it_is_told_that_the_network_is_another(self, networks: Networks, node: Nodes) -> None:
        peer = node("dial", networks().addresses[0], network="elsewhere")
        goodbye = peer.wait_for("disconnect")
        assert (goodbye["by"], goodbye["reason"]) == ("peer", "WRONG_NETWORK")
        assert peer.exit_code() == 0
        assert not peer.all("open")


class TestNodeListens:
    def test_it_is_dialled_by_its_pinned_address(self, networks: Networks, node: Nodes) -> None:
        peer = node("listen", "127.0.0.1:0")
        network = networks()
        channel = network.connect(peer.wait_for("ready")["address"], timeout=5)
        assert channel.peer.identifier == peer.wait_for("ready")["identifier"]
        assert peer.wait_for("open")["identifier"] == network.identifier

    def test_messages_travel_both_ways(self, networks: Networks, node: Nodes) -> None:
        received = Recorder()
        peer = node("listen", "127.0.0.1:0")
        network = networks()
        network.handlers["pure_message"] = received
        channel = network.connect(peer.wait_for("ready")["address"], timeout=5)
        channel.send(PureMessagePacket(message="to Node"))
        assert peer.wait_for("message")["text"] == "to Node"
        peer.tell(send="from Node")
        received.wait_for(1)
        assert texts(received) == ["from Node"]

    def test_it_is_refused_under_another_identifier(self, networks: Networks, node: Nodes) -> None:
        peer = node("listen", "127.0.0.1:0")
        with pytest.raises(IdentityMismatchError):
            networks().connect(address_of_another(peer.wait_for("ready")["address"]), timeout=5)
        assert peer.wait_for("disconnect")["by"] == "nobody"
        assert not peer.all("open")

    def test_it_refuses_another_network(self, networks: Networks, node: Nodes) -> None:
        peer = node("listen", "127.0.0.1:0", network="elsewhere")
        with pytest.raises(RefusedByPeerError) as refused:
            networks().connect(peer.wait_for("ready")["address"], timeout=5)
        assert refused.value.reason is Reason.WRONG_NETWORK
        assert peer.wait_for("disconnect")["reason"] == "WRONG_NETWORK"

    def test_a_kind_from_the_future_is_skipped(self, node: Nodes) -> None:
        listener = node("listen", "127.0.0.1:0")
        dialler = node("dial", listener.wait_for("ready")["address"])
        dialler.wait_for("open")
        dialler.tell(frame=framed("c201 05 68656c6c6f"))
        dialler.tell(send="after it")
        assert listener.wait_for("message")["text"] == "after it"
        assert len(listener.all("skipped")) == 1

    def test_a_frame_beyond_its_limit_is_refused_from_its_length(self, node: Nodes) -> None:
        listener = node("listen", "127.0.0.1:0")
        dialler = node("dial", listener.wait_for("ready")["address"])
        dialler.wait_for("open")
        dialler.tell(frame="818040")  # 1 MiB and one byte, of which nothing follows
        assert dialler.wait_for("disconnect")["reason"] == "FRAME_TOO_BIG"


class TestMessages:
    def test_any_text_arrives_unchanged_both_ways(self, pair: Pair) -> None:
        network, peer = pair
        received = Recorder()
        network.handlers["pure_message"] = received
        for text in TEXTS:
            channels(network)[0].send(PureMessagePacket(message=text))
            peer.tell(send=text)
        peer.wait_for("message", len(TEXTS))
        received.wait_for(len(TEXTS))
        assert [event["text"] for event in peer.all("message")] == TEXTS
        assert texts(received) == TEXTS

    def test_hundreds_arrive_in_order_both_ways_at_once(self, pair: Pair) -> None:
        network, peer = pair
        received = Recorder()
        network.handlers["pure_message"] = received
        expected = [f"number {number}" for number in range(MESSAGES)]
        for text in expected:
            peer.tell(send=text)
            channels(network)[0].send(PureMessagePacket(message=text))
        peer.wait_for("message", MESSAGES)
        received.wait_for(MESSAGES)
        assert [event["text"] for event in peer.all("message")] == expected
        assert texts(received) == expected

    def test_a_kind_from_the_future_is_counted_and_skipped(self, pair: Pair) -> None:
        network, peer = pair
        received = Recorder()
        network.handlers["pure_message"] = received
        peer.tell(frame=framed("c201 05 68656c6c6f"))
        peer.tell(send="after it")
        received.wait_for(1)
        assert channels(network)[0].counters["unknown_kind"] == 1

    def test_a_withdrawn_packet_is_nobodys_business(self, pair: Pair) -> None:
        network, peer = pair
        received = Recorder()
        network.handlers["pure_message"] = received
        peer.tell(frame=framed("da01 00"))
        peer.tell(send="after it")
        received.wait_for(1)
        assert received.packets[0].pure_message.message == "after it"
        assert not {"unknown_kind", "unhandled", "refused"} & set(channels(network)[0].counters)


class TestData:
    def test_node_sends_it_in_vain_until_it_is_trusted(self, pair: Pair) -> None:
        network, peer = pair
        [channel] = channels(network)
        received = Recorder()
        network.handlers["data_transmission"] = received
        content = base64.b64encode(BULK).decode()
        peer.tell(data=content, name="too early")
        wait_until(lambda: channel.counters["refused"] == 1, what="the refusal")
        channel.trust()
        peer.tell(data=content, name="in time")
        received.wait_for(1)
        [packet] = received.packets
        assert packet.data_transmission.name == "in time"
        assert packet.data_transmission.data == BULK

    def test_node_refuses_it_until_it_trusts(self, pair: Pair) -> None:
        network, peer = pair
        [channel] = channels(network)
        channel.send(DataTransmissionPacket(data=BULK, name="too early"))
        assert peer.wait_for("refused")["kind"] == "data_transmission"
        peer.tell(trust=True)
        peer.tell(ping=True)
        peer.wait_for("pong")  # so it has read both commands
        channel.send(DataTransmissionPacket(data=BULK, name="in time"))
        data = peer.wait_for("data")
        assert (data["name"], data["size"]) == ("in time", len(BULK))
        assert data["sha256"] == hashlib.sha256(BULK).hexdigest()
        assert len(peer.all("data")) == 1


class TestHeartbeats:
    def test_a_ping_is_answered_both_ways(self, pair: Pair) -> None:
        network, peer = pair
        assert channels(network)[0].ping(timeout=scaled(5)) > 0
        peer.tell(ping=True)
        assert peer.wait_for("pong")["milliseconds"] > 0

    def test_a_silent_node_peer_gives_signs_of_life(self, networks: Networks, node: Nodes) -> None:
        network = networks()
        node("dial", network.addresses[0], "--heartbeat", "50").wait_for("open")
        [channel] = wait_until(lambda: channels(network))
        for _ in range(3):
            wait_for_sign_of_life(channel)


class TestGoodbyes:
    def test_node_says_why_it_leaves(self, pair: Pair) -> None:
        network, peer = pair
        [channel] = channels(network)
        peer.tell(close=True)
        assert channel.wait_closed(scaled(5))
        assert channel.ended_by_peer
        assert channel.reason is Reason.CLOSED
        assert peer.exit_code() == 0

    def test_node_is_told_why_the_channel_is_closed(self, pair: Pair) -> None:
        network, peer = pair
        channels(network)[0].close(message="Auf Wiedersehen, Köln")
        goodbye = peer.wait_for("disconnect")
        assert (goodbye["by"], goodbye["reason"]) == ("peer", "CLOSED")
        assert goodbye["message"] == "Auf Wiedersehen, Köln"
        assert peer.exit_code() == 0

    def test_node_is_told_that_the_network_stops(self, pair: Pair) -> None:
        network, peer = pair
        network.stop(timeout=5)
        assert peer.wait_for("disconnect")["reason"] == "SHUTDOWN"


@pytest.mark.usefixtures("installed")
class TestVectors:
    def test_node_reads_every_packet_as_it_is_meant(self) -> None:
        vectors = json.loads((VECTORS / "packets.json").read_text())
        for vector, result in zip(vectors, decoded_by_node(vectors), strict=True):
            assert result.get("kind") == vector["kind"], vector["name"]
            assert as_packet(result["packet"]) == as_packet(vector["packet"]), vector["name"]

    def test_node_skips_and_refuses_what_must_be(self) -> None:
        vectors = json.loads((VECTORS / "refused.json").read_text())
        for vector, result in zip(vectors, decoded_by_node(vectors), strict=True):
            outcome = "skipped" if "skipped" in result else result.get("broken", "read").lower()
            assert outcome == vector["outcome"], vector["name"]


def texts(received: Recorder) -> list[str]:
    return [packet.pure_message.message for packet in received.packets]


def framed(packet: str) -> str:
    """A short packet in hexadecimal, with its length before it."""
    content = bytes.fromhex(packet)
    return (bytes([len(content)]) + content).hex()


def address_of_another(address: str) -> str:
    """The same host and port under an identifier that nobody there has."""
    return f"peer://{Identity.generate().identifier}@{address.rpartition('@')[2]}"


def as_packet(content: dict[str, Any]) -> Packet:
    return json_format.ParseDict(content, Packet())


def decoded_by_node(vectors: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    frames = "".join(vector["frame"] + "\n" for vector in vectors)
    return [json.loads(line) for line in _output("node", "main.js", "decode", stdin=frames).splitlines()]


def _output(*command: str, stdin: str = "") -> str:
    """What a command prints. Nothing in this process is waiting meanwhile, so it may block."""
    done = subprocess.run(
        command, cwd=PROGRAM, input=stdin, capture_output=True, text=True, check=True, timeout=scaled(NPM_TIMEOUT)
    )
    return done.stdout.strip()
