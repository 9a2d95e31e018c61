"""Real networks whose connections run through memory, and can be cut, refused and spoken into."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import gevent

from peernet.channel.receipts import Receipt
from peernet.channel.state import ChannelState
from peernet.config import NetworkConfig
from peernet.errors import ConnectError, PeerNetError
from peernet.network import PeerNetwork
from peernet.peers.address import PeerAddress
from peernet.peers.identity import Identity
from peernet.runtime.greenlets import let_others_run
from peernet.transport.memory import MemoryTransport, memory_pair
from peernet.v1 import packet_pb2 as pb
from tests.fuzz.backend import MemoryBackend
from tests.fuzz.conversations import PEER
from tests.support import wait_until

BRISK = NetworkConfig(
    acknowledge_after=0.001,
    backoff_base=0.01,
    backoff_cap=0.02,
    redial_interval=0.01,
    connect_timeout=0.5,
    connect_attempts=1,
    duplicate_patience=0.05,
    close_timeout=0.2,
    frames_per_turn=3,
    outbox_packets=8,
    session_packets=16,
    allow_loopback_burst=True,
    untrusted_frame_rate=10_000,
    untrusted_frame_burst=50,
)
# Identities cost a millisecond each, and who one is makes no difference.
IDENTITIES = [Identity.generate() for _ in range(3)]


class Node:
    """A network and what is known of it from outside: events, what it has sent and what it has heard."""

    def __init__(self, board: Switchboard, number: int) -> None:
        self.name = number
        self.heard: dict[str, list[int]] = {}
        self.lives: dict[Any, list[str]] = {}  # channel -> its events
        self.sent: list[tuple[str, int, Receipt]] = []
        self.settled: Counter[Receipt] = Counter()
        self.backend = MemoryBackend(lambda address: board.dial(self, address))
        self.network = PeerNetwork(
            IDENTITIES[number],
            [f"127.0.0.1:{1 + number}"],
            network_name="test",
            config=BRISK,
            insecure=True,
            backend=self.backend,
        )
        self.network.handlers["pure_message"] = self._hear
        for event in ("peer_added", "channel_reconnecting", "channel_resumed", "peer_removed"):
            getattr(self.network, event).add(self._remember(event))
        board.nodes.append(self)
        self.network.start()

    @property
    def identifier(self) -> str:
        return self.network.identifier

    def say(self, other: Node, number: int, *, timeout: float = 0) -> bool:
        """Send a number. Returns whether it was accepted."""
        channel = self.network.channel_to(other.identifier)
        if channel is None:
            return False
        try:
            receipt = channel.send(pb.PureMessagePacket(message=f"{number}"), timeout=timeout)
        except PeerNetError:
            return False  # full, or on its way out
        self.sent.append((other.identifier, number, receipt))
        receipt.add_done_callback(lambda one: self.settled.update([one]))
        return True

    def check(self, others: list[Node]) -> None:
        """What must be true at any moment."""
        for numbers in self.heard.values():
            assert numbers == sorted(set(numbers)), f"out of order, or twice: {numbers}"
        for identifier, number, receipt in self.sent:
            (receiver,) = [one for one in others if one.identifier == identifier]
            assert self.settled[receipt] == receipt.done, "settled twice"
            if receipt.acknowledged:
                assert number in receiver.heard[self.identifier], "acknowledged and never handled"
        for life in self.lives.values():
            assert is_a_life(life), life

    def check_end(self) -> None:
        """What must be true when the network has stopped."""
        assert not self.network.active_peer_channels
        assert all(receipt.done for _, _, receipt in self.sent), "a receipt was forgotten"
        for channel, life in self.lives.items():
            assert life[-1] == "peer_removed", f"{channel!r}: {life}"

    def _hear(self, channel: Any, packet: pb.Packet) -> None:
        if channel.peer.identifier != PEER:  # a stranger says anything
            number = int(packet.pure_message.message)
            self.heard.setdefault(channel.peer.identifier, []).append(number)
            if not number % 10:  # a callback may wait, and its connection be lost and made again meanwhile
                gevent.sleep(0.04)

    def _remember(self, event: str) -> Callable[..., None]:
        return lambda channel, *rest: self.lives.setdefault(channel, []).append(event)


def is_a_life(events: list[str]) -> bool:
    """Whether a channel may have these events: added once first, removed once last, lost and found in turns."""
    allowed = {
        "": {"peer_added"},
        "peer_added": {"channel_reconnecting", "peer_removed"},
        "channel_reconnecting": {"channel_resumed", "peer_removed"},
        "channel_resumed": {"channel_reconnecting", "peer_removed"},
        "peer_removed": set[str](),
    }
    return all(after in allowed[before] for before, after in zip(["", *events], events, strict=False))


class Switchboard:
    """Carries every connection between the nodes that have joined."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.pairs: list[tuple[MemoryTransport, MemoryTransport]] = []  # the dialling end first
        self.down = False

    def address(self, node: Node) -> str:
        return str(PeerAddress("127.0.0.1", 1 + node.name, node.identifier))

    def cut(self, which: int, ends: int) -> None:
        """End a connection: at its dialling end, at the other one, or at both."""
        self._forget_ended()
        if self.pairs:
            for number, end in enumerate(self.pairs[which % len(self.pairs)], start=1):
                if ends & number:
                    end.abort()

    def intrude(self, which: int, end: int, data: bytes) -> None:
        """Say something in the name of one end, if that is between two of its frames."""
        self._forget_ended()
        if self.pairs:
            pair = self.pairs[which % len(self.pairs)]
            if not pair[1 - end].unread() and not pair[1 - end].ended():
                pair[end].send(data)

    def call_as_a_stranger(self, node: Node, data: bytes) -> None:
        """Connect to a node, say something, and leave."""
        near, far = memory_pair(dialler=PEER)
        node.backend.call(far, ("127.0.0.1", 9))
        near.send(data)
        near.finish_writing()

    def dial(self, caller: Node, address: PeerAddress) -> MemoryTransport:
        """Connect a node to another; each end takes the other's identifier for proven."""
        if self.down:
            raise ConnectError("the network is down")
        callee = self.nodes[address.port - 1]
        near, far = memory_pair(dialler=caller.identifier, listener=callee.identifier)
        near.remote = (address.host, address.port)
        self.pairs.append((near, far))
        callee.backend.call(far, ("127.0.0.1", 1 + caller.name))
        return near

    def _forget_ended(self) -> None:
        self.pairs = [pair for pair in self.pairs if not all(end.ended() for end in pair)]


def settle(nodes: list[Node]) -> None:
    """Wait until the two ends of every channel agree that it is open, and nothing is under way."""
    for _ in range(5):
        let_others_run()  # so that nobody still takes a connection for alive that was cut just now
    pairs = [(one, two) for one in nodes for two in nodes if one is not two]
    wait_until(lambda: all(_rest(*pair) for pair in pairs), 10, "the network to come to rest")


def _rest(one: Node, two: Node) -> bool:
    """Whether nothing happens on the channel that one node has to another, if it has one."""
    here, there = one.network.channel_to(two.identifier), two.network.channel_to(one.identifier)
    if here is None:
        return there is None or there.state is ChannelState.RECONNECTING
    if there is None:  # its goodbye was cut off, so this side waits for it until the session expires
        return here.state is ChannelState.RECONNECTING
    kept = here.session.kept if here.session is not None else ()
    return here.state is ChannelState.OPEN and not here.queued_packets and not kept
