"""Acceptors with real sockets, and handshakes that do what a test wants."""

from __future__ import annotations

import logging
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import pytest
from gevent import socket
from gevent.event import Event as Flag

from peernet.config import NetworkConfig
from peernet.connections.acceptor import Acceptor
from peernet.connections.refusal import Refusal
from peernet.errors import TransportError
from peernet.peers.peer import GenericPeer
from peernet.reasons import Reason
from peernet.runtime import rng
from peernet.transport.base import Transport
from peernet.transport.tcp import TcpTransport
from peernet.trust.policy import Decision, IncomingPeerTrustPolicy
from tests.support import wait_until


class Door:
    """An acceptor and those who come to it. Handshakes go on until their stranger leaves.

    It is its own gate, which asks the policy for the address.
    """

    def __init__(self, **limits: Any) -> None:
        self.counters: Counter[str] = Counter()
        self.policy = IncomingPeerTrustPolicy()
        self.begun = 0
        self.shake_hands: Callable[[Transport], Any] = self._wait_for_the_end
        self.acceptor = Acceptor(
            NetworkConfig(**limits),
            self,  # type: ignore[arg-type]  # handshakes that are never done ask nothing else
            lambda tcp: self.shake_hands(tcp),
            self.counters,
        )
        self._server = socket.create_server(("127.0.0.1", 0))
        self._near: list[socket.socket] = []

    def admits_address(self, peer: GenericPeer) -> Decision:
        return self.policy.admits(peer)

    def blame(self, peer: GenericPeer, reason: str) -> None:
        """Nobody is banned here."""

    def _wait_for_the_end(self, tcp: Transport) -> Any:
        self.begun += 1
        while tcp.recv():
            continue
        raise TransportError("the other side hung up")

    def come(self, host: str = "192.0.2.1") -> socket.socket:
        """Somebody connects, as if from an address. Returns their end."""
        near = socket.create_connection(self._server.getsockname())
        self._near.append(near)
        far, _ = self._server.accept()
        self.acceptor.accepted(TcpTransport(far, (host, 4000 + len(self._near))))
        return near

    @property
    def strangers(self) -> int:
        return len(self.acceptor.slots)

    def shut(self) -> None:
        self.acceptor.greenlets.kill()
        for sock in (self._server, *self._near):
            sock.close()


Doors = Callable[..., Door]


@pytest.fixture
def doors() -> Iterator[Doors]:
    made: list[Door] = []

    def make(**limits: Any) -> Door:
        made.append(Door(**limits))
        return made[-1]

    yield make
    for door in made:
        door.shut()


def is_hung_up_on(sock: socket.socket) -> bool:
    with gevent.Timeout(5):
        try:
            return sock.recv(1) == b""
        except ConnectionResetError:
            return True


def test_a_stranger_has_a_slot_until_the_handshake_is_over(doors: Doors) -> None:
    door = doors()
    near = door.come()
    wait_until(lambda: door.begun == 1)
    assert door.strangers == 1
    near.close()
    wait_until(lambda: not door.strangers)
    assert door.counters == {"handshake_failed": 1}


def test_who_is_refused_is_hung_up_on_at_once_and_counted_by_reason(doors: Doors) -> None:
    door = doors(max_handshakes_per_address=2, accept_burst=3, accept_rate=0.001)
    nears = [door.come() for _ in range(4)]
    assert is_hung_up_on(nears[2])
    assert is_hung_up_on(nears[3])
    assert door.counters == {"refused_address_limit": 1, "refused_accept_rate": 1}
    assert door.strangers == 2


def test_a_blocked_address_uses_up_nothing(doors: Doors) -> None:
    door = doors(accept_burst=1, accept_rate=0.001)
    door.policy = IncomingPeerTrustPolicy(blocked_networks=frozenset({"192.0.2.0/24"}))
    for host in ("192.0.2.1", "::ffff:192.0.2.1"):
        assert is_hung_up_on(door.come(host))
    assert door.counters == {"blocked_networks": 2}
    door.policy = IncomingPeerTrustPolicy()
    door.come("192.0.2.1")
    assert door.strangers == 1


def test_who_gives_way_is_cut_and_counted_once(doors: Doors) -> None:
    door = doors(max_handshakes=2, handshake_grace=0)
    first = door.come("192.0.2.1")
    door.come("192.0.2.2")
    wait_until(lambda: door.begun == 2)
    door.come("192.0.2.3")
    assert is_hung_up_on(first)
    wait_until(lambda: door.begun == 3 and door.counters)
    assert door.counters == {"handshake_gave_way": 1}
    assert door.strangers == 2


def test_early_drops_are_a_matter_of_chance(doors: Doors, monkeypatch: pytest.MonkeyPatch) -> None:
    door = doors(max_handshakes=4, early_drop_from=1)
    door.come("192.0.2.1")
    monkeypatch.setattr(rng, "uniform", lambda least, most: 0.99)
    door.come("192.0.2.2")
    monkeypatch.setattr(rng, "uniform", lambda least, most: 0.0)
    assert is_hung_up_on(door.come("192.0.2.3"))
    assert door.counters == {"refused_early_drop": 1}


@pytest.mark.parametrize("begun", [True, False], ids=["in the handshake", "before it began"])
def test_a_stranger_that_is_killed_leaves_nothing_behind(doors: Doors, begun: bool) -> None:
    door = doors()
    near = door.come()
    if begun:
        wait_until(lambda: door.begun == 1)
    door.acceptor.greenlets.kill()
    wait_until(lambda: not door.strangers)
    assert not door.acceptor.strangers
    assert is_hung_up_on(near)


def test_a_handshake_that_takes_too_long_gives_its_slot_back(doors: Doors) -> None:
    door, hanging = doors(handshake_timeout=0.1), Flag()
    door.shake_hands = lambda tcp: hanging.wait()
    near = door.come()
    assert is_hung_up_on(near)
    assert door.counters == {"handshake_timeout": 1}
    assert not door.strangers


def test_many_resets_leave_nothing_behind(doors: Doors) -> None:
    door = doors(accept_burst=10_000, max_handshakes_per_address=64)
    for number in range(300):
        near = door.come(f"192.0.2.{number % 250}")
        near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        near.close()
    wait_until(lambda: not door.strangers)
    assert not door.acceptor.strangers


def test_what_the_system_could_not_accept_is_counted(doors: Doors) -> None:
    door = doors()
    door.acceptor.not_accepted("accept_failed")
    assert door.counters == {"accept_failed": 1}


def refuse(tcp: Transport) -> Any:
    """As if TLS had proven somebody who is on the blocklist."""
    refusal = Refusal(Reason.BLOCKED, rule="blocked_identifiers", why="The identifier is blocked.")
    refusal.culprit = "m" * 52
    raise refusal


def test_who_is_not_wanted_and_knocks_is_one_line_however_often(doors: Doors, caplog: pytest.LogCaptureFixture) -> None:
    door = doors(allow_loopback_burst=True)
    door.shake_hands = refuse
    with caplog.at_level(logging.INFO):
        for number in range(5):  # from here and there
            door.come(f"192.0.2.{number}")
        wait_until(lambda: door.counters["blocked"] == 5)
        door.policy = IncomingPeerTrustPolicy(blocked_networks=frozenset({"198.51.100.0/24"}))
        for _ in range(3):
            door.come("198.51.100.7")
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 2
    assert warnings[0].startswith("m" * 52 + " at 192.0.2.")
    assert warnings[0].endswith(" not let in: The identifier is blocked. (blocked_identifiers)")
    assert "198.51.100.7:" in warnings[1]
    assert warnings[1].endswith(" not received: blocked_networks")
    assert len(caplog.records) == 8  # the others with -v


def test_a_stranger_who_fails_is_no_line_that_everybody_sees(doors: Doors, caplog: pytest.LogCaptureFixture) -> None:
    door = doors()
    with caplog.at_level(logging.INFO):
        door.come().close()
        wait_until(lambda: door.counters["handshake_failed"] == 1)
    assert [record.levelno for record in caplog.records] == [logging.INFO]
