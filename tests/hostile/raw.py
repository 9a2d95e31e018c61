"""Connections with sockets and OpenSSL only: what attackers, and an honest peer to compare them with, need."""

from __future__ import annotations

import base64
import datetime
import hashlib
import select
import socket
import struct
import time
from contextlib import suppress
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from OpenSSL import SSL

from tests.hostile.reasons import name_of
from tests.hostile.wire import HELLO, REPLY_TO, body, disconnect, heartbeat, hello, number, read_varint, reason_of

PATIENCE = 10.0  # seconds an honest peer waits


def client_context() -> SSL.Context:
    """TLS with a new key, as a dialling peer speaks it."""
    return identity()[0]


def identity() -> tuple[SSL.Context, str]:
    """TLS with a new key, as a dialling peer speaks it, and the identifier that the key proves."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "whoever")])
    long_ago = datetime.datetime(2001, 1, 1)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, long_ago)
        .not_valid_after(long_ago + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_min_proto_version(SSL.TLS1_3_VERSION)
    context.use_certificate(certificate)
    context.use_privatekey(key)
    context.set_verify(SSL.VERIFY_NONE)
    spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return context, base64.b32encode(hashlib.sha256(spki).digest()).decode().lower().rstrip("=")


def connect(port: int, source: str = "127.0.0.1", buffer: int = 0) -> socket.socket:
    """A TCP connection to a port of this machine, from any of its loopback addresses.

    Args:
        port: where to.
        source: where from.
        buffer: bytes that the system takes while nobody reads them; 0 for what is usual.
    """
    sock = socket.socket()
    if buffer:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.settimeout(PATIENCE)
    try:
        sock.bind((source, 0))
        sock.connect(("127.0.0.1", port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except BaseException:
        sock.close()
        raise
    return sock


def source(index: int) -> str:
    """One of 16 million loopback addresses; 127.0.0.1 is none of them."""
    return f"127.{1 + (index >> 16)}.{index >> 8 & 255}.{1 + index % 254}"


def half_a_handshake(sock: socket.socket) -> None:
    """Begin TLS, let the other side do its part, and fall silent."""
    connection = SSL.Connection(client_context(), None)
    connection.set_connect_state()
    with suppress(SSL.WantReadError):
        connection.do_handshake()
    sock.sendall(connection.bio_read(65536))
    sock.recv(1)


def client_hello() -> bytes:
    """What a client says first in TLS."""
    connection = SSL.Connection(client_context(), None)
    connection.set_connect_state()
    with suppress(SSL.WantReadError):
        connection.do_handshake()
    return bytes(connection.bio_read(65536))


def reset(sock: socket.socket) -> None:
    """Close a connection with a reset."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


class Refused(ConnectionError):
    """The node does not let a peer in; ``reason`` is the number that it gives, if it gives one."""

    def __init__(self, reason: int | None) -> None:
        super().__init__(f"refused: {name_of(reason)}")
        self.reason = reason


class Plain:
    """A connection without TLS that behaves as one of OpenSSL's."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def set_connect_state(self) -> None:
        """Nothing to do."""

    def do_handshake(self) -> None:
        """Nothing to do."""

    def send(self, data: bytes) -> int:
        try:
            return self._sock.send(data)
        except BlockingIOError:
            raise SSL.WantWriteError from None
        except OSError as error:
            raise SSL.SysCallError from error

    def recv(self, size: int) -> bytes:
        try:
            data = self._sock.recv(size)
        except BlockingIOError:
            raise SSL.WantReadError from None
        except OSError as error:
            raise SSL.SysCallError from error
        if not data:
            raise SSL.ZeroReturnError
        return data


class Peer:
    """A peer that speaks TLS and, if it is asked to, the rest of the protocol too.

    Args:
        port: where the node listens.
        source: the address it comes from.
        context: made by :func:`client_context`; a new one if not given. :class:`Plain` for no TLS.
        greeting: its hello; empty to say none.
        buffer: bytes that the system takes while nobody reads them; 0 for what is usual.
    """

    def __init__(
        self,
        port: int,
        source: str = "127.0.0.1",
        context: SSL.Context | type[Plain] | None = None,
        greeting: bytes = hello(),
        buffer: int = 0,
    ) -> None:
        context = context or client_context()
        self.sock = connect(port, source, buffer)
        self._buffer = b""
        self._asked = 0
        self.welcome: dict[int, Any] = {}
        self.sock.setblocking(False)
        self.tls: Any = Plain(self.sock) if isinstance(context, type) else SSL.Connection(context, self.sock)
        self.tls.set_connect_state()
        try:
            self.call(self.tls.do_handshake)
            if greeting:
                self.send(greeting)
                kind, self.welcome = body(answer := self.receive())
                if kind != HELLO:
                    raise Refused(reason_of(answer))
        except BaseException:
            self.sock.close()
            raise

    @property
    def session(self) -> int:
        """The node's number for its side of the session; 0 if it keeps none."""
        return int.from_bytes(self.welcome.get(10, b""), "little")

    @property
    def resumed(self) -> bool:
        """Whether the node goes on with a session that it remembers."""
        return any(self.welcome.get(11, b""))

    @property
    def over(self) -> bool:
        """Whether the node has ended the connection. What it has said before can still be received."""
        try:
            while True:
                self._buffer += self.tls.recv(65536)
        except (SSL.WantReadError, SSL.WantWriteError):
            return False
        except SSL.Error:
            return True

    def send(self, data: bytes) -> None:
        """Put bytes into the stream; waits until they are taken."""
        while data:
            data = data[self.call(self.tls.send, data[:65536]) :]

    def receive(self) -> bytes:
        """The next packet."""
        while True:
            packet = self._take()
            if packet is not None:
                return packet
            self._buffer += self.call(self.tls.recv, 65536)

    def pending(self) -> list[bytes]:
        """The packets that have come and were not received yet. Does not wait."""
        with suppress(SSL.Error):
            while True:
                self._buffer += self.tls.recv(65536)
        return list(iter(self._take, None))

    def _take(self) -> bytes | None:
        """The next packet, if all of it is there."""
        try:
            length, start = read_varint(self._buffer, 0)
        except ValueError:
            return None
        if len(self._buffer) < start + length:
            return None
        packet, self._buffer = self._buffer[start : start + length], self._buffer[start + length :]
        return packet

    def echo(self) -> float:
        """The seconds that the answer to a heartbeat takes."""
        self._asked += 1
        wanted = number(REPLY_TO, self._asked)
        began = time.perf_counter()
        self.send(heartbeat(self._asked))
        while wanted not in self.receive():
            continue
        return time.perf_counter() - began

    def reason(self) -> int | None:
        """Read until the connection is over. Returns the reason that the node has given, if it has."""
        reason = None
        with suppress(ConnectionError):
            while reason is None:
                reason = reason_of(self.receive())
        return reason

    def say_goodbye(self) -> None:
        """Leave as one should, so that nobody waits for this peer to come back."""
        with suppress(ConnectionError):
            self.send(disconnect())
            self.reason()
        self.close()

    def close(self) -> None:
        """Leave."""
        self.sock.close()

    def call(self, function: Any, *arguments: Any) -> Any:
        """Call something of OpenSSL's, and wait for the socket when it has to.

        Raises:
            ConnectionError: the connection is over.
            TimeoutError: nothing happens.
        """
        while True:
            try:
                return function(*arguments)
            except SSL.WantReadError:
                self._wait(select.POLLIN)
            except SSL.WantWriteError:
                self._wait(select.POLLOUT)
            except SSL.Error as error:
                raise ConnectionError("the connection is over") from error

    def _wait(self, event: int) -> None:
        waiting = select.poll()  # select() knows the first 1024 descriptors only
        waiting.register(self.sock, event)
        if not waiting.poll(1000 * PATIENCE):
            raise TimeoutError("nothing happens")


def is_over(sock: socket.socket) -> bool:
    """Whether the other side has ended a connection. Drops what it has said."""
    sock.setblocking(False)
    try:
        while sock.recv(65536):
            continue
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True
