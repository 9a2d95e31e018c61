"""One side of a measured pair: a process of its own, started by runner.py.

It talks to the runner in JSON lines: ``{"ready": address}`` from the listening side,
``{"address": …, "process": pid}`` to the dialling side, ``{"result": {…}}`` from whichever
side measured. Both sides live until the runner ends them, or closes their stdin by dying.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

from tools.bench.systems import SYSTEMS
from tools.bench.workload import BulkLoad, Flow, Load, PingClock, SmallLoad, Tally, cpu_seconds

PR_SET_PDEATHSIG = 1  # <sys/prctl.h>


class Side:
    """What a system's functions get: the parameters of the run and the line to the runner."""

    def __init__(self, params: dict[str, Any]) -> None:
        self.params = params
        self.load: Load = BulkLoad() if params["scenario"] == "bulk" else SmallLoad()
        self._listener = 0  # its process

    def flow(self) -> Flow:
        return Flow(self.load, self.report, warmup=self.params["warmup"], seconds=self.params["seconds"])

    def tally(self) -> Tally:
        return Tally(self.load, self.report)

    def clock(self) -> PingClock:
        return PingClock(self._cpu, warmup=self.params["warmup"], seconds=self.params["seconds"])

    def ready(self, address: Any) -> None:
        _say({"ready": address})

    def address(self) -> Any:
        """Wait for the other side's address. Blocks: call it before anything runs."""
        message = json.loads(_read_line())
        self._listener = message["process"]
        return message["address"]

    def report(self, result: dict[str, Any]) -> None:
        _say({"result": result})

    def finished(self) -> bool:
        """Whether the runner has closed our stdin; never blocks."""
        return bool(select.select([0], [], [], 0)[0])

    def hold(self, sleep: Callable[[float], object] = time.sleep) -> None:
        """Stay alive until the runner has its result. Pass the event loop's own sleep."""
        while not self.finished():
            sleep(0.1)

    def _cpu(self) -> dict[str, float]:
        return {"listen": cpu_seconds(self._listener), "dial": cpu_seconds()}


def _say(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def _read_line() -> bytes:
    """One line, byte by byte: a buffered reader would hide what select() must see."""
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(0, 1)
        if not byte:
            raise EOFError("the runner is gone")
        line += byte
    return line


def _die_with_runner() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def raise_file_limit(wanted: int) -> None:
    """Two thousand channels need as many descriptors; the usual soft limit is 1024."""
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < wanted:
        print(f"only {allowed} of {wanted} file descriptors allowed", file=sys.stderr)


def steady_allocator() -> None:
    """Teach malloc that large blocks come and go, so that it keeps their pages.

    glibc learns from the largest block it has seen freed. Untaught, it gives the top of
    the heap back to the kernel after nearly every 256 KiB packet, or never, depending on
    what happens to lie there: a factor of ten in building a packet, decided by luck. All
    systems are taught the same, in the bulk scenario only.
    """
    bytearray(16 * 2**20)


def _side(params: dict[str, Any]) -> Side:
    if "messages" not in params:
        return Side(params)
    from tools.bench.counted import CountedSide

    return CountedSide(params)


def main(argv: list[str]) -> None:
    system, role, raw = argv
    params = json.loads(raw)
    _die_with_runner()
    raise_file_limit(params.get("channels", 0) + 500)
    if params["scenario"] == "bulk":
        steady_allocator()
    implementation = SYSTEMS[system].load()
    getattr(implementation, f"{role}_{params['scenario']}")(_side(params))
    # Not sys.exit(): what is left to tear down (threads, contexts, two thousand
    # sockets) is nobody's measurement and can take longer than the round.
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
