"""grpcio's synchronous API on an insecure channel: streams, its fastest shape for many messages."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

from peernet.v1.packet_pb2 import AcknowledgePacket, Packet
from tools.bench.child import Side
from tools.bench.workload import Tally, ping_packet, pong_packet

SERVICE = "bench.Bench"
SEND, ECHO = f"/{SERVICE}/Send", f"/{SERVICE}/Echo"


class Grpc:
    """Handlers are registered by hand: generated stubs would run the same two calls."""

    def _serve(self, side: Side, methods: dict[str, grpc.RpcMethodHandler]) -> None:
        server = grpc.server(ThreadPoolExecutor(max_workers=2))
        handler = grpc.method_handlers_generic_handler(SERVICE, methods)
        server.add_generic_rpc_handlers((handler,))
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        side.ready(f"127.0.0.1:{port}")
        side.hold()

    def listen_small(self, side: Side) -> None:
        tally = side.tally()
        method = grpc.stream_unary_rpc_method_handler(
            lambda packets, _: _count(packets, tally),
            request_deserializer=Packet.FromString,
            response_serializer=AcknowledgePacket.SerializeToString,
        )
        self._serve(side, {"Send": method})

    def dial_small(self, side: Side) -> None:
        with grpc.insecure_channel(side.address()) as channel:
            send = channel.stream_unary(
                SEND,
                request_serializer=Packet.SerializeToString,
                response_deserializer=AcknowledgePacket.FromString,
            )
            send(_packets(side))
        side.hold()

    listen_bulk = listen_small
    dial_bulk = dial_small

    def listen_rtt(self, side: Side) -> None:
        method = grpc.stream_stream_rpc_method_handler(
            lambda pings, _: map(pong_packet, pings),
            request_deserializer=Packet.FromString,
            response_serializer=Packet.SerializeToString,
        )
        self._serve(side, {"Echo": method})

    def dial_rtt(self, side: Side) -> None:
        pings: queue.SimpleQueue[Packet] = queue.SimpleQueue()
        channel = grpc.insecure_channel(side.address())
        echo = channel.stream_stream(
            ECHO,
            request_serializer=Packet.SerializeToString,
            response_deserializer=Packet.FromString,
        )
        answers, clock = echo(iter(pings.get, None)), side.clock()
        while clock.running:
            clock.begin()
            pings.put(ping_packet())
            pong_packet(next(answers))
            clock.end()
        side.report(clock.result())
        side.hold()


def _count(packets: Iterator[Packet], tally: Tally) -> AcknowledgePacket:
    for packet in packets:
        tally(None, packet)
    return AcknowledgePacket()


def _packets(side: Side) -> Iterator[Any]:
    make = side.load.packet
    for batch in side.flow().batches():
        yield from map(make, batch)


PLAIN = Grpc()
