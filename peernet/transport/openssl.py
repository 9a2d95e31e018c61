"""What OpenSSL can and pyOpenSSL does not offer in public: the only module that uses pyOpenSSL's private names.

Everything here says what happens where a version of pyOpenSSL has not got the private name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn, Protocol

from OpenSSL import SSL, _util

from peernet.transport.base import RECORD_SIZE

# SSL_OP_NO_TX_CERTIFICATE_COMPRESSION and SSL_OP_NO_RX_CERTIFICATE_COMPRESSION (openssl/ssl.h, since OpenSSL 3.2).
# Older versions have no compression of certificates, and ignore bits that they do not know.
NO_CERTIFICATE_COMPRESSION = 1 << 32 | 1 << 33


def accept_only(context: SSL.Context, signatures: tuple[str, ...]) -> bool:
    """Offer, and ask for, no other signatures than these.

    Args:
        context: of the connections that are made from now on.
        signatures: names as in ``SSL_CTX_set1_sigalgs_list(3)``.

    Returns:
        Whether it could be said. Where it cannot, OpenSSL goes on offering all that it knows.
    """
    library: Any = _util.lib
    set_list = getattr(library, "SSL_CTX_set1_sigalgs_list", None)
    handle = getattr(context, "_context", None)
    return bool(set_list and handle and set_list(handle, ":".join(signatures).encode()) == 1)


class ReadBuffer:
    """Where OpenSSL puts what it has read, until it is copied from there.

    One is enough for all connections of a thread. It must not be shared between threads: OpenSSL runs without the
    interpreter's lock.
    """

    __slots__ = ("content", "pointer")

    def __init__(self) -> None:
        self.pointer = _util.ffi.new("char[]", RECORD_SIZE)
        self.content = _util.ffi.buffer(self.pointer)


class Calls(Protocol):
    """Reading and writing the content of a connection. Every method raises what pyOpenSSL raises."""

    def recv(self) -> bytes:
        """The next bytes, from one record."""

    def recv_into(self, buffer: memoryview) -> int:
        """The same, into a buffer. Returns how many bytes."""

    def send(self, data: bytes | memoryview) -> int:
        """Write some of the bytes, one at least. Returns how many."""


MakesCalls = Callable[[SSL.Connection, ReadBuffer], Calls]


class MethodCalls:
    """Calls of pyOpenSSL's methods, for versions of it that :class:`DirectCalls` does not know."""

    __slots__ = ("_connection", "send")

    def __init__(self, connection: SSL.Connection, buffer: ReadBuffer) -> None:
        self._connection = connection
        self.send = connection.send

    def recv(self) -> bytes:
        return self._connection.recv(RECORD_SIZE)

    def recv_into(self, buffer: memoryview) -> int:
        # It reads through a buffer of its own, which need not be larger than a record.
        return self._connection.recv_into(buffer, RECORD_SIZE)


class DirectCalls:
    """Calls of OpenSSL's functions, for a third of the instructions that pyOpenSSL's methods take.

    Those make a new buffer for each read, and look for errors where none can be.
    """

    __slots__ = ("_buffer", "_connection", "_content", "_ssl")

    def __init__(self, connection: SSL.Connection, buffer: ReadBuffer) -> None:
        self._connection: Any = connection
        self._ssl = self._connection._ssl
        self._buffer = buffer.pointer
        self._content = buffer.content

    def recv(self) -> bytes:
        count = _read(self._ssl, self._buffer, RECORD_SIZE)
        if count <= 0:
            self._fail(count)
        return self._content[:count]  # type: ignore[no-any-return]

    def recv_into(self, buffer: memoryview) -> int:
        count: int = _read(self._ssl, _from_buffer(buffer), len(buffer))
        if count <= 0:
            self._fail(count)
        return count

    def send(self, data: bytes | memoryview) -> int:
        count: int = _write(self._ssl, _from_buffer(data), len(data))
        if count <= 0:
            self._fail(count)
        return count

    def _fail(self, result: int) -> NoReturn:
        self._connection._raise_ssl_error(self._ssl, result)
        raise SSL.Error([])  # it has not said why


def can_call_directly() -> bool:
    """Whether this version of pyOpenSSL has all the names that :class:`DirectCalls` uses."""
    connection = SSL.Connection(SSL.Context(SSL.TLS_METHOD), None)
    return all(hasattr(connection, name) for name in ("_ssl", "_raise_ssl_error")) and None not in (_read, _write)


_from_buffer: Any = _util.ffi.from_buffer
_read: Any = getattr(_util.lib, "SSL_read", None)
_write: Any = getattr(_util.lib, "SSL_write", None)

CALLS: MakesCalls = DirectCalls if can_call_directly() else MethodCalls
"""How connections are read and written in this process."""
