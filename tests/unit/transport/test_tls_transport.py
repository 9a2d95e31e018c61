"""TLS over transports that are no sockets; what it shares with all transports is in test_contract."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import gevent
import pytest

from peernet.errors import HandshakeError, TransportError
from peernet.transport.base import RECORD_SIZE, Transport
from peernet.transport.memory import CAPACITY, MemoryTransport, memory_pair
from peernet.transport.tls import TlsContext
from peernet.transport.tls_transport import BioTlsTransport, TlsTransport
from tests.support import scaled, wait_until
from tests.unit.transport.pairs import (
    ALICE,
    BOB,
    fill,
    memory_tls_pair,
    receive,
    receive_rest,
    secured,
    send_all,
    tls_pair,
)

ALERT = b"\x15\x03"  # how a record with one begins, in any version (RFC 8446 5.1)


def test_sockets_are_left_to_openssl_and_everything_else_goes_through_memory() -> None:
    kinds = []
    for pair in (tls_pair(), memory_tls_pair()):
        kinds.append({type(end) for end in pair})
        for end in pair:
            end.close()
    assert kinds == [{TlsTransport}, {BioTlsTransport}]


def test_each_end_learns_the_identity_that_the_other_has_proven() -> None:
    one, other = memory_tls_pair()
    assert (one.identifier, other.identifier) == (BOB.identifier, ALICE.identifier)


class Trickle:
    """A transport that takes and gives a few bytes at a time."""

    def __init__(self, inner: MemoryTransport, size: int) -> None:
        self._inner = inner
        self._size = size

    def recv(self) -> bytes:
        buffer = bytearray(self._size)
        return bytes(buffer[: self._inner.recv_into(memoryview(buffer))])

    def send(self, data: bytes | memoryview) -> int:
        return self._inner.send(data[: self._size])

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


@pytest.mark.parametrize("size", [1, 2, 1000])
def test_records_may_be_cut_anywhere(size: int) -> None:
    near, far = memory_pair()
    one, other = secured((Trickle(near, size), Trickle(far, size)))
    content = os.urandom(3 * RECORD_SIZE + 1)
    sender = gevent.spawn(send_all, one, content)
    assert receive(other, len(content)) == content
    sender.get(timeout=scaled(5))


def test_what_nobody_reads_is_not_kept_in_memory() -> None:
    one, other = memory_tls_pair()
    sent = fill(one)
    assert CAPACITY - RECORD_SIZE <= sent <= CAPACITY + RECORD_SIZE
    assert len(receive(other, sent)) == sent


class Handshake:
    """A handshake that fails, on a connection in memory whose other end is far."""

    def __init__(self, *, dialled: bool) -> None:
        self.below, self.far = memory_pair()
        self.wrapping = gevent.spawn(TlsContext(ALICE).wrap, self.below, dialled=dialled)

    def fail(self) -> BaseException:
        with pytest.raises(TransportError) as caught:
            self.wrapping.get(timeout=scaled(5))
        return caught.value


@pytest.mark.parametrize("dialled", [False, True])
def test_somebody_who_does_not_speak_tls_is_told_so_and_refused(dialled: bool) -> None:
    handshake = Handshake(dialled=dialled)
    send_all(handshake.far, b"\x16\x03\x03\x00\x04abcd")
    assert isinstance(handshake.fail(), HandshakeError)
    handshake.below.finish_writing()
    assert ALERT in receive_rest(handshake.far)


@pytest.mark.parametrize("dialled", [False, True])
@pytest.mark.parametrize("content", [b"", b"\x16\x03\x01"])
def test_somebody_who_leaves_in_the_handshake_is_a_transport_error(content: bytes, dialled: bool) -> None:
    handshake = Handshake(dialled=dialled)
    send_all(handshake.far, content)
    handshake.far.close()
    error = handshake.fail()
    assert not isinstance(error, HandshakeError)
    assert "hung up during the TLS handshake" in str(error)


def broken_below(monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """From now on the transports below fail as a stream does that was reset."""

    def fail(*arguments: object) -> None:
        raise TransportError("the connection broke: reset")

    monkeypatch.setattr(MemoryTransport, what, fail)


def test_a_reset_in_the_handshake_is_one_too(monkeypatch: pytest.MonkeyPatch) -> None:
    broken_below(monkeypatch, "recv")
    assert "hung up during the TLS handshake" in str(Handshake(dialled=True).fail())


@pytest.mark.parametrize(
    "use", [lambda end: end.recv(), lambda end: end.recv_into(memoryview(bytearray(9))), lambda end: end.send(b"x")]
)
def test_a_reset_below_is_a_transport_error(
    use: Callable[[Transport], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, _ = memory_tls_pair()
    for what in ("recv", "send"):
        broken_below(monkeypatch, what)
    with pytest.raises(TransportError, match="the connection broke: reset"):
        use(one)


def test_whoever_waits_for_room_learns_that_the_transport_below_broke(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = memory_tls_pair()
    fill(one)
    calls: list[int] = []
    one.when_writable(lambda: calls.append(1))
    broken_below(monkeypatch, "send")
    receive(other, 1)
    wait_until(lambda: calls)
    with pytest.raises(TransportError, match="the connection broke: reset"):
        one.send(b"x")


def test_somebody_who_asks_for_room_that_is_there_is_called_at_once() -> None:
    one, _ = memory_tls_pair()
    calls: list[int] = []
    one.when_writable(lambda: calls.append(1))
    assert calls == []
    wait_until(lambda: calls)


@pytest.mark.parametrize("read", [lambda end: end.recv(), lambda end: end.recv_into(memoryview(bytearray(9)))])
def test_bytes_that_are_no_tls_record_break_the_connection(read: Callable[[Transport], object]) -> None:
    below, far = memory_pair()
    one, _ = secured((below, far))
    far.send(b"\x17\x03\x03\x00\x20" + bytes(32))
    with pytest.raises(TransportError, match="the connection broke: "):
        read(one)
    with pytest.raises(TransportError, match="the connection broke: "):
        one.send(b"hello?")
    below.finish_writing()
    assert receive_rest(far)  # an alert


@pytest.mark.parametrize("read", [lambda end: end.recv(), lambda end: end.recv_into(memoryview(bytearray(9)))])
def test_a_stream_cut_off_without_close_notify_is_an_end(read: Callable[[Transport], object]) -> None:
    below, far = memory_pair()
    one, other = secured((below, far))
    send_all(other, b"last words")
    far.finish_writing()
    assert receive(one, 10) == b"last words"
    assert not read(one)
    assert one.ended()
