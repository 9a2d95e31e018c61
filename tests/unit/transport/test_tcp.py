from __future__ import annotations

import errno
import struct
from typing import Any

import gevent
import pytest
from gevent import socket
from gevent.exceptions import ConcurrentObjectUseError

from peernet.errors import ConnectError, ListenError, TransportError
from peernet.peers.address import PeerAddress
from peernet.transport import tcp
from peernet.transport.tcp import TcpTransport, describe, dial, listen
from tests.support import needs_ipv6, scaled, wait_until
from tests.unit.transport.pairs import HERE, fill, receive, socket_and_transport, tcp_pair, tls_pair

RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close() resets the connection


def close(*ends: Any) -> None:
    for end in ends:
        end.close()


def test_plain_tcp_proves_nothing() -> None:
    one, other = tcp_pair()
    assert (one.identifier, other.identifier) == (None, None)
    close(one, other)


def test_small_packets_are_not_held_back() -> None:
    one, other = tcp_pair()
    for end in (one, other):
        assert end.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            assert end.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == tcp.USER_TIMEOUT
    close(one, other)


def test_systems_without_a_user_timeout_do_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "TCP_USER_TIMEOUT", raising=False)
    one, other = tcp_pair()
    one.send(b"hello")
    assert receive(other, 5) == b"hello"
    close(one, other)


@pytest.mark.parametrize("read", [lambda end: end.recv(), lambda end: end.recv_into(memoryview(bytearray(9)))])
def test_a_reset_is_a_transport_error_for_the_reader(read: Any) -> None:
    sock, transport = socket_and_transport()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    sock.close()
    with pytest.raises(TransportError, match="the connection broke: "), gevent.Timeout(scaled(5)):
        read(transport)
    transport.close()


def test_a_reset_is_an_end_for_who_only_looks() -> None:
    sock, transport = socket_and_transport()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    sock.close()
    wait_until(transport.ended)
    transport.close()


@pytest.mark.parametrize("into_buffer", [False, True])
def test_a_reader_that_was_woken_for_nothing_waits_on(into_buffer: bool) -> None:
    sock, transport = socket_and_transport()
    transport.drained = False  # as after a read that took exactly as much as there was

    def read() -> bytes:
        buffer = bytearray(5)
        return bytes(buffer[: transport.recv_into(memoryview(buffer))]) if into_buffer else transport.recv()

    reader = gevent.spawn(read)
    gevent.sleep(0.01)
    assert not reader.dead
    sock.sendall(b"hello")
    assert reader.get(timeout=scaled(5)) == b"hello"
    close(sock, transport)


@pytest.mark.parametrize("pair", [tcp_pair, tls_pair])
def test_a_reader_that_somebody_else_switches_to_waits_on(pair: Any) -> None:
    one, other = pair()
    other.drained = True
    reader = gevent.spawn(other.recv)
    gevent.idle()
    for _ in range(3):
        gevent.get_hub().loop.run_callback(reader.switch)
        gevent.idle()
    assert not reader.dead
    one.send(b"hello")
    assert reader.get(timeout=scaled(5)) == b"hello"
    close(one, other)


def test_two_readers_at_a_time_are_a_mistake_that_the_first_does_not_notice() -> None:
    one, other = tcp_pair()
    reader = gevent.spawn(other.recv)
    gevent.idle()
    with pytest.raises(ConcurrentObjectUseError):
        other.recv()
    one.send(b"hello")
    assert reader.get(timeout=scaled(5)) == b"hello"
    close(one, other)


def test_a_reader_that_is_killed_leaves_the_stream_to_the_next() -> None:
    one, other = tcp_pair()
    reader = gevent.spawn(other.recv)
    gevent.idle()
    reader.kill()
    one.send(b"hello")
    assert receive(other, 5) == b"hello"
    close(one, other)


def test_a_reader_can_be_killed_after_the_end_was_closed() -> None:
    one, other = tcp_pair()
    reader = gevent.spawn(other.recv)
    gevent.idle()
    close(one, other)
    reader.kill()
    assert reader.successful()
    assert isinstance(reader.value, gevent.GreenletExit)


def test_a_writer_waits_until_there_is_room() -> None:
    one, other = tcp_pair()
    sent = fill(one)
    waiting = gevent.spawn(one.wait_writable)
    gevent.sleep(0.01)
    assert not waiting.dead
    receive(other, sent)
    waiting.get(timeout=scaled(5))
    close(one, other)


def test_closing_stops_what_was_waited_for() -> None:
    one, other = tcp_pair()
    fill(one)
    calls: list[int] = []
    one.when_writable(lambda: calls.append(1))
    one.close()
    other.close()
    gevent.sleep(0.01)
    assert calls == []


def test_without_ioctl_nothing_is_known_of_unread_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    sock, transport = socket_and_transport()
    sock.sendall(b"hello")
    wait_until(lambda: transport.unread() == 5)
    monkeypatch.setattr(tcp, "fcntl", None)
    assert transport.unread() == 0
    close(sock, transport)


def test_on_systems_that_do_not_tell_any_end_may_be_kept_from_sending(monkeypatch: pytest.MonkeyPatch) -> None:
    sock, transport = socket_and_transport()
    monkeypatch.setattr(tcp, "SO_MEMINFO", None)
    assert transport.crowded()
    close(sock, transport)
    assert not transport.crowded()


# Dialling and listening.


def test_dialling_where_nobody_listens_says_so() -> None:
    listener = listen(HERE)
    port = listener.getsockname()[1]
    listener.close()
    with pytest.raises(ConnectError, match=f"cannot reach 127.0.0.1:{port}: nobody listens there; check the port"):
        dial(PeerAddress("127.0.0.1", port))


def test_dialling_a_name_that_does_not_exist_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*args: object, **options: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(
        ConnectError, match=r"cannot reach nowhere\.invalid:1: Name or service not known; check the name of the host"
    ):
        dial(PeerAddress("nowhere.invalid", 1))


def test_listening_on_a_name_that_does_not_exist_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*args: object, **options: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(
        ListenError, match=r"cannot listen on nowhere\.invalid:1: Name or service not known; check the name of the host"
    ):
        listen(PeerAddress("nowhere.invalid", 1))


def test_a_port_in_use_is_a_listen_error_with_advice() -> None:
    listener = listen(HERE)
    port = listener.getsockname()[1]
    with pytest.raises(ListenError, match=f"cannot listen on 127.0.0.1:{port}: the port is in use; choose another"):
        listen(PeerAddress("127.0.0.1", port))
    listener.close()


def test_an_address_of_another_machine_is_a_listen_error_with_advice() -> None:
    with pytest.raises(ListenError, match="is not one of this machine's"):
        listen(PeerAddress("192.0.2.1", 0))


def test_a_port_can_be_listened_on_again_at_once() -> None:
    listener = listen(HERE)
    port = listener.getsockname()[1]
    one = dial(PeerAddress("127.0.0.1", port))
    sock, remote = listener.accept()
    close(TcpTransport(sock, remote), one, listener)
    listen(PeerAddress("127.0.0.1", port)).close()


@needs_ipv6
def test_ipv6_works_and_is_ipv6_only() -> None:
    listener = listen(PeerAddress("::1", 0))
    assert listener.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
    one = dial(PeerAddress("::1", listener.getsockname()[1]))
    sock, remote = listener.accept()
    assert (one.remote[0], remote[0]) == ("::1", "::1")
    close(TcpTransport(sock, remote[:2]), one, listener)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (OSError(errno.EACCES, "Permission denied"), "not permitted; ports below 1024 need privileges"),
        (OSError(errno.ENETUNREACH, "Network is unreachable"), "Network is unreachable"),
        (OSError("odd"), "odd"),
    ],
)
def test_an_os_error_is_told_as_advice_or_in_its_own_words(error: OSError, text: str) -> None:
    assert describe(error) == text
