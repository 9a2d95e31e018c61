"""Bare gevent sockets, with and without pyOpenSSL: the floor under peernet's own transports."""

from __future__ import annotations

from typing import Any

import gevent
from gevent import pool, socket

from tools.bench.child import Side
from tools.bench.framing import read_batches
from tools.bench.memory import measure_idle
from tools.bench.systems.raw_blocking import echo, ping, receive_flow, send_flow


class PlainWire:
    def __init__(self, sock: Any) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sendall = sock.sendall
        self.recv = sock.recv
        self.recv_into = sock.recv_into


class TlsWire:
    """pyOpenSSL on a gevent socket: every call is tried first and waits only when it must."""

    def __init__(self, sock: Any, *, server: bool, context: Any = None) -> None:
        from OpenSSL import SSL

        from tools.bench.tlskit import make_context

        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._ssl = SSL
        loop = gevent.get_hub().loop
        # Watchers are kept, as gevent's own sockets keep theirs.
        self._readable = loop.io(sock.fileno(), 1)
        self._writable = loop.io(sock.fileno(), 2)
        self._connection = SSL.Connection(context or make_context(), sock)
        (self._connection.set_accept_state if server else self._connection.set_connect_state)()
        self._patiently(self._connection.do_handshake)

    def _patiently(self, call: Any, *args: Any) -> Any:
        while True:
            try:
                return call(*args)
            except self._ssl.WantReadError:
                socket.wait(self._readable)
            except self._ssl.WantWriteError:
                socket.wait(self._writable)

    def recv(self, size: int) -> bytes:
        try:
            return self._patiently(self._connection.recv, size)
        except (self._ssl.ZeroReturnError, self._ssl.SysCallError):
            return b""

    def recv_into(self, buffer: memoryview) -> int:
        return self._patiently(self._connection.recv_into, buffer)

    def sendall(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[self._patiently(self._connection.send, view) :]


def _listener() -> Any:
    """gevent.socket.create_server() is the standard library's and makes a blocking socket."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(512)
    return listener


class Gevent:
    def __init__(self, *, secure: bool) -> None:
        self._secure = secure

    def _accept(self, side: Side) -> PlainWire | TlsWire:
        listener = _listener()
        side.ready(listener.getsockname())
        sock, _ = listener.accept()
        return TlsWire(sock, server=True) if self._secure else PlainWire(sock)

    def _dial(self, side: Side) -> PlainWire | TlsWire:
        sock = socket.create_connection(tuple(side.address()))
        return TlsWire(sock, server=False) if self._secure else PlainWire(sock)

    def listen_small(self, side: Side) -> None:
        wire = self._accept(side)
        receive_flow(side, read_batches(wire.recv, wire.recv_into))
        side.hold(gevent.sleep)

    def dial_small(self, side: Side) -> None:
        wire = self._dial(side)  # kept: a collected connection resets the stream
        send_flow(side, wire.sendall)
        side.hold(gevent.sleep)

    listen_bulk = listen_small
    dial_bulk = dial_small

    def listen_rtt(self, side: Side) -> None:
        wire = self._accept(side)
        echo(wire.sendall, read_batches(wire.recv, wire.recv_into))

    def dial_rtt(self, side: Side) -> None:
        wire = self._dial(side)
        ping(side, wire.sendall, read_batches(wire.recv, wire.recv_into))
        side.hold(gevent.sleep)

    def listen_idle(self, side: Side) -> None:
        """One greenlet per connection, waiting for a frame: what any node of this kind must hold."""
        from tools.bench.tlskit import make_context

        context, wires = make_context(release_buffers=True), []
        listener = _listener()

        def serve(sock: Any) -> None:
            wire = TlsWire(sock, server=True, context=context)
            wires.append(wire)
            for _ in read_batches(wire.recv, wire.recv_into):
                pass

        def accept() -> None:
            while True:
                gevent.spawn(serve, listener.accept()[0])

        gevent.spawn(accept)
        side.ready(listener.getsockname())
        measure_idle(side, lambda: len(wires))

    def dial_idle(self, side: Side) -> None:
        from tools.bench.memory import dial_in_two_steps
        from tools.bench.tlskit import make_context

        address, context = tuple(side.address()), make_context()

        def dial() -> TlsWire:
            return TlsWire(socket.create_connection(address), server=False, context=context)

        kept = dial_in_two_steps(side, dial, pool.Pool(32))
        side.hold(gevent.sleep)
        kept.clear()


PLAIN = Gevent(secure=False)
TLS = Gevent(secure=True)
