"""Mutual TLS 1.3 over a TCP transport, through pyOpenSSL.

The standard library's ``ssl`` has no verify callback and cannot read an unknown
self-signed client certificate, so it cannot serve peers who are known by their key.

OpenSSL keeps the number of the file descriptor. After ``close()`` the number may
belong to another socket, so nothing may use the connection after that: see
:class:`~peernet.transport.base.Transport` for who closes and when.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from OpenSSL import SSL

from peernet.errors import HandshakeError, TransportError
from peernet.peers.identity import Identity, identifier_of
from peernet.transport import openssl
from peernet.transport.base import RECORD_SIZE
from peernet.transport.tcp import TcpTransport

SHORT_RECORD = 2 * 1024
# Those of the two types of key that peers use (peernet.peers.identity): nobody is asked for what would be refused.
SIGNATURES = ("ed25519", "ecdsa_secp256r1_sha256")

# A node that has no room, or blocks an address, hangs up before it says a word.
HUNG_UP = "the other side hung up during the TLS handshake: it may be busy, or block this address, or not speak TLS"


class TlsContext:
    """What all TLS connections of one identity share."""

    def __init__(self, identity: Identity) -> None:
        context = SSL.Context(SSL.TLS_METHOD)
        context.set_min_proto_version(SSL.TLS1_3_VERSION)
        context.use_certificate(identity.certificate)
        context.use_privatekey(identity.private_key)
        context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, _accept_key)
        context.set_verify_depth(0)  # whoever has signed a certificate, nobody checks with what key
        context.set_mode(SSL.MODE_RELEASE_BUFFERS)  # an idle connection needs no record buffers
        # A resumed session would prove possession of a ticket, not of the key.
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        # Nothing is decompressed for somebody who has not proven who they are.
        context.set_options(SSL.OP_NO_TICKET | openssl.NO_CERTIFICATE_COMPRESSION)
        openssl.accept_only(context, SIGNATURES)
        self._context = context

    def wrap(self, tcp: TcpTransport, *, dialled: bool) -> TlsTransport:
        """Do the handshake over a connected transport; waits, so bound it from outside.

        On failure the TCP transport is left for the caller to close.

        Raises:
            TransportError: the other side does not speak TLS 1.3 with a certificate, or left.
            IdentityError: its key is of a type that peers do not use.
        """
        connection = SSL.Connection(self._context, tcp.socket)
        if dialled:
            connection.set_connect_state()
        else:
            connection.set_accept_state()
        _handshake(connection, tcp)
        return TlsTransport(connection, tcp)


class TlsTransport:
    """A TLS connection as a :class:`~peernet.transport.base.Transport`. It owns the TCP transport."""

    def __init__(self, connection: SSL.Connection, tcp: TcpTransport) -> None:
        self._connection = connection
        self._tcp = tcp
        self.drained = False  # records may have come with the handshake
        self._ended = False
        self.remote = tcp.remote
        certificate = connection.get_peer_certificate(as_cryptography=True)
        if certificate is None:
            raise HandshakeError("the other side showed no certificate")
        self.identifier: str | None = identifier_of(certificate.public_key())

    def recv(self) -> bytes:
        data: bytes = self._read(self._connection.recv, RECORD_SIZE) or b""
        # After a short record there is seldom another one; asking at once would cost a
        # failing read per round trip, waiting costs a stream of them one pass of the loop.
        self.drained = len(data) < SHORT_RECORD
        return data

    def recv_into(self, buffer: memoryview) -> int:
        # pyOpenSSL reads through a buffer of its own, which need not be larger than a record.
        filled: int = self._read(self._connection.recv_into, buffer, RECORD_SIZE) or 0
        while 0 < filled < len(buffer):
            try:
                filled += self._connection.recv_into(buffer[filled:], RECORD_SIZE)
            except SSL.Error as error:
                self.drained = isinstance(error, SSL.WantReadError)
                self._ended = _is_end(error)
                break  # any other error comes up again at the next read
        return filled

    def send(self, data: bytes | memoryview) -> int:
        if self._tcp.closed:
            raise TransportError("the connection is closed")
        try:
            return self._connection.send(data)
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

    def _read(self, read: Callable[..., Any], *arguments: Any) -> Any:
        """What ``read(*arguments)`` returns, as soon as it can; ``None`` at the end of the stream."""
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


def _handshake(connection: SSL.Connection, tcp: TcpTransport) -> None:
    while True:
        try:
            connection.do_handshake()
            return
        except SSL.WantReadError:
            tcp.wait_readable()
        except SSL.WantWriteError:
            tcp.wait_writable()
        except SSL.Error as error:
            if _is_end(error) or isinstance(error, SSL.SysCallError):
                raise TransportError(HUNG_UP) from error
            raise HandshakeError(f"the TLS handshake failed: {_text(error)}") from error


def _accept_key(connection: SSL.Connection, certificate: Any, error: int, depth: int, ok: int) -> bool:
    """Accept any certificate whose key is of an accepted type, before its signature is checked.

    Who is trusted is decided from the key's identifier, after the handshake has
    proven its possession; issuer, names and dates say nothing here.
    """
    if depth == 0:
        try:
            identifier_of(certificate.to_cryptography().public_key())
        except Exception:  # whatever is wrong with it: cryptography has errors of many kinds for that
            return False
    return True


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
