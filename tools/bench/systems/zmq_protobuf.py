"""pyzmq with protobuf messages, the idiomatic blocking way, without encryption (no CURVE)."""

from __future__ import annotations

import zmq

from peernet.v1.packet_pb2 import Packet
from tools.bench.child import Side
from tools.bench.workload import ping_packet, pong_packet

# PUSH blocks at its high-water mark and drops nothing. Deep enough never to starve the
# I/O thread with small messages, shallow enough not to queue gigabytes of large ones.
HIGH_WATER = {"small": 100_000, "bulk": 64}


class Zmq:
    def __init__(self) -> None:
        self._context = zmq.Context.instance()

    def _socket(self, kind: int, side: Side) -> zmq.Socket[bytes]:
        sock = self._context.socket(kind)
        sock.set_hwm(HIGH_WATER.get(side.params["scenario"], 1000))
        return sock

    def _bind(self, kind: int, side: Side) -> zmq.Socket[bytes]:
        sock = self._socket(kind, side)
        port = sock.bind_to_random_port("tcp://127.0.0.1")
        side.ready(f"tcp://127.0.0.1:{port}")
        return sock

    def _connect(self, kind: int, side: Side) -> zmq.Socket[bytes]:
        sock = self._socket(kind, side)
        sock.connect(side.address())
        return sock

    def listen_small(self, side: Side) -> None:
        sock, tally, parse = self._bind(zmq.PULL, side), side.tally(), Packet.FromString
        recv = sock.recv
        while not tally.done:
            tally(None, parse(recv()))
        side.hold()

    def dial_small(self, side: Side) -> None:
        sock, make = self._connect(zmq.PUSH, side), side.load.packet
        send = sock.send
        for batch in side.flow().batches():
            for item in batch:
                send(make(item).SerializeToString())
        side.hold()

    def listen_bulk(self, side: Side) -> None:
        sock, tally, parse = self._bind(zmq.PULL, side), side.tally(), Packet.FromString
        recv = sock.recv
        while not tally.done:
            # Large messages: parse from zmq's own buffer instead of a copy.
            tally(None, parse(recv(copy=False).buffer))
        side.hold()

    def dial_bulk(self, side: Side) -> None:
        sock, make = self._connect(zmq.PUSH, side), side.load.packet
        send = sock.send
        for batch in side.flow().batches():
            for item in batch:
                send(make(item).SerializeToString(), copy=False)
        side.hold()

    def listen_rtt(self, side: Side) -> None:
        sock, parse = self._bind(zmq.REP, side), Packet.FromString
        while True:
            sock.send(pong_packet(parse(sock.recv())).SerializeToString())

    def dial_rtt(self, side: Side) -> None:
        sock, clock = self._connect(zmq.REQ, side), side.clock()
        while clock.running:
            clock.begin()
            sock.send(ping_packet().SerializeToString())
            pong_packet(Packet.FromString(sock.recv()))
            clock.end()
        side.report(clock.result())
        side.hold()


PLAIN = Zmq()
