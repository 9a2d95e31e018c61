"""SimulatedNetwork: many nodes in one process, on a wire that can be cut, in simulated time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from random import Random
from types import TracebackType
from typing import Any

import gevent
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from gevent.pool import Group

from peernet.channel.channel import PeerChannel
from peernet.channel.state import ChannelState
from peernet.errors import ConnectError, PeerNetError
from peernet.network import PeerNetwork
from peernet.peers.address import PeerAddress
from peernet.peers.identity import Identity
from peernet.reasons import Reason
from peernet.runtime.deadline import Deadline
from peernet.runtime.greenlets import spawn
from peernet.testing.virtual_time import VirtualTime
from peernet.testing.wire import SimulatedBackend, Wire

PORT = 4040
# How long the nodes get to say goodbye at the end. Seconds.
GOODBYE = 5.0
# Pause between two looks at a pair that is not connected. Seconds.
LOOK_AGAIN = 0.05

Pair = tuple[int, int]


@dataclass(frozen=True)
class Occurrence:
    """Something that has happened in a simulation.

    Attributes:
        at: simulated seconds since the beginning.
        what: ``added``, ``removed``, ``reconnecting`` or ``resumed``, of a channel; ``crashed`` or ``restarted``, of
            the node; ``cut`` or ``mended``, of links.
        where: the node that has seen it; ``None`` for the wire.
        more: the other node, with the reason if the channel is gone; for the wire, how many links.
    """

    at: float
    what: str
    where: int | None
    more: str

    def __str__(self) -> str:
        return f"{self.at:12.6f} {'wire' if self.where is None else self.where} {self.what} {self.more}"


class SimulatedNetwork:
    """Nodes that are numbered from 0, and everything between them.

    Use it as a context. Within, this thread lives in simulated time: whatever waits lets the nodes run, and time
    passes only while everybody waits. With the same seed and the same program the same things happen.

    Args:
        nodes: how many.
        seed: what all chance comes from.
        latency: the least and the most seconds that a piece of a stream needs to arrive.
        options: what every :class:`~peernet.network.PeerNetwork` is given, ``config`` for example.

    Attributes:
        nodes: the networks, started.
        random: a generator for the scenario's own use.
        log: what has happened, in order.
    """

    def __init__(
        self, nodes: int = 2, *, seed: int = 0, latency: tuple[float, float] = (0.001, 0.05), **options: Any
    ) -> None:
        self.nodes: list[PeerNetwork] = []
        self.random = Random(f"{seed} scenario")
        self.log: list[Occurrence] = []
        self._hosts = [_host(number) for number in range(nodes)]
        self._seed = seed
        self._options = options
        self._wire = Wire(Random(f"{seed} wire"), latency)
        self._time = VirtualTime(Random(f"{seed} peernet"))
        self._numbers: dict[str, int] = {}  # of the nodes, by identifier
        self._greenlets = Group()
        self._errors: list[BaseException] = []
        self._recording = True

    def __enter__(self) -> SimulatedNetwork:
        self._time.__enter__()
        identities = Random(f"{self._seed} identities")
        try:
            for number in range(len(self._hosts)):
                key = Ed25519PrivateKey.from_private_bytes(identities.randbytes(32))
                self.nodes.append(self._make_node(number, Identity(key)))
                self.nodes[-1].start()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._end()
        if error is None:
            self._raise_errors()

    # The nodes.

    @property
    def now(self) -> float:
        """Simulated seconds since the beginning."""
        return self._time.now

    @property
    def pairs(self) -> Iterator[Pair]:
        """The numbers of every two nodes."""
        return combinations(range(len(self._hosts)), 2)

    def address(self, node: int) -> str:
        """Where a node accepts connections."""
        return self.nodes[node].addresses[0]

    def number_of(self, identifier: str) -> int:
        """The number of the node with this identifier."""
        return self._numbers[identifier]

    def channel(self, node: int, peer: int) -> PeerChannel | None:
        """A node's channel to another node, if it has one."""
        return self.nodes[node].channel_to(self.nodes[peer].identifier)

    def connect(self, node: int, peer: int) -> PeerChannel:
        """Let a node connect to another one; as :meth:`~peernet.network.PeerNetwork.connect`."""
        return self.nodes[node].connect(self.address(peer))

    def connect_all(self) -> None:
        """Connect every two nodes; which of them dials is left to chance.

        Raises:
            ConnectError: two of them did not find together.
        """
        dials = [pair if self.random.random() < 0.5 else pair[::-1] for pair in self.pairs]
        dialling = [self.spawn(self._connect_some, node, dials) for node in range(len(self.nodes))]
        gevent.joinall(dialling)
        self._raise_errors()

    def wait_connected(self, timeout: float) -> float:
        """Wait until every two nodes have an open channel on both sides, and a packet has gone there and back.

        Args:
            timeout: seconds.

        Returns:
            How many seconds it took.

        Raises:
            ConnectError: some have not found together in time; it says which.
        """
        began, deadline = self.now, Deadline(timeout)
        waiting = {pair: self.spawn(self._meets, pair, deadline) for pair in self.pairs}
        gevent.joinall(list(waiting.values()))
        self._raise_errors()
        apart = [pair for pair, greenlet in waiting.items() if not greenlet.value]
        if apart:
            raise ConnectError(f"not connected after {timeout} s: {len(apart)} pairs of nodes, {apart[:10]}")
        return self.now - began

    def crash(self, node: int) -> None:
        """Let the power of a node's machine fail: it says no goodbye and loses what it had in memory."""
        self._note("crashed", node, "")
        self._wire.switch_off(self._hosts[node])
        self.nodes[node].stop(0)

    def restart(self, node: int) -> PeerNetwork:
        """Start a node that has crashed, as a new network with the same identity and address and no callbacks."""
        crashed = self.nodes[node]
        self.nodes[node] = self._make_node(node, crashed.identity)
        self._wire.switch_on(self._hosts[node])
        self.nodes[node].start()
        self._note("restarted", node, "")
        return self.nodes[node]

    # The wire.

    def cut(self, one: int, other: int) -> None:
        """Lose everything between two nodes from now on."""
        self._cut([(one, other)])

    def mend(self, one: int, other: int) -> None:
        """Let packets through again between two nodes."""
        self._mend([(one, other)])

    def partition(self, *groups: Iterable[int]) -> None:
        """Lose everything between nodes of different groups; those in none of them are one more. Ends other cuts."""
        group_of = {node: number for number, group in enumerate(groups) for node in group}
        apart = {(one, other) for one, other in self.pairs if group_of.get(one) != group_of.get(other)}
        self._mend([pair for pair in self.pairs if pair not in apart])
        self._cut(sorted(apart))

    def heal(self) -> None:
        """Let packets through between all."""
        self._mend(self.pairs)

    def random_partitions(
        self, seconds: float, *, every: tuple[float, float] = (5.0, 30.0), lasting: tuple[float, float] = (1.0, 60.0)
    ) -> None:
        """For so many seconds, part the nodes into two or three groups again and again. Then heal.

        Args:
            seconds: after which it heals and returns.
            every: the least and the most seconds without a partition between two of them.
            lasting: the least and the most seconds that one lasts.
        """
        ends = Deadline(seconds)
        while not ends.expired:
            gevent.sleep(ends.cap(self.random.uniform(*every)))
            if ends.expired:
                break
            count = self.random.choice((2, 2, 3))
            groups: list[list[int]] = [[] for _ in range(count)]
            for node in range(len(self.nodes)):
                self.random.choice(groups).append(node)
            self.partition(*groups)
            gevent.sleep(ends.cap(self.random.uniform(*lasting)))
            self.heal()

    # Time.

    def run(self, seconds: float) -> None:
        """Let so many simulated seconds pass.

        Raises:
            Exception: whatever a function that :meth:`spawn` has started has raised.
        """
        gevent.sleep(seconds)
        self._raise_errors()

    def spawn(self, function: Callable[..., Any], *args: Any) -> gevent.Greenlet[..., Any]:
        """Run ``function(*args)`` beside. It is killed at the end, and what it raises is raised by :meth:`run`."""
        greenlet = spawn(f"simulation {getattr(function, '__name__', function)}", self._guard, function, args)
        self._greenlets.add(greenlet)
        return greenlet

    # How it is done.

    def _make_node(self, number: int, identity: Identity) -> PeerNetwork:
        host = self._hosts[number]
        listen = [PeerAddress(host, PORT).endpoint]
        network = PeerNetwork(identity, listen, backend=SimulatedBackend(self._wire, host), **self._options)
        self._numbers[identity.identifier] = number
        self._watch(number, network)
        return network

    def _watch(self, number: int, network: PeerNetwork) -> None:
        def note(what: str, channel: PeerChannel, reason: Reason | None = None) -> None:
            peer = str(self._numbers[channel.peer.identifier])
            self._note(what, number, f"{peer} {reason}" if reason else peer)

        network.peer_added.add(partial(note, "added"))
        network.peer_removed.add(partial(note, "removed"))
        network.channel_reconnecting.add(partial(note, "reconnecting"))
        network.channel_resumed.add(partial(note, "resumed"))

    def _note(self, what: str, where: int | None, more: str) -> None:
        if self._recording:
            self.log.append(Occurrence(self.now, what, where, more))

    def _connect_some(self, node: int, dials: list[Pair]) -> None:
        for dialler, peer in dials:
            if dialler == node:
                self.connect(dialler, peer)

    def _meets(self, pair: Pair, deadline: Deadline) -> bool:
        while not deadline.expired:
            ours, theirs = self.channel(*pair), self.channel(*pair[::-1])
            if _is_open(ours) and _is_open(theirs) and _answers(ours, deadline.cap(1.0)):
                return True
            gevent.sleep(LOOK_AGAIN)
        return False

    def _cut(self, pairs: Iterable[Pair]) -> None:
        links = self._links(pairs)
        self._wire.cut(links)
        self._note("cut", None, str(len(links)))

    def _mend(self, pairs: Iterable[Pair]) -> None:
        links = self._links(pairs)
        self._wire.mend(links)
        self._note("mended", None, str(len(links)))

    def _links(self, pairs: Iterable[Pair]) -> list[tuple[str, str]]:
        return [(self._hosts[one], self._hosts[other]) for one, other in pairs]

    def _guard(self, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        try:
            return function(*args)
        except Exception as error:
            self._errors.append(error)
            return None

    def _raise_errors(self) -> None:
        if self._errors:
            raise self._errors.pop(0)

    def _end(self) -> None:
        self._recording = False
        try:
            self._greenlets.kill()
            gevent.joinall([spawn(f"stop {number}", node.stop, GOODBYE) for number, node in enumerate(self.nodes)])
        finally:
            self._time.__exit__(None, None, None)


def _host(number: int) -> str:
    return f"10.0.{number // 250}.{number % 250 + 1}"


def _is_open(channel: PeerChannel | None) -> bool:
    return channel is not None and channel.state is ChannelState.OPEN


def _answers(channel: PeerChannel | None, timeout: float) -> bool:
    try:
        return channel is not None and channel.ping(timeout) >= 0
    except PeerNetError:
        return False
