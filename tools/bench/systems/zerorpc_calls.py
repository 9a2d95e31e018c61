"""zerorpc: Pusher and Puller, its one-way calls, and Client and Server for round trips."""

from __future__ import annotations

import gevent
import zerorpc

from peernet.v1.packet_pb2 import Packet
from tools.bench.child import Side
from tools.bench.workload import ping_packet, pong_packet


class Receiver:
    """The methods that the other side calls; packets travel as protobuf bytes inside msgpack."""

    def __init__(self, side: Side) -> None:
        self._tally = side.tally()

    def take(self, payload: bytes) -> None:
        self._tally(None, Packet.FromString(payload))

    def echo(self, payload: bytes) -> bytes:
        return pong_packet(Packet.FromString(payload)).SerializeToString()


class Zerorpc:
    def _serve(self, side: Side, server: zerorpc.Puller | zerorpc.Server) -> None:
        server.bind("tcp://127.0.0.1:0")
        gevent.spawn(server.run)
        events = server._events  # noqa: SLF001  # zerorpc tells nobody on which port it listens
        endpoint = events._socket.getsockopt_string(zerorpc.zmq.LAST_ENDPOINT)  # noqa: SLF001
        side.ready(endpoint)
        side.hold(gevent.sleep)

    def listen_small(self, side: Side) -> None:
        self._serve(side, zerorpc.Puller(Receiver(side)))

    def dial_small(self, side: Side) -> None:
        pusher = zerorpc.Pusher()
        pusher.connect(side.address())
        make = side.load.packet
        for batch in side.flow().batches():
            for item in batch:
                pusher.take(make(item).SerializeToString())
        side.hold(gevent.sleep)

    listen_bulk = listen_small
    dial_bulk = dial_small

    def listen_rtt(self, side: Side) -> None:
        self._serve(side, zerorpc.Server(Receiver(side)))

    def dial_rtt(self, side: Side) -> None:
        client = zerorpc.Client(side.address())
        clock = side.clock()
        while clock.running:
            clock.begin()
            pong_packet(Packet.FromString(client.echo(ping_packet().SerializeToString())))
            clock.end()
        side.report(clock.result())
        side.hold(gevent.sleep)


PLAIN = Zerorpc()
