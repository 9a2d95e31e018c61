"""What is sent and how it is counted: the same bytes and the same books for all systems.

A sender walks through ``Flow.batches()`` and sends ``load.packet(item)`` for each
item; a receiver parses every packet and calls a ``Tally`` with it. The stream tells
the receiver itself where the measured part begins and ends: a marker item follows
the warm-up, another one carries the number of packets sent in between. A receiver
that counted anything else fails the run, so a system that loses packets has no rate.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import median, quantiles
from typing import Any

import psutil

from peernet.v1.packet_pb2 import DataTransmissionPacket, Packet, PureMessagePacket
from tools.bench.scenarios import BULK_BYTES, SMALL_BYTES

START = "start"
END = "end "
CPUCLOCK_SCHED = 2  # <linux/posix-timers.h>


Report = Callable[[dict[str, Any]], None]


def cpu_seconds(pid: int | None = None) -> float:
    """CPU time, user and system, that all threads of a process have had; of this one by default."""
    if pid is None:
        return time.process_time()
    if sys.platform == "linux":
        return time.clock_gettime(~pid << 3 | CPUCLOCK_SCHED)  # clock_getcpuclockid(3); in nanoseconds, not ticks
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


class SmallLoad:
    """Text messages of 50 bytes in ``pure_message`` packets."""

    kind = "pure_message"
    # Looked at between batches only, so that the clock costs nothing per packet.
    batch = tuple(f"message {i:04d} of one batch".ljust(SMALL_BYTES, ".") for i in range(250))

    @staticmethod
    def body(text: str) -> PureMessagePacket:
        return PureMessagePacket(message=text)

    @staticmethod
    def packet(text: str) -> Packet:
        # Filled in place: handing a body to the constructor copies it, at three times the price.
        packet = Packet()
        packet.pure_message.message = text
        return packet

    @staticmethod
    def marker(packet: Packet) -> str:
        """The marker's text, or "" for a payload; reads the field as an application would."""
        text = packet.pure_message.message
        return "" if len(text) == SMALL_BYTES else text

    marker_item = staticmethod(lambda text: text)


class BulkLoad:
    """256 KiB of random bytes in ``data_transmission`` packets."""

    kind = "data_transmission"
    batch = ((os.urandom(BULK_BYTES), "block"),) * 4

    @staticmethod
    def body(item: tuple[bytes, str]) -> DataTransmissionPacket:
        return DataTransmissionPacket(data=item[0], name=item[1])

    @staticmethod
    def packet(item: tuple[bytes, str]) -> Packet:
        packet = Packet()
        body = packet.data_transmission
        body.data, body.name = item
        return packet

    @staticmethod
    def marker(packet: Packet) -> str:
        """The marker's text, or "" for a payload; reads the bytes as an application would."""
        body = packet.data_transmission
        return "" if len(body.data) == BULK_BYTES else body.name

    marker_item = staticmethod(lambda text: (b"", text))


Load = SmallLoad | BulkLoad


class Flow:
    """The sender's side of a one-way stream: a warm-up, then as much as fits in the time.

    What waits to be written when the measured part begins is about as much as when it ends, so that the CPU time
    between the two is that of the packets sent in between.
    """

    def __init__(self, load: Load, report: Report, *, warmup: float, seconds: float) -> None:
        self.load = load
        self.warmup = warmup
        self.seconds = seconds
        self._report = report

    def batches(self) -> Iterator[Sequence[Any]]:
        for _ in self._during(self.warmup):
            yield self.load.batch
        yield [self.load.marker_item(START)]
        cpu, sent = cpu_seconds(), 0
        for _ in self._during(self.seconds):
            yield self.load.batch
            sent += len(self.load.batch)
        self._report({"dial_cpu_us": (cpu_seconds() - cpu) / sent * 1e6})
        yield [self.load.marker_item(f"{END}{sent}")]

    @staticmethod
    def _during(seconds: float) -> Iterator[None]:
        deadline = time.monotonic() + seconds
        yield None  # once at least, however short the time
        while time.monotonic() < deadline:
            yield None


class Tally:
    """The receiver's callback: counts packets and reports once the end marker came."""

    def __init__(self, load: Load, report: Report) -> None:
        self.done = False
        self._marker = load.marker
        self._report = report
        self._count = 0
        self._started = 0
        self._cpu = 0.0

    def __call__(self, channel: object, packet: Packet) -> None:
        marker = self._marker(packet)
        if marker:
            self._mark(marker)
        else:
            self._count += 1

    def _mark(self, marker: str) -> None:
        now = time.monotonic_ns()
        if marker == START:
            self._started, self._count, self._cpu = now, 0, cpu_seconds()
            return
        sent = int(marker.removeprefix(END))
        if sent != self._count:
            raise RuntimeError(f"{sent} packets were sent but {self._count} arrived")
        self.done = True
        cpu = (cpu_seconds() - self._cpu) / sent * 1e6
        self._report({"count": sent, "seconds": (now - self._started) / 1e9, "listen_cpu_us": cpu})


class PingClock:
    """Times round trips: ``begin()`` before and ``end()`` after each, while ``running``.

    Args:
        cpu: tells how many seconds of CPU time each side has had. The listening side cannot: it only echoes.
    """

    def __init__(self, cpu: Callable[[], Mapping[str, float]], *, warmup: float, seconds: float) -> None:
        self.running = True
        self._cpu = cpu
        self._cpu_before: Mapping[str, float] = {}
        self._samples: list[int] = []
        self._warm_until = time.perf_counter_ns() + int(warmup * 1e9)
        self._stop_at = self._warm_until + int(seconds * 1e9)
        self._began = 0

    def begin(self) -> None:
        self._began = time.perf_counter_ns()

    def end(self) -> None:
        now = time.perf_counter_ns()
        if self._began >= self._warm_until:
            if not self._samples:
                self._cpu_before = self._cpu()
            self._samples.append(now - self._began)
        self.running = now < self._stop_at

    def result(self) -> dict[str, Any]:
        after, trips = self._cpu(), len(self._samples) - 1  # CPU time is taken from the end of the first one
        return {
            "p50_us": median(self._samples) / 1000,
            "p99_us": quantiles(self._samples, n=100)[98] / 1000,
            "count": len(self._samples),
            **{f"{side}_cpu_us": (after[side] - before) / trips * 1e6 for side, before in self._cpu_before.items()},
        }


PING = SmallLoad.batch[0]


def ping_packet() -> Packet:
    """A fresh packet for each ping: building it is part of a round trip."""
    return SmallLoad.packet(PING)


def pong_packet(ping: Packet) -> Packet:
    """The echo's callback: reads the text and answers with it in a packet of its own."""
    return SmallLoad.packet(ping.pure_message.message)
