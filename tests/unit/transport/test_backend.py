"""What the usual backend makes of sockets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest
from gevent import socket

from peernet.errors import ListenError
from peernet.peers.address import PeerAddress
from peernet.transport import backend, descriptors
from peernet.transport.backend import Listeners, Listening, TcpBackend
from peernet.transport.base import Transport
from tests.support import wait_until
from tests.unit.transport.pairs import HERE, receive, send_all


class Guests:
    """Takes over what is accepted."""

    def __init__(self) -> None:
        self.transports: list[Transport] = []
        self.failures: Counter[str] = Counter()

    def failed(self, why: str) -> None:
        self.failures[why] += 1


@pytest.fixture
def guests() -> Iterator[Guests]:
    made = Guests()
    yield made
    for transport in made.transports:
        transport.close()


@pytest.fixture
def listening(guests: Guests) -> Iterator[Listening]:
    made = TcpBackend(descriptor_reserve=64).listen(HERE, guests.transports.append, guests.failed)
    yield made
    made.stop()


def connect(listening: Listening) -> socket.socket:
    return socket.create_connection((listening.address.host, listening.address.port))


def test_an_accepted_connection_is_a_transport_with_a_remote(listening: Listening, guests: Guests) -> None:
    near = TcpBackend().dial(PeerAddress(listening.address.host, listening.address.port))
    wait_until(lambda: guests.transports)
    far = guests.transports[0]
    assert far.remote == near.socket.getsockname()
    send_all(near, b"hello")
    assert receive(far, 5) == b"hello"
    near.close()


def test_a_socket_that_cannot_be_used_is_closed_and_handed_to_nobody(
    listening: Listening, guests: Guests, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        raise OSError("the connection was reset")

    with monkeypatch.context() as patched:
        patched.setattr(backend, "TcpTransport", fail)
        near = connect(listening)
        assert near.recv(1) == b""
        near.close()
    assert not guests.transports
    connect(listening).close()
    wait_until(lambda: guests.transports)


def test_who_comes_when_descriptors_are_scarce_is_hung_up_on_and_counted(
    listening: Listening, guests: Guests, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(descriptors, "soft_limit", lambda: 0)
        near = connect(listening)
        assert near.recv(1) == b""
        near.close()
    assert guests.failures == {"refused_no_descriptors": 1}
    assert not guests.transports
    connect(listening).close()
    wait_until(lambda: guests.transports)


# Several addresses.


def make_listeners(guests: Guests, *addresses: PeerAddress) -> Listeners:
    return Listeners(TcpBackend(), addresses, guests.transports.append, guests.failed)


def test_a_network_listens_at_all_its_addresses_until_it_stops(guests: Guests) -> None:
    listeners = make_listeners(guests, HERE, HERE)
    assert listeners.addresses == []
    for _ in range(2):
        listeners.start()
        ports = [address.port for address in listeners.addresses]
        assert len({*ports}) == 2
        for port in ports:
            before = len(guests.transports)
            socket.create_connection((HERE.host, port)).close()
            wait_until(lambda: len(guests.transports) == before + 1)  # noqa: B023  # is asked at once
        listeners.stop()
        listeners.stop()
        assert listeners.addresses == []
        for port in ports:
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection((HERE.host, port))


def test_where_one_address_cannot_be_listened_on_stopping_leaves_none(guests: Guests) -> None:
    listeners = make_listeners(guests, HERE, PeerAddress("192.0.2.1", 0))
    with pytest.raises(ListenError):
        listeners.start()
    (port,) = [address.port for address in listeners.addresses]
    listeners.stop()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((HERE.host, port))
