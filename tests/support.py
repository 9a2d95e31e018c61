"""What many tests need: waiting with a deadline, networks, and listeners that remember."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from typing import Any, TypeVar

import gevent
import pytest
from gevent.event import Event as Flag

from peernet.assembly import Assembly as NetworkAssembly
from peernet.channel.assembly import Assembly
from peernet.channel.channel import PeerChannel
from peernet.channel.link import Link
from peernet.channel.reporter import ChannelOwner
from peernet.config import NetworkConfig
from peernet.connections.handshake import HandshakeResult
from peernet.network import PeerNetwork
from peernet.runtime.events import Event

# Every time limit in the tests is multiplied by this: raise it on a slow machine.
FACTOR = float(os.environ.get("PEERNET_TEST_FACTOR", "1"))

T = TypeVar("T")


class OddError(BaseException):
    """An exception that is no ``Exception``, as test frameworks have."""


# What foreign code may raise by itself that asks nobody to end the program.
FAILURES: list[Callable[[], BaseException]] = [ValueError, gevent.Timeout, gevent.GreenletExit, GeneratorExit, OddError]


def scaled(seconds: float) -> float:
    """A time limit, made longer on slow machines."""
    return seconds * FACTOR


def wait_until(predicate: Callable[[], T | None], timeout: float = 5.0, what: str = "") -> T:
    """Let other greenlets run until ``predicate()`` is true, and return what it returned.

    Args:
        predicate: asked again and again.
        timeout: seconds (scaled) after which the test fails.
        what: what is waited for, as the failure names it.
    """
    deadline = time.monotonic() + scaled(timeout)
    pause = 0.0
    while True:
        answer = predicate()
        if answer:
            return answer
        if time.monotonic() >= deadline:
            raise AssertionError(f"waited {scaled(timeout)} s in vain for {what or predicate!r}")
        gevent.sleep(pause)
        pause = min(pause + 0.001, 0.02)


def known(value: T | None) -> T:
    """What must not be ``None``."""
    assert value is not None
    return value


def stay(*args: object) -> None:
    """A callback, a listener or a server that comes back only if it is killed."""
    Flag().wait()


def make_network(**options: Any) -> PeerNetwork:
    """A started network named "test" that listens on a free loopback port; the caller stops it.

    Tests make more connections from one address than strangers may.
    """
    options.setdefault("listen", ["127.0.0.1:0"])
    options.setdefault("network_name", "test")
    options.setdefault("config", NetworkConfig(allow_loopback_burst=True))
    network = PeerNetwork(**options)
    network.start()
    return network


class Parts(Assembly):
    """The parts of a channel, and the transport of its first connection; see the fixture ``parts_of``."""

    def __init__(self, owner: ChannelOwner, result: HandshakeResult, *, dialled: bool) -> None:
        super().__init__(owner, result, dialled=dialled)
        self.transport = result.transport

    @property
    def link(self) -> Link:
        """The channel's present one."""
        return self.attachment.link


AssemblyOf = Callable[[PeerNetwork], NetworkAssembly]
PartsOf = Callable[[PeerChannel], Parts]


class Recorder:
    """A callback or listener that remembers its calls: ``(channel, packet)``, or whatever it was called with."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def __call__(self, *args: Any) -> None:
        self.calls.append(args)

    def __len__(self) -> int:
        return len(self.calls)

    @property
    def packets(self) -> list[Any]:
        """The last argument of every call; for a callback, its packets."""
        return [call[-1] for call in self.calls]

    def wait_for(self, count: int, timeout: float = 5.0) -> list[tuple[Any, ...]]:
        """The calls, as soon as there are ``count`` of them or more."""
        wait_until(lambda: len(self.calls) >= count, timeout, f"{count} calls, of which {len(self.calls)} came")
        return self.calls


def record(event: Event[...]) -> Recorder:
    """A new listener of an event, which remembers its calls."""
    recorder = Recorder()
    event.add(recorder)
    return recorder


def handle(network: PeerNetwork, kind: Any = "pure_message") -> Recorder:
    """Have a new recorder handle a kind of packets."""
    recorder = Recorder()
    network.handlers[kind] = recorder
    return recorder


def _ipv6_works() -> bool:
    """Whether this machine has an IPv6 loopback address."""
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not _ipv6_works(), reason="this machine has no IPv6 loopback address")
