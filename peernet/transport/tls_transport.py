"""TLS connections as transports: over a socket, or over memory that another transport fills and empties."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import gevent
from OpenSSL import SSL

from peernet.errors import HandshakeError, TransportError
from peernet.peers.identity import identifier_of
from peernet.transport.base import RECORD_SIZE, Transport
from peernet.transport.foreign import BEGINNING, not_tls
from peernet.transport.openssl import Calls
from peernet.transport.tcp import TcpTransport

SHORT_RECORD = 2 * 1024
CLOSED = "the connection is closed"

# A node that has no room, or blocks an address, hangs up before it says a word.
HUNG_UP = "the other side hung up during the TLS handshake: it may be busy, or block this address, or not speak TLS"


class TlsStream(ABC):
    """What TLS connections have in common: the handshake, and reading.

    Args:
        connection: of OpenSSL.
        calls: for its content.

    Attributes:
        identifier: who is at the other end; ``None`` until the handshake is done.
    """

    def __init__(self, connection: SSL.Connection, calls: Calls) -> None:
        self._connection = connection
        self._calls = calls
        self.drained = False  # records may have come with the handshake
        self._ended = False
        self._beginning = b""  # of what the other side has sent
        self.identifier: str | None = None

    def shake_hands(self, *, dialled: bool) -> None:
        """Do the handshake, once, before anything else; waits, so bound it from outside.

        Raises:
            TransportError: the other side does not speak TLS 1.3 with a certificate, or left.
            IdentityError: its key is of a type that peers do not use.
        """
        if dialled:
            self._connection.set_connect_state()
        else:
            self._connection.set_accept_state()
        try:
            self._handshake()
        except SSL.Error as error:
            if _is_end(error) or isinstance(error, SSL.SysCallError):
                raise TransportError(HUNG_UP) from error
            raise HandshakeError(not_tls(self._beginning, _text(error))) from error
        certificate = self._connection.get_peer_certificate(as_cryptography=True)
        if certificate is None:
            raise HandshakeError("the other side showed no certificate")
        self.identifier = identifier_of(certificate.public_key())

    def recv(self) -> bytes:
        data: bytes = self._read(self._calls.recv) or b""
        # After a short record there is seldom another one; asking at once would cost a
        # failing read per round trip, waiting costs a stream of them one pass of the loop.
        self.drained = len(data) < SHORT_RECORD
        return data

    def recv_into(self, buffer: memoryview) -> int:
        filled: int = self._read(self._calls.recv_into, buffer) or 0
        while 0 < filled < len(buffer):
            try:
                filled += self._calls.recv_into(buffer[filled:])
            except SSL.Error as error:
                self.drained = isinstance(error, SSL.WantReadError)
                self._ended = _is_end(error)
                break  # any other error comes up again at the next read
        return filled

    @abstractmethod
    def _handshake(self) -> None:
        """Call ``do_handshake()`` until it is done. Raises what OpenSSL raises."""

    @abstractmethod
    def _read(self, read: Callable[..., Any], *arguments: Any) -> Any:
        """What ``read(*arguments)`` returns, as soon as it can; ``None`` at the end of the stream."""


class TlsTransport(TlsStream):
    """A TLS connection over a socket, as a :class:`~peernet.transport.base.Transport`. It owns the TCP transport.

    OpenSSL keeps the number of the file descriptor. After ``close()`` the number may belong to another socket, so
    nothing may use the connection after that: see :class:`~peernet.transport.base.Transport` for who closes and when.

    Args:
        connection: of OpenSSL, on the socket.
        calls: for its content.
        tcp: the transport of that socket.
    """

    def __init__(self, connection: SSL.Connection, calls: Calls, tcp: TcpTransport) -> None:
        super().__init__(connection, calls)
        self._tcp = tcp
        self.remote = tcp.remote

    def send(self, data: bytes | memoryview) -> int:
        if self._tcp.closed:
            raise TransportError(CLOSED)
        try:
            return self._calls.send(data)
        except (SSL.WantWriteError, SSL.WantReadError):
            return 0
        except SSL.Error as error:
            raise _broken(error) from error

    def unread(self) -> int:
        return self._tcp.unread()

    def crowded(self) -> bool:
        return self._tcp.crowded()

    def ended(self) -> bool:
        return self._tcp.ended()

    def when_writable(self, callback: Callable[[], None]) -> None:
        self._tcp.when_writable(callback)

    def finish_writing(self) -> None:
        if self._tcp.closed:
            return
        # close_notify is a courtesy: without room for it, the end of the stream says the same.
        with contextlib.suppress(SSL.Error):
            self._connection.shutdown()
        self._tcp.finish_writing()

    def abort(self) -> None:
        self._tcp.abort()

    def close(self) -> None:
        self._tcp.close()

    def _handshake(self) -> None:
        while True:  # ends: each message of the handshake comes once
            try:
                return self._connection.do_handshake()
            except SSL.WantReadError:
                self._tcp.wait_readable()
                self._beginning = self._beginning or self._tcp.peek(BEGINNING)
            except SSL.WantWriteError:
                self._tcp.wait_writable()

    def _read(self, read: Callable[..., Any], *arguments: Any) -> Any:
        while not self._ended:
            if self.drained:
                self._tcp.wait_readable()
                self.drained = False
            try:
                return read(*arguments)
            except SSL.WantReadError:
                self.drained = True
            except SSL.WantWriteError:
                self._tcp.wait_writable()
            except SSL.Error as error:
                if not _is_end(error):
                    raise _broken(error) from error
                self._ended = True
        return None


class BioTlsTransport(TlsStream):
    """A TLS connection over any transport, which it owns: OpenSSL works on memory (BIO_s_mem(3)).

    The back-pressure of the transport below passes through. It is read only when OpenSSL asks for more, and nothing
    is encrypted before it has taken all that was: one record at most waits here.

    Args:
        connection: of OpenSSL, without a socket.
        calls: for its content.
        below: connected; carries the records.
    """

    def __init__(self, connection: SSL.Connection, calls: Calls, below: Transport) -> None:
        super().__init__(connection, calls)
        self._below = below
        self._records = memoryview(b"")  # encrypted, and not taken by the transport below
        self._blocked = False  # it will call back
        self._when_writable: list[Callable[[], None]] = []
        self._broken = ""  # why nothing is carried any more
        self._finished = False  # writing
        self.remote = below.remote

    def send(self, data: bytes | memoryview) -> int:
        if self._finished or self._broken:
            raise TransportError(self._broken or CLOSED)
        rest = memoryview(data)
        while rest and not self._blocked:  # ends: every round encrypts some of it
            rest = rest[self._encrypt(rest[:RECORD_SIZE]) :]
            self._carry()
        return len(data) - len(rest)

    def unread(self) -> int:
        return self._below.unread()

    def crowded(self) -> bool:
        return self._below.crowded()

    def ended(self) -> bool:
        return self._ended or self._below.ended()

    def when_writable(self, callback: Callable[[], None]) -> None:
        if self._blocked:
            self._when_writable.append(callback)
        else:
            gevent.get_hub().loop.run_callback(callback)

    def finish_writing(self) -> None:
        if self._finished or self._broken:
            return
        self._finished = True
        with contextlib.suppress(SSL.Error, TransportError):
            self._connection.shutdown()
            if not self._carry():
                return  # the end follows when the last record has left
        self._below.finish_writing()

    def abort(self) -> None:
        self._broken = self._broken or CLOSED
        self._below.abort()

    def close(self) -> None:
        self._broken = self._broken or CLOSED
        self._below.close()

    def _handshake(self) -> None:
        while not self._is_handshake_done():  # ends: each message of the handshake comes once
            try:
                data = self._feed()
            except TransportError as error:
                raise TransportError(HUNG_UP) from error
            self._beginning = self._beginning or data[:BEGINNING]

    def _is_handshake_done(self) -> bool:
        try:
            self._connection.do_handshake()
            return True
        except SSL.WantReadError:
            return False
        finally:
            self._tell()

    def _read(self, read: Callable[..., Any], *arguments: Any) -> Any:
        while not self._ended:
            try:
                return read(*arguments)
            except SSL.WantReadError:
                self._feed()
            except SSL.Error as error:
                if not _is_end(error):
                    self._tell()
                    raise _broken(error) from error
                self._ended = True
        return None

    def _tell(self) -> None:
        """Send what OpenSSL has to say by itself: a message of the handshake, or an alert."""
        with contextlib.suppress(TransportError):  # it comes up again at the next read
            self._carry()

    def _feed(self) -> bytes:
        """Wait for bytes from the transport below, or its end, and give them to OpenSSL. Returns them."""
        data = self._below.recv()
        self.drained = False
        if data:
            self._connection.bio_write(data)
        else:
            self._connection.bio_shutdown()
        return data

    def _encrypt(self, data: memoryview) -> int:
        try:
            return self._calls.send(data)
        except SSL.Error as error:
            raise _broken(error) from error

    def _carry(self) -> bool:
        """Give what is encrypted to the transport below. Returns whether it has taken all of it."""
        while self._records or self._fetch():  # ends: every round shortens what is encrypted
            count = self._below.send(self._records)
            if not count:
                self._wait_for_room()
                return False
            self._records = self._records[count:]
        return True

    def _fetch(self) -> bool:
        """Take from OpenSSL what it has encrypted. Returns whether that is anything."""
        try:
            self._records = memoryview(self._connection.bio_read(2 * RECORD_SIZE))
        except SSL.WantReadError:
            return False
        return True

    def _wait_for_room(self) -> None:
        if not self._blocked:
            self._blocked = True
            self._below.when_writable(self._go_on)

    def _go_on(self) -> None:
        """The transport below may take bytes again. Runs in the hub, so it raises nothing."""
        self._blocked = False
        if not self._broken:
            try:
                if not self._carry():
                    return
                if self._finished:
                    self._below.finish_writing()
            except TransportError as error:
                self._broken = str(error)
        callbacks, self._when_writable = self._when_writable, []
        for callback in callbacks:
            callback()


def _is_end(error: SSL.Error) -> bool:
    """Whether the stream has ended, with TLS's own goodbye or without: peernet has its own."""
    if isinstance(error, SSL.SysCallError):
        return bool(error.args[0] == -1)
    return isinstance(error, SSL.ZeroReturnError) or "unexpected eof" in _text(error)


def _broken(error: SSL.Error) -> TransportError:
    return TransportError(f"the connection broke: {_text(error)}")


def _text(error: SSL.Error) -> str:
    """The reasons in an OpenSSL error, without its codes."""
    if isinstance(error, SSL.SysCallError):
        return str(error.args[-1]) if error.args else "the connection was reset"
    entries = error.args[0] if error.args else []
    return ", ".join(str(entry[-1]) for entry in entries) or "the other side gave up"
