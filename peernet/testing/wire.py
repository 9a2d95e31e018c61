"""Wire: what connects the hosts of a simulation, and can be cut between any two of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import count
from random import Random
from weakref import WeakValueDictionary

import gevent

from peernet.errors import ConnectError, ListenError, TransportError
from peernet.peers.address import PeerAddress
from peernet.peers.identity import Identity
from peernet.testing.simulated_tcp import SimulatedTcp, Stream

Accepted = Callable[[SimulatedTcp], None]

FIRST_KNOCK = 1.0  # the wait before the first repetition of what opens a connection (RFC 6298). Seconds
EPHEMERAL = 49_152  # the first port of those who dial (RFC 6335)


class Wire:
    """The links between hosts, which are named by their addresses.

    Args:
        random: draws how long each piece needs.
        latency: the least and the most seconds that a piece needs to arrive.
    """

    def __init__(self, random: Random, latency: tuple[float, float]) -> None:
        self._random = random
        self._latency = latency
        self._cuts: set[frozenset[str]] = set()
        self._off: set[str] = set()
        self._ends: dict[str, WeakValueDictionary[int, SimulatedTcp]] = {}  # of connections, by host
        self._listeners: dict[tuple[str, int], Accepted] = {}
        self._waiting: dict[Stream, None] = {}  # a set that keeps its order
        self._connections = count()

    def is_up(self, one: str, other: str) -> bool:
        """Whether packets get through between two hosts."""
        if self._off and (one in self._off or other in self._off):
            return False
        return not self._cuts or frozenset((one, other)) not in self._cuts

    def cut(self, links: Iterable[tuple[str, str]]) -> None:
        """From now on, lose everything between these pairs of hosts."""
        self._cuts.update(map(frozenset, links))

    def mend(self, links: Iterable[tuple[str, str]]) -> None:
        """Let packets through again between these pairs of hosts."""
        self._cuts.difference_update(map(frozenset, links))
        self._resume()

    def switch_off(self, host: str) -> None:
        """Take a host off the wire at once, as a power failure does: it says nothing, and forgets its connections."""
        self._off.add(host)
        for end in list(self._ends.pop(host, {}).values()):
            end.vanish()

    def switch_on(self, host: str) -> None:
        """Put a host back on the wire; who goes on with an old connection is told that it knows nothing of it."""
        self._off.discard(host)
        self._resume()

    def listen(self, address: PeerAddress, accepted: Accepted) -> SimulatedListener:
        """Give everybody who connects to an address to ``accepted``.

        Raises:
            ListenError: somebody listens there.
        """
        where = (address.host, address.port)
        if where in self._listeners:
            raise ListenError(f"cannot listen on {address.endpoint}: the port is in use")
        self._listeners[where] = accepted
        return SimulatedListener(address, self._listeners)

    def dial(self, source: str, address: PeerAddress) -> SimulatedTcp:
        """Connect a host to an address; while it is not reached, knock again after 1, 3, 7 ... seconds.

        Raises:
            ConnectError: nobody listens there.
        """
        pause = FIRST_KNOCK
        while not self._reaches(source, address.host):
            gevent.sleep(pause)
            pause *= 2
        accepted = self._listeners.get((address.host, address.port))
        if accepted is None:
            gevent.sleep(self.draw_latency())
            raise ConnectError(f"cannot reach {address.endpoint}: nobody listens there") from ConnectionRefusedError()
        ours, theirs = self._connect(source, address)
        accepted(theirs)
        gevent.sleep(self.draw_latency())
        return ours

    def _reaches(self, source: str, target: str) -> bool:
        """Send a packet, and see whether it arrives."""
        if self.is_up(source, target):
            gevent.sleep(self.draw_latency())
            return self.is_up(source, target)
        return False

    def _connect(self, source: str, address: PeerAddress) -> tuple[SimulatedTcp, SimulatedTcp]:
        there, back = Stream(self, source, address.host), Stream(self, address.host, source)
        port = EPHEMERAL + next(self._connections) % (2**16 - EPHEMERAL)
        ours = SimulatedTcp(back, there, (address.host, address.port))
        theirs = SimulatedTcp(there, back, (source, port))
        for host, end in ((source, ours), (address.host, theirs)):
            self._ends.setdefault(host, WeakValueDictionary())[next(self._connections)] = end
        return ours, theirs

    def _resume(self) -> None:
        for stream in list(self._waiting):
            if stream.up:
                stream.resume()

    # What streams ask for.

    def draw_latency(self) -> float:
        """How many seconds the next piece needs."""
        return self._random.uniform(*self._latency)

    def after(self, seconds: float, function: Callable[..., None], *args: object) -> None:
        """Call ``function(*args)`` in the hub, so many seconds from now."""
        gevent.get_hub().loop.timer(seconds).start(function, *args)

    def note(self, stream: Stream) -> None:
        """This stream wants to know when its link is up again."""
        self._waiting[stream] = None

    def forget(self, stream: Stream) -> None:
        """It does not any more."""
        self._waiting.pop(stream, None)


class SimulatedListener:
    """What accepts connections at one address of a wire."""

    def __init__(self, address: PeerAddress, listeners: dict[tuple[str, int], Accepted]) -> None:
        self.address = address
        self._listeners = listeners

    def stop(self) -> None:
        """Accept no more. Idempotent."""
        self._listeners.pop((self.address.host, self.address.port), None)


class SimulatedBackend:
    """How a node at a host of a wire reaches others; see :class:`~peernet.transport.backend.Backend`."""

    def __init__(self, wire: Wire, host: str) -> None:
        self._wire = wire
        self._host = host

    def dial(self, address: PeerAddress) -> SimulatedTcp:
        return self._wire.dial(self._host, address)

    def listen(self, address: PeerAddress, accepted: Accepted, failed: Callable[[str], None]) -> SimulatedListener:
        return self._wire.listen(address, accepted)  # which never fails

    def secure(self, identity: Identity) -> SimulatedTls:
        return SimulatedTls(identity.identifier)


class SimulatedTls:
    """Tells each end the other's identifier, as if it were proven: in a simulation nobody lies."""

    def __init__(self, identifier: str) -> None:
        self._identifier = identifier.encode()

    def wrap(self, raw: SimulatedTcp, /, *, dialled: bool) -> SimulatedTcp:
        raw.send(self._identifier)
        theirs = raw.recv_exactly(len(self._identifier), least=len(self._identifier))
        if len(theirs) < len(self._identifier):
            raise TransportError("the other side hung up during the TLS handshake")
        raw.identifier = theirs.decode()
        return raw
