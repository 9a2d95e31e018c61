"""asyncio streams with protobuf frames, on asyncio's own loop and on uvloop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any

from peernet.v1.packet_pb2 import Packet
from tools.bench.child import Side
from tools.bench.framing import CHUNK, COALESCE, read_varint, split, varint
from tools.bench.systems.raw_blocking import framed
from tools.bench.workload import ping_packet, pong_packet

# The reader pauses its transport at twice this: room for several large frames.
LIMIT = 1024 * 1024
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Streams:
    def __init__(self, *, uvloop: bool) -> None:
        self._uvloop = uvloop

    def _run(self, main: Any) -> None:
        if self._uvloop:
            import uvloop

            uvloop.run(main)
        else:
            asyncio.run(main)

    def listen_small(self, side: Side) -> None:
        self._run(_serve(side, lambda reader, _: _receive_small(side, reader)))

    def dial_small(self, side: Side) -> None:
        self._run(_dial(side, lambda _, writer: _send(side, writer)))

    def listen_bulk(self, side: Side) -> None:
        self._run(_serve(side, lambda reader, _: _receive_bulk(side, reader)))

    dial_bulk = dial_small

    def listen_rtt(self, side: Side) -> None:
        self._run(_serve(side, _echo))

    def dial_rtt(self, side: Side) -> None:
        self._run(_dial(side, lambda reader, writer: _ping(side, reader, writer)))


async def _serve(side: Side, handler: Handler) -> None:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        _no_delay(writer)
        await handler(reader, writer)

    server = await asyncio.start_server(connected, "127.0.0.1", 0, limit=LIMIT)
    side.ready(server.sockets[0].getsockname())
    await _hold(side)


async def _dial(side: Side, handler: Handler) -> None:
    host, port = side.address()
    reader, writer = await asyncio.open_connection(host, port, limit=LIMIT)
    _no_delay(writer)
    await handler(reader, writer)
    await _hold(side)


def _no_delay(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


async def _hold(side: Side) -> None:
    while not side.finished():
        await asyncio.sleep(0.1)


async def _send(side: Side, writer: asyncio.StreamWriter) -> None:
    make, waiting, size = side.load.packet, [], 0
    for batch in side.flow().batches():
        for item in batch:
            payload = make(item).SerializeToString()
            waiting += (varint(len(payload)), payload)
            size += len(payload)
            if size >= COALESCE:
                writer.writelines(waiting)
                await writer.drain()
                waiting, size = [], 0
    writer.writelines(waiting)
    await writer.drain()


async def _receive_small(side: Side, reader: asyncio.StreamReader) -> None:
    tally, parse, rest = side.tally(), Packet.FromString, b""
    while not tally.done and (data := await reader.read(CHUNK)):
        frames, at = split(data := rest + data)
        rest = data[at:]
        for frame in frames:
            tally(None, parse(frame))


async def _receive_bulk(side: Side, reader: asyncio.StreamReader) -> None:
    """Frame by frame: at this size readexactly() beats searching through a buffer."""
    tally = side.tally()
    while not tally.done:
        tally(None, Packet.FromString(await _read_frame(reader)))


async def _read_frame(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readexactly(1)
    while head[-1] >= 0x80:
        head += await reader.readexactly(1)
    return await reader.readexactly(read_varint(head, 0)[0])


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(CHUNK):
        for frame in split(data)[0]:
            writer.write(framed(pong_packet(Packet.FromString(frame))))


async def _ping(side: Side, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    clock = side.clock()
    while clock.running:
        clock.begin()
        writer.write(framed(ping_packet()))
        for frame in split(await reader.read(CHUNK))[0]:
            pong_packet(Packet.FromString(frame))
        clock.end()
    side.report(clock.result())


ASYNCIO = Streams(uvloop=False)
UVLOOP = Streams(uvloop=True)
