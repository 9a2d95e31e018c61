"""What OpenSSL can and pyOpenSSL does not offer in public: the only module that uses pyOpenSSL's private names.

Everything here says what happens where a version of pyOpenSSL has not got the private name.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn, Protocol

from OpenSSL import SSL

from peernet.transport.base import RECORD_SIZE

try:
    from OpenSSL import _util
except ImportError:  # a version that has moved it: nothing private is used then
    _util = None  # type: ignore[assignment]

# cffi, and the OpenSSL that pyOpenSSL itself calls. There is no second one whose version could differ.
_ffi: Any = getattr(_util, "ffi", None)
_lib: Any = getattr(_util, "lib", None)

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
    set_list = getattr(_lib, "SSL_CTX_set1_sigalgs_list", None)
    handle = getattr(context, "_context", None)
    if not set_list or not handle:
        return False
    done: bool = set_list(handle, ":".join(signatures).encode()) == 1
    _lib.ERR_clear_error()  # what is left in this thread's queue could pass for the failure of a later call
    return done


def agree_with(context: SSL.Context, choices: tuple[str, ...]) -> str:
    """Agree on keys with no other groups than these.

    Args:
        context: of the connections that are made from now on.
        choices: lists as in ``SSL_CTX_set1_groups_list(3)``; a later one is for versions that do not know the earlier.

    Returns:
        The list that is used. It is empty where none could be said; OpenSSL uses all groups that it knows then, the
        hybrid with ML-KEM first if it has that.
    """
    set_list = getattr(_lib, "SSL_CTX_set1_curves_list", None)  # the older name of the same
    handle = getattr(context, "_context", None)
    if not set_list or not handle:
        return ""
    used = next((groups for groups in choices if set_list(handle, groups.encode()) == 1), "")
    _lib.ERR_clear_error()  # as above
    return used


class Calls(Protocol):
    """Reading and writing the content of a connection. Every method raises what pyOpenSSL raises."""

    def recv(self) -> bytes:
        """The next bytes, from one record."""

    def recv_into(self, buffer: memoryview) -> int:
        """The same, into a buffer. Returns how many bytes. ``TypeError`` or ``BufferError`` if it is read-only."""

    def send(self, data: bytes | memoryview) -> int:
        """Write some of the bytes; there must be some. Returns how many were written, one at least."""


MakesCalls = Callable[[SSL.Connection], Calls]


class MethodCalls:
    """Calls of pyOpenSSL's methods, for versions of it with which :class:`DirectCalls` does not work."""

    __slots__ = ("_connection", "send")

    def __init__(self, connection: SSL.Connection) -> None:
        self._connection = connection
        self.send = connection.send

    def recv(self) -> bytes:
        return self._connection.recv(RECORD_SIZE)

    def recv_into(self, buffer: memoryview) -> int:
        # It reads through a buffer of its own, which need not be larger than a record.
        return self._connection.recv_into(buffer, RECORD_SIZE)


# Where OpenSSL puts what it has read, until it is copied from there. Each read takes one out of the list and puts it
# back: so none is ever used twice at a time, neither by another thread, as OpenSSL runs without the interpreter's
# lock, nor by a signal handler. There are as many as threads have been reading at the same moment.
_spare: list[tuple[Any, Any]] = []


def _new_buffer() -> tuple[Any, Any]:
    """A buffer for a record: the pointer for OpenSSL, and its content."""
    pointer = _ffi.new("char[]", RECORD_SIZE)
    return pointer, _ffi.buffer(pointer)


class DirectCalls:
    """Calls of OpenSSL's functions, for a third of the instructions that pyOpenSSL's methods take.

    Those make a new buffer for each read, and look for errors where none can be. What went wrong is still asked by
    pyOpenSSL's own function, at once: any call of OpenSSL in between could change the answer (SSL_get_error(3)).
    """

    __slots__ = ("_connection", "_ssl")

    def __init__(self, connection: SSL.Connection) -> None:
        self._connection: Any = connection  # pyOpenSSL frees the handle when nobody has it
        self._ssl = self._connection._ssl

    def recv(self) -> bytes:
        try:
            buffer = _take()
        except IndexError:
            buffer = _new_buffer()
        count = _read(self._ssl, buffer[0], RECORD_SIZE)
        if count <= 0:
            _give_back(buffer)
            self._fail(count)
        data: bytes = buffer[1][:count]
        _give_back(buffer)
        return data

    def recv_into(self, buffer: memoryview) -> int:
        count: int = _read(self._ssl, _from_buffer(buffer, require_writable=True), len(buffer))
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


_take, _give_back = _spare.pop, _spare.append
_from_buffer: Any = getattr(_ffi, "from_buffer", None)
_read: Any = getattr(_lib, "SSL_read", None)
_write: Any = getattr(_lib, "SSL_write", None)


def can_call_directly() -> bool:
    """Whether :class:`DirectCalls` works with this version of pyOpenSSL: each of its calls is tried."""
    connection = SSL.Connection(SSL.Context(SSL.TLS_METHOD), None)
    connection.set_accept_state()
    try:
        calls = DirectCalls(connection)
        tries = (calls.recv, partial(calls.recv_into, memoryview(bytearray(1))), partial(calls.send, b"1"))
        return all(_wants_to_read(call) for call in tries)
    except (AttributeError, TypeError, SSL.Error):
        return False


def _wants_to_read(call: Callable[[], object]) -> bool:
    """Whether a call says that there is nothing to read, as all must while nobody has begun a handshake."""
    try:
        call()
    except SSL.WantReadError:
        return True
    return False


CALLS: MakesCalls = DirectCalls if can_call_directly() else MethodCalls
"""How connections are read and written in this process."""
