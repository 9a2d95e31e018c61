"""Listeners whose system has trouble."""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Iterator
from typing import Any

import gevent
import pytest
from gevent import socket

from peernet.peers.address import PeerAddress
from peernet.transport import descriptors, listener
from peernet.transport.listener import Listener
from peernet.transport.tcp import listen
from tests.support import wait_until


class Guests:
    """Takes over what is accepted."""

    def __init__(self) -> None:
        self.sockets: list[socket.socket] = []
        self.failures: Counter[str] = Counter()
        self.raises: Exception | None = None

    def accepted(self, sock: socket.socket, remote: tuple[str, int]) -> None:
        self.sockets.append(sock)
        if self.raises is not None:
            raise self.raises

    def failed(self, why: str) -> None:
        self.failures[why] += 1


@pytest.fixture
def guests() -> Iterator[Guests]:
    made = Guests()
    yield made
    for sock in made.sockets:
        sock.close()


@pytest.fixture
def errors(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The next calls of accept() fail with what is put in here."""
    made: list[int] = []
    monkeypatch.setattr(listener, "listen", lambda address: Accept(listen(address), made))
    return made


@pytest.fixture
def listening(errors: list[int], guests: Guests) -> Iterator[Listener]:
    made = Listener(PeerAddress("127.0.0.1", 0), guests.accepted, guests.failed)
    yield made
    made.stop()


class Accept:
    """Stands in for ``accept()``: raises its errors one after the other, and then accepts."""

    def __init__(self, sock: socket.socket, errors: list[int]) -> None:
        self._sock = sock
        self._errors = errors
        self.calls = 0

    def accept(self) -> Any:
        self.calls += 1
        if self._errors:
            raise OSError(number := self._errors.pop(0), os.strerror(number))
        return self._sock.accept()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


def connect(listening: Listener) -> socket.socket:
    return socket.create_connection((listening.address.host, listening.address.port))


def test_without_descriptors_it_waits_longer_and_longer(
    errors: list[int], listening: Listener, guests: Guests, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    wait = gevent.sleep

    class FakeGevent:
        @staticmethod
        def sleep(seconds: float) -> None:
            pauses.append(seconds)
            wait(0)

    monkeypatch.setattr(listener, "gevent", FakeGevent)
    errors += [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, *[errno.EMFILE] * 5]
    connect(listening).close()  # the accept under way
    connect(listening).close()
    wait_until(lambda: len(guests.sockets) == 2)
    assert pauses == [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 0.64, 0.64]
    assert guests.failures == {"accept_failed": 9}


def test_it_waits_less_than_a_second_so_that_it_is_back_within_one() -> None:
    assert listener.MAX_BACKOFF < 1


@pytest.mark.parametrize("number", sorted(listener.PASSING))
def test_an_error_of_one_connection_makes_nobody_wait(
    errors: list[int], listening: Listener, guests: Guests, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(listener, "MIN_BACKOFF", 60)
    errors += [number] * 3
    for _ in range(2):
        connect(listening).close()
    wait_until(lambda: len(guests.sockets) == 2)
    assert guests.failures == {"accept_failed": 3}


@pytest.mark.parametrize("error", [OSError(errno.ENOTCONN, "gone"), RuntimeError("a mistake")])
def test_what_cannot_be_taken_over_is_closed_and_the_next_one_is_accepted(
    listening: Listener, guests: Guests, error: Exception
) -> None:
    guests.raises = error
    near = connect(listening)
    assert near.recv(1) == b""
    near.close()
    guests.raises = None
    connect(listening).close()
    wait_until(lambda: len(guests.sockets) == 2)


def test_who_comes_when_descriptors_are_scarce_is_hung_up_on(
    listening: Listener, guests: Guests, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(descriptors, "soft_limit", lambda: 0)
    near = connect(listening)
    assert near.recv(1) == b""
    near.close()
    assert guests.failures == {"refused_no_descriptors": 1}
    assert not guests.sockets
    monkeypatch.undo()
    connect(listening).close()
    wait_until(lambda: len(guests.sockets) == 1)
