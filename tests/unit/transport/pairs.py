"""Connected pairs of transports of every sort."""

from __future__ import annotations

from collections.abc import Callable

import gevent
from gevent import socket

from peernet.peers.address import PeerAddress
from peernet.peers.identity import Identity
from peernet.transport.base import Transport
from peernet.transport.memory import memory_pair
from peernet.transport.openssl import DirectCalls, MakesCalls, MethodCalls
from peernet.transport.tcp import TcpTransport, dial, listen
from peernet.transport.tls import TlsContext
from tests.support import scaled

ALICE, BOB = Identity.generate(), Identity.generate()
HERE = PeerAddress("127.0.0.1", 0)


def tcp_pair() -> tuple[TcpTransport, TcpTransport]:
    """The dialling and the listening end of a loopback connection."""
    listener = listen(HERE)
    try:
        dialled = dial(PeerAddress("127.0.0.1", listener.getsockname()[1]))
        sock, remote = listener.accept()
    finally:
        listener.close()
    return dialled, TcpTransport(sock, remote)


def socket_and_transport() -> tuple[socket.socket, TcpTransport]:
    """A bare socket, for a peer that does not play by the rules, and the listening end of its connection."""
    listener = listen(HERE)
    try:
        sock = socket.create_connection(listener.getsockname())
        accepted, remote = listener.accept()
    finally:
        listener.close()
    return sock, TcpTransport(accepted, remote)


def tls_pair(one: Identity = ALICE, other: Identity = BOB) -> tuple[Transport, Transport]:
    """The same, after the TLS handshake."""
    return secured(tcp_pair(), one, other)


def memory_tls_pair(one: Identity = ALICE, other: Identity = BOB) -> tuple[Transport, Transport]:
    """The same without a socket, as streams through a third peer will be."""
    return secured(memory_pair(), one, other)


def method_tls_pair() -> tuple[Transport, Transport]:
    """The same where pyOpenSSL's methods are called, as with versions of it that are not known."""
    return secured(tcp_pair(), calls=MethodCalls)


def secured(
    pair: tuple[Transport, Transport], one: Identity = ALICE, other: Identity = BOB, calls: MakesCalls = DirectCalls
) -> tuple[Transport, Transport]:
    """Two connected ends after the TLS handshake; the dialling one first."""
    wrapping = gevent.spawn(TlsContext(one, calls).wrap, pair[0], dialled=True)
    listening = TlsContext(other, calls).wrap(pair[1], dialled=False)
    return wrapping.get(timeout=scaled(5)), listening


def nested_tls_pair() -> tuple[Transport, Transport]:
    """TLS over TLS, as through a relay that is reached by TLS itself."""
    return secured(tls_pair(BOB, ALICE))


PAIRS: dict[str, Callable[[], tuple[Transport, Transport]]] = {
    "memory": memory_pair,
    "tcp": tcp_pair,
    "tls": tls_pair,
    "tls-by-methods": method_tls_pair,
    "tls-over-memory": memory_tls_pair,
    "tls-over-tls": nested_tls_pair,
}


def send_all(transport: Transport, data: bytes) -> None:
    """Send everything, waiting whenever the transport takes nothing."""
    rest = memoryview(data)
    while rest:
        rest = rest[transport.send(rest) :]
        if rest:
            writable = gevent.event.Event()
            transport.when_writable(writable.set)
            assert writable.wait(scaled(5))


def receive(transport: Transport, size: int) -> bytes:
    """Exactly ``size`` bytes."""
    data = bytearray()
    with gevent.Timeout(scaled(10)):
        while len(data) < size:
            chunk = transport.recv()
            assert chunk, f"the stream ended after {len(data)} of {size} bytes"
            data += chunk
    return bytes(data)


def receive_rest(transport: Transport) -> bytes:
    """Everything until the end of the stream."""
    with gevent.Timeout(scaled(10)):
        return b"".join(iter(transport.recv, b""))


def fill(transport: Transport) -> int:
    """Send until nothing more is taken. Returns how many bytes were."""
    block = bytes(64 * 1024)
    total = 0
    while count := transport.send(block):
        total += count
    return total
