"""zenoh: two peers with one session between them, publisher and subscriber, without encryption."""

from __future__ import annotations

import json
import queue
import socket
import time

import zenoh

from peernet.v1.packet_pb2 import Packet
from tools.bench.child import Side
from tools.bench.workload import ping_packet, pong_packet

THERE, BACK = "bench/there", "bench/back"


class Zenoh:
    """Callbacks run in zenoh's threads, as its documentation has it; nothing is dropped."""

    def _open(self, *, listen: str = "", connect: str = "") -> zenoh.Session:
        config = zenoh.Config()
        config.insert_json5("mode", json.dumps("peer"))
        config.insert_json5("scouting/multicast/enabled", "false")
        config.insert_json5("listen/endpoints", json.dumps([listen] if listen else []))
        config.insert_json5("connect/endpoints", json.dumps([connect] if connect else []))
        return zenoh.open(config)

    def _publisher(self, session: zenoh.Session, key: str, *, at_once: bool = False) -> zenoh.Publisher:
        """One that waits where it would drop, and that knows of its subscriber."""
        publisher = session.declare_publisher(key, congestion_control=zenoh.CongestionControl.BLOCK, express=at_once)
        while not publisher.matching_status.matching:
            time.sleep(0.01)
        return publisher

    def _listen(self, side: Side) -> tuple[zenoh.Session, str]:
        address = f"tcp/127.0.0.1:{_free_port()}"
        return self._open(listen=address), address

    def listen_small(self, side: Side) -> None:
        session, address = self._listen(side)
        tally, parse = side.tally(), Packet.FromString
        subscriber = session.declare_subscriber(THERE, lambda sample: tally(None, parse(bytes(sample.payload))))
        side.ready(address)
        side.hold()
        subscriber.undeclare()

    def dial_small(self, side: Side) -> None:
        session, make = self._open(connect=side.address()), side.load.packet
        put = self._publisher(session, THERE).put
        for batch in side.flow().batches():
            for item in batch:
                put(make(item).SerializeToString())
        side.hold()

    def listen_rtt(self, side: Side) -> None:
        session, address = self._listen(side)
        put = session.declare_publisher(BACK, congestion_control=zenoh.CongestionControl.BLOCK, express=True).put
        parse = Packet.FromString

        def answer(sample: zenoh.Sample) -> None:
            put(pong_packet(parse(bytes(sample.payload))).SerializeToString())

        subscriber = session.declare_subscriber(THERE, answer)
        side.ready(address)
        side.hold()
        subscriber.undeclare()

    def dial_rtt(self, side: Side) -> None:
        session = self._open(connect=side.address())
        answers: queue.SimpleQueue[zenoh.Sample] = queue.SimpleQueue()
        subscriber = session.declare_subscriber(BACK, answers.put)
        put, clock = self._publisher(session, THERE, at_once=True).put, side.clock()
        while clock.running:
            clock.begin()
            put(ping_packet().SerializeToString())
            pong_packet(Packet.FromString(bytes(answers.get().payload)))
            clock.end()
        side.report(clock.result())
        side.hold()
        subscriber.undeclare()


def _free_port() -> int:
    """A port that nobody listens on: zenoh does not tell which one it has chosen itself."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


PLAIN = Zenoh()
