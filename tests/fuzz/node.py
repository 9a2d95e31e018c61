"""A real node, and a peer who says anything: no error escapes, nothing is left, and an honest peer is served.

The connections are in memory and insecure, so that a thousand conversations take seconds.

Input: a byte of choices, then connections of frames, with ``CUT`` between them.
"""

from __future__ import annotations

import logging
import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import gevent

from peernet import network
from peernet.assembly import Assembly
from peernet.channel.channel import PeerChannel
from peernet.channel.receipts import Receipt
from peernet.channel.state import ChannelState
from peernet.config import NetworkConfig
from peernet.errors import PeerNetError, TransportError
from peernet.network import PeerNetwork
from peernet.peers.identity import Identity
from peernet.reasons import Reason
from peernet.runtime import rng
from peernet.runtime.greenlets import let_others_run
from peernet.transport.memory import MemoryTransport, memory_pair
from peernet.v1 import packet_pb2 as pb
from peernet.wire.framing import FrameDecoder
from tests.fuzz.backend import MemoryBackend
from tests.fuzz.conversations import NETWORK_NAME, OWN_SESSION, PEER, hello, text
from tests.fuzz.feeding import CUTS, cut
from tests.fuzz.mutation import CUT

HONEST_PEER = "c" * 52
HONEST_ADDRESS, LOCAL_ADDRESS, STRANGE_ADDRESS = "192.0.2.1", "127.0.0.1", "203.0.113.7"
PATIENCE = 10.0  # seconds, for what takes milliseconds
# As many local callers as an input can hold get a place, and one strange address gets its share.
CONFIG = NetworkConfig(
    acknowledge_after=0.001,
    duplicate_patience=0.05,
    close_timeout=0.2,
    frames_per_turn=3,
    connect_timeout=0.1,
    allow_loopback_burst=True,
    max_handshakes=1000,
    early_drop_from=1000,
    max_handshakes_per_address=3,
    accept_burst=6,
    untrusted_frame_rate=20_000,
    untrusted_frame_burst=50,
)
IDENTITY = Identity.generate()


class Watch(logging.Handler):
    """Notices what a node must not do, whatever its peers say."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.errors: list[str] = []
        self.greenlets: weakref.WeakSet[Any] = weakref.WeakSet()

    def emit(self, record: logging.LogRecord) -> None:
        self.errors.append(self.format(record))

    def check(self) -> None:
        """Fail if anything was logged as an error, or a greenlet lives."""
        assert not self.errors, self.errors[0]
        until(lambda: all(one.dead for one in self.greenlets), "the end of all greenlets")


@contextmanager
def watching() -> Iterator[Watch]:
    watch, logger, hub = Watch(), logging.getLogger("peernet"), gevent.get_hub()
    logger.addHandler(watch)
    gevent.Greenlet.add_spawn_callback(watch.greenlets.add)
    caught = patch.object(hub, "handle_error", lambda context, *error: watch.errors.append(repr(error)))
    try:
        with caught, patch.object(rng, "randbits", lambda bits: OWN_SESSION):
            yield watch
    finally:
        gevent.Greenlet.remove_spawn_callback(watch.greenlets.add)
        logger.removeHandler(watch)


def fuzz(data: bytes) -> None:
    if not data:
        return
    choice, connections = data[0], data[1:].split(CUT)
    with watching() as watch:
        node = Node(closes=bool(choice & 0x20), talks=bool(choice & 0x80))
        address = STRANGE_ADDRESS if choice & 0x10 else LOCAL_ADDRESS
        proven = PEER if choice & 15 >= len(CUTS) else None
        try:
            for connection in connections:
                caller = node.accept(address, proven)
                caller.say(cut(connection, choice & 15))
                if not choice & 0x40:
                    caller.leave()
            node.serves_an_honest_peer()
        finally:
            node.end()
        watch.check()
    node.check()


class Node:
    """A network that hears peers in memory.

    Args:
        closes: whether its callback ends the channel.
        talks: whether it says something to whoever comes.
    """

    def __init__(self, *, closes: bool, talks: bool) -> None:
        self.backend = MemoryBackend()
        with patch.object(network, "Assembly", self.assemble):
            self.network = PeerNetwork(
                IDENTITY, ["127.0.0.1:1"], network_name=NETWORK_NAME, config=CONFIG, insecure=True, backend=self.backend
            )
        self.callers: list[Caller] = []
        self.addresses: set[str] = set()  # where they came from
        self.receipts: list[Receipt] = []
        self.events: Counter[Any] = Counter()
        self.closes, self.talks = closes, talks
        self.network.handlers["pure_message"] = self.answer
        self.network.peer_added.add(self.added)
        self.network.peer_removed.add(self.removed)
        self.network.start()

    def assemble(self, *args: Any, **options: Any) -> Assembly:
        self.parts = Assembly(*args, **options)
        return self.parts

    def accept(self, address: str, proven: str | None = None) -> Caller:
        """A new inbound connection, of somebody who has proven that identifier or none; it may be refused."""
        theirs, ours = memory_pair(dialler=proven)
        self.addresses.add(address)
        self.backend.call(ours, (address, 4000 + len(self.callers)))
        caller = Caller(theirs, ours)
        self.callers.append(caller)
        return caller

    def answer(self, channel: PeerChannel, packet: pb.Packet) -> None:
        self.send(channel, packet.pure_message)
        if self.closes and channel.peer.identifier != HONEST_PEER:
            channel.close(timeout=0)

    def added(self, channel: PeerChannel) -> None:
        self.events["added", channel] += 1
        if self.talks:
            for number in range(3):
                self.send(channel, pb.PureMessagePacket(message=str(number)))

    def removed(self, channel: PeerChannel, reason: Reason) -> None:
        self.events["removed", channel] += 1
        assert isinstance(reason, Reason)

    def send(self, channel: PeerChannel, body: Any) -> None:
        try:
            self.receipts.append(channel.try_send(body))
        except PeerNetError:
            self.events["not sent"] += 1  # the channel is over, the peer takes no such frame, or there is no room

    def serves_an_honest_peer(self) -> None:
        caller = self.accept(HONEST_ADDRESS)
        caller.say([hello(identifier=HONEST_PEER), text("are you there?")])
        until(lambda: any(packet.HasField("pure_message") for packet in caller.heard()), "the honest peer's answer")
        caller.leave()

    def end(self) -> None:
        for caller in self.callers:
            caller.leave()
        self.network.stop(PATIENCE)

    def check(self) -> None:
        """What must be true when all is over."""
        assert not self.network.active_peer_channels
        assert all(receipt.done for receipt in self.receipts)
        assert not self.network.counters[Reason.INTERNAL_ERROR]
        for event, channel in [key for key in self.events if key != "not sent"]:
            assert self.events["added", channel] == self.events["removed", channel] == 1, event
            assert channel.state is ChannelState.CLOSED
        for caller in self.callers:
            check_manners(caller.heard())
        self.check_gates()

    def check_gates(self) -> None:
        """Nobody has a place who is not there any more, and nobody is banned who did nothing, or is local."""
        assert not self.parts.acceptor.strangers
        culprits = {STRANGE_ADDRESS, PEER} if STRANGE_ADDRESS in self.addresses else set()
        assert {ban.who for ban in self.network.bans} <= culprits


class Caller:
    """The other end of an inbound connection."""

    def __init__(self, transport: MemoryTransport, nodes: MemoryTransport) -> None:
        self._transport = transport
        self._nodes = nodes
        self._said = b""

    def say(self, pieces: Any) -> None:
        """Say all of it, and wait until the node has taken it, or has ended the connection."""
        for piece in pieces:
            try:
                self._transport.send(piece)
            except TransportError:
                return
            self._listen()
            let_others_run()
        until(lambda: not self._nodes.unread() or self._nodes.ended(), "the node to read")

    def heard(self) -> list[pb.Packet]:
        """The packets that have come so far; they must be readable."""
        self._listen()
        decoder = FrameDecoder(2**20)
        decoder.receive_data(self._said)
        return [pb.Packet.FromString(bytes(frame)) for frame in decoder.frames()]

    def leave(self) -> None:
        self._transport.finish_writing()

    def _listen(self) -> None:
        while self._transport.unread():
            self._said += self._transport.recv()


def check_manners(packets: list[pb.Packet]) -> None:
    """A node says hello first and goodbye last, if at all, and each of them once."""
    kinds = [packet.WhichOneof("body") for packet in packets]
    assert kinds[:1] in ([], ["hello"], ["disconnect"]), kinds
    assert kinds.count("hello") <= 1
    assert "disconnect" not in kinds[:-1], kinds
    for packet in packets:
        if packet.HasField("disconnect"):
            assert packet.disconnect.reason != Reason.INTERNAL_ERROR.number
            assert Reason.from_number(packet.disconnect.reason) is not Reason.UNSPECIFIED


def until(true: Any, what: str) -> None:
    """Let others run until something is true."""
    with gevent.Timeout(PATIENCE, AssertionError(f"waited in vain for {what}")):
        while not true():
            let_others_run()
