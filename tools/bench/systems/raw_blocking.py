"""Bare blocking sockets, with and without pyOpenSSL: what the machine gives to plain code."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

from peernet.v1.packet_pb2 import Packet
from tools.bench.child import Side
from tools.bench.framing import CoalescingWriter, read_batches, varint
from tools.bench.workload import ping_packet, pong_packet


class PlainWire:
    def __init__(self, sock: socket.socket) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sendall = sock.sendall
        self.recv = sock.recv
        self.recv_into = sock.recv_into


class TlsWire:
    def __init__(self, sock: socket.socket, *, server: bool) -> None:
        from OpenSSL import SSL

        from tools.bench.tlskit import make_context

        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connection = SSL.Connection(make_context(), sock)
        self._eof = (SSL.ZeroReturnError, SSL.SysCallError)
        (self._connection.set_accept_state if server else self._connection.set_connect_state)()
        self._connection.do_handshake()
        self.sendall = self._connection.sendall
        self.recv_into = self._connection.recv_into

    def recv(self, size: int) -> bytes:
        try:
            return self._connection.recv(size)
        except self._eof:
            return b""


class Blocking:
    def __init__(self, *, secure: bool) -> None:
        self._secure = secure

    def _accept(self, side: Side) -> PlainWire | TlsWire:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            side.ready(listener.getsockname())
            sock, _ = listener.accept()
        return TlsWire(sock, server=True) if self._secure else PlainWire(sock)

    def _dial(self, side: Side) -> PlainWire | TlsWire:
        sock = socket.create_connection(tuple(side.address()))
        return TlsWire(sock, server=False) if self._secure else PlainWire(sock)

    def listen_small(self, side: Side) -> None:
        wire = self._accept(side)
        receive_flow(side, read_batches(wire.recv, wire.recv_into))
        side.hold()

    def dial_small(self, side: Side) -> None:
        wire = self._dial(side)  # kept: a collected connection resets the stream
        send_flow(side, wire.sendall)
        side.hold()

    listen_bulk = listen_small
    dial_bulk = dial_small

    def listen_rtt(self, side: Side) -> None:
        wire = self._accept(side)
        echo(wire.sendall, read_batches(wire.recv, wire.recv_into))

    def dial_rtt(self, side: Side) -> None:
        wire = self._dial(side)
        ping(side, wire.sendall, read_batches(wire.recv, wire.recv_into))
        side.hold()


# Shared with raw_gevent: the same synchronous code, on another kind of socket.


def send_flow(side: Side, sendall: Any) -> None:
    writer = CoalescingWriter(sendall)
    make = side.load.packet
    for batch in side.flow().batches():
        for item in batch:
            writer.write(make(item).SerializeToString())
    writer.flush()


def receive_flow(side: Side, batches: Iterator[list[bytes | memoryview]]) -> None:
    tally, parse = side.tally(), Packet.FromString
    for frames in batches:
        for frame in frames:
            tally(None, parse(frame))
        if tally.done:
            return


def echo(sendall: Any, batches: Iterator[list[bytes | memoryview]]) -> None:
    for frames in batches:
        for frame in frames:
            sendall(framed(pong_packet(Packet.FromString(frame))))


def ping(side: Side, sendall: Any, batches: Iterator[list[bytes | memoryview]]) -> None:
    clock = side.clock()
    while clock.running:
        clock.begin()
        sendall(framed(ping_packet()))
        for frame in next(batches):
            pong_packet(Packet.FromString(frame))
        clock.end()
    side.report(clock.result())


def framed(packet: Packet) -> bytes:
    payload = packet.SerializeToString()
    return varint(len(payload)) + payload


PLAIN = Blocking(secure=False)
TLS = Blocking(secure=True)
