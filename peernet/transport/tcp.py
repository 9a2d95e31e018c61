"""Plain TCP on gevent sockets; and the dialling and listening that TLS shares."""

from __future__ import annotations

import array
import errno
import struct
import sys
from collections.abc import Callable
from typing import Any

import gevent
import gevent.event
from gevent import socket
from gevent.exceptions import ConcurrentObjectUseError

from peernet.errors import ConnectError, ListenError, TransportError
from peernet.peers.address import PeerAddress
from peernet.runtime.forks import close_in_children
from peernet.transport.base import READ_SIZE

try:
    import fcntl
    import termios
except ImportError:  # Windows: unread() knows nothing there
    fcntl = None  # type: ignore[assignment]

BACKLOG = 1024
# Data that nobody acknowledges for this long means the other end is gone, even if
# it never says so. Milliseconds (RFC 5482).
USER_TIMEOUT = 20_000
# What a Linux socket uses, and may use, for bytes that are not read (asm-generic/socket.h); other systems do not tell.
SO_MEMINFO = 55 if sys.platform == "linux" else None
# A window was closed with 80 % of that in use or more (measured). From a quarter on it may be.
CROWDED = 4
# States of a Linux socket (tcp_states.h): CLOSE, CLOSE_WAIT, LAST_ACK.
_OTHER_END_LEFT = frozenset({7, 8, 9})


class TcpTransport:
    """A connected socket as a :class:`~peernet.transport.base.Transport`. It owns the socket."""

    identifier: str | None = None

    def __init__(self, sock: socket.socket, remote: tuple[str, int]) -> None:
        self.socket = sock
        self.remote = remote
        self._readable: Any = None
        self._writable: Any = None
        self._when_writable: tuple[Callable[[], None], ...] = ()
        self.drained = True  # the last read took all there was
        self.closed = False
        close_in_children(sock)
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT)

    def peek(self, count: int) -> bytes:
        """At most ``count`` of the bytes that have arrived, which stay to be read; never waits."""
        try:
            return self.socket.recv(count, socket.MSG_PEEK)
        except OSError:
            return b""

    def recv(self) -> bytes:
        while True:  # ends with bytes, the end or an error: it goes round only when it was woken for nothing
            # Asking first would cost a failing system call per message on a quiet connection.
            if self.drained:
                self.wait_readable()
            try:
                data: bytes = self.socket.recv(READ_SIZE)
            except BlockingIOError:
                self.drained = True
                continue
            except OSError as error:
                raise broken(error) from error
            self.drained = len(data) < READ_SIZE
            return data

    def recv_into(self, buffer: memoryview) -> int:
        while True:
            if self.drained:
                self.wait_readable()
            try:
                count: int = self.socket.recv_into(buffer)
            except BlockingIOError:
                self.drained = True
                continue
            except OSError as error:
                raise broken(error) from error
            self.drained = count < len(buffer)
            return count

    def send(self, data: bytes | memoryview) -> int:
        if self.closed:
            raise TransportError("the connection is closed")
        try:
            return self.socket.send(data)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise broken(error) from error

    def unread(self) -> int:
        if self.closed or fcntl is None:
            return 0
        count = array.array("i", [0])
        fcntl.ioctl(self.socket.fileno(), termios.FIONREAD, count)
        return count[0]

    def crowded(self) -> bool:
        if self.closed or SO_MEMINFO is None:
            return not self.closed
        used, room = struct.unpack("2I", self.socket.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, 8))
        return bool(CROWDED * used >= room)

    def ended(self) -> bool:
        try:
            return self.closed or self._other_end_left() or self.socket.recv(1, socket.MSG_PEEK) == b""
        except BlockingIOError:
            return False
        except OSError:
            return True

    def wait_readable(self) -> None:
        """Wait until the socket has bytes, or its end.

        :func:`gevent.socket.wait` would check also what ended the wait. Here whoever is woken too early finds nothing
        to read, and waits again.

        Raises:
            ConcurrentObjectUseError: another greenlet waits already.
        """
        hub = gevent.get_hub()
        if self._readable is None:
            self._readable = hub.loop.io(self.socket.fileno(), 1)
        watcher = self._readable
        if watcher.callback is not None:
            raise ConcurrentObjectUseError("another greenlet waits for this connection")
        watcher.start(gevent.getcurrent().switch)
        try:
            hub.switch()
        finally:
            watcher.stop()

    def wait_writable(self) -> None:
        """Wait until the socket takes bytes."""
        event = gevent.event.Event()
        self.when_writable(event.set)
        event.wait()

    def when_writable(self, callback: Callable[[], None]) -> None:
        if self._writable is None:
            self._writable = gevent.get_hub().loop.io(self.socket.fileno(), 2)
        if not self._when_writable:
            self._writable.start(self._tell_writable)
        self._when_writable = (*self._when_writable, callback)

    def _tell_writable(self) -> None:
        self._writable.stop()
        callbacks, self._when_writable = self._when_writable, ()
        for callback in callbacks:
            callback()

    def finish_writing(self) -> None:
        self._shutdown(socket.SHUT_WR)

    def abort(self) -> None:
        self._shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        for watcher in (self._readable, self._writable):
            if watcher is not None:
                watcher.stop()
                watcher.close()
        self._readable = self._writable = None
        self.socket.close()

    def _other_end_left(self) -> bool:
        """Whether the system has seen the end of the stream, which a peek sees only behind all unread bytes."""
        if not hasattr(socket, "TCP_INFO"):
            return False
        return self.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] in _OTHER_END_LEFT

    def _shutdown(self, how: int) -> None:
        if not self.closed:
            try:
                self.socket.shutdown(how)
            except OSError:
                return  # the other end was faster


def dial(address: PeerAddress) -> TcpTransport:
    """Connect to an address; waits as long as the system does, so bound it from outside.

    Raises:
        ConnectError: the name is unknown, nobody listens, or the network is not reachable.
    """
    sock = None
    try:
        sock = _connect(address)
        return TcpTransport(sock, host_and_port(sock.getpeername()))
    except OSError as error:
        if sock is not None:
            sock.close()
        raise ConnectError(f"cannot reach {address.endpoint}: {describe(error)}") from error


def _connect(address: PeerAddress) -> socket.socket:
    """A socket that is connected to the first that answers of the places which an address names."""
    refused: OSError | None = None
    for family, kind, proto, _, where in socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM):
        sock = None
        try:
            sock = new_socket(family, kind, proto)
            sock.connect(where)
            return sock
        except BaseException as error:
            if sock is not None:
                sock.close()
            if not isinstance(error, OSError):
                raise
            refused = error
    raise refused or OSError(f"there is no address of {address.host}")


def new_socket(family: int, kind: int, proto: int = 0) -> socket.socket:
    """A socket of peernet's own, whatever timeout the program has chosen for its own sockets."""
    sock = socket.socket(family, kind, proto)
    close_in_children(sock)
    sock.settimeout(None)
    return sock


def host_and_port(name: tuple[Any, ...]) -> tuple[str, int]:
    """Host and port of a socket's name; a link-local IPv6 host with its zone, without which it leads nowhere."""
    zone = name[3] if len(name) == 4 else 0
    return (f"{name[0]}%{zone}" if zone else name[0]), name[1]


def listen(address: PeerAddress) -> socket.socket:
    """A listening socket.

    Raises:
        ListenError: the port is taken, or the address is not this machine's.
    """
    try:
        family, kind, proto, _, where = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        sock = new_socket(family, kind, proto)
    except OSError as error:
        raise ListenError(f"cannot listen on {address.endpoint}: {describe(error)}") from error
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(where)
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise ListenError(f"cannot listen on {address.endpoint}: {describe(error)}") from error
    return sock


_ADVICE = {
    errno.ECONNREFUSED: "nobody listens there; check the port, and that the peer is running",
    errno.EADDRINUSE: "the port is in use; choose another, or 0 to let the system choose",
    errno.EADDRNOTAVAIL: "the address is not one of this machine's",
    errno.EACCES: "not permitted; ports below 1024 need privileges",
}


def describe(error: OSError) -> str:
    """What an OS error means for the one who has to act on it."""
    if isinstance(error, socket.gaierror):
        return f"{error.strerror or error}; check the name of the host"
    return _ADVICE.get(error.errno or 0) or error.strerror or str(error)


def broken(error: OSError) -> TransportError:
    """The error for a connection that broke."""
    return TransportError(f"the connection broke: {describe(error)}")
