"""A side that handles a given number of messages, so that instructions.py can count what each of them takes.

Under callgrind a program runs some fifty times slower, and slower still beside other work. What happens after a time,
such as an acknowledgement, would happen more often for each message than it does for users, and more often on a busy
machine: so no timer fires here (:class:`SlowLoop`), and what a system compares with a clock is for its limits to put
out of reach (instructions.py).
"""

from __future__ import annotations

import ctypes
import mmap
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from gevent import socket
from gevent.libev.corecext import loop

from tools.bench import tlskit  # noqa: F401 - imported before anything is counted
from tools.bench.child import Side
from tools.bench.workload import END, START, Flow, Load, PingClock, Report

# A timer of a millisecond takes longer than a run.
SLOWDOWN = 1_000_000

# Whether counting can begin in the middle of a program, which saves the time of counting its start.
CAN_BEGIN_LATE = platform.machine() in ("x86_64", "AMD64")
# void f(request *): valgrind recognises these rotations (valgrind.h), which change nothing on a bare processor.
_REQUEST = bytes.fromhex("4889f8 4831d2 48c1c703 48c1c70d 48c1c73d 48c1c733 4887db c3")
_START_INSTRUMENTATION = (ord("C") << 24 | ord("T") << 16) + 4  # callgrind.h


class SlowLoop(loop):
    """gevent's loop, whose timers take :data:`SLOWDOWN` times as long.

    It is not the default one of libev, which looks for signals every 0.3 s.
    """

    def __new__(cls, flags: Any = None, default: bool | None = None) -> SlowLoop:
        return super().__new__(cls, flags, False)  # type: ignore[call-arg]  # the types know __init__ alone

    def timer(self, after: float, repeat: float = 0.0, ref: bool = True, priority: int | None = None) -> Any:
        return super().timer(after * SLOWDOWN, repeat * SLOWDOWN, ref, priority)


class CountedSide(Side):
    """Handles ``params["messages"]`` messages, or round trips, and counts from where they begin."""

    def flow(self) -> Flow:
        return CountedFlow(self.load, self.report, self.params["messages"])

    def clock(self) -> PingClock:
        return RoundTrips(dict, self.params["messages"])

    def ready(self, address: Any) -> None:
        begin_counting()
        super().ready(address)

    def hold(self, sleep: Callable[[float], object] = time.sleep) -> None:
        """Wait without looking again and again, which would be counted."""
        socket.wait_read(0)


class CountedFlow(Flow):
    def __init__(self, load: Load, report: Report, messages: int) -> None:
        super().__init__(load, report, warmup=0, seconds=0)
        self._batches = messages // len(load.batch)

    def batches(self) -> Iterator[Sequence[Any]]:
        begin_counting()
        yield [self.load.marker_item(START)]
        for _ in range(self._batches):
            yield self.load.batch
        yield [self.load.marker_item(f"{END}{self._batches * len(self.load.batch)}")]


class RoundTrips(PingClock):
    def __init__(self, cpu: Callable[[], dict[str, float]], wanted: int) -> None:
        super().__init__(cpu, warmup=0, seconds=0)
        self._wanted = self._left = wanted

    def begin(self) -> None:
        if self._left == self._wanted:
            begin_counting()

    def end(self) -> None:
        self._left -= 1
        self.running = self._left > 0

    def result(self) -> dict[str, Any]:
        return {"count": self._wanted}


def begin_counting() -> None:
    """Ask callgrind to count from here on; does nothing outside of it."""
    if not CAN_BEGIN_LATE:
        return  # it counts from the start
    code = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    code.write(_REQUEST)
    request = (ctypes.c_uint64 * 6)(_START_INSTRUMENTATION)
    entry = ctypes.c_char.from_buffer(code)
    ctypes.CFUNCTYPE(None, ctypes.c_void_p)(ctypes.addressof(entry))(ctypes.addressof(request))
