"""A real node that is attacked, and how it feels."""

from __future__ import annotations

import os
import resource
import select
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from tools.node_process import NodeProcess


class Victim(NodeProcess):
    """A running node with limits of its own.

    Args:
        home: its home folder, which is made.
        limits: what differs from the defaults.
    """

    def __init__(self, home: Path, **limits: Any) -> None:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        lines = [f"{name} = {str(value).lower()}" for name, value in limits.items()]
        (home / "config.toml").write_text("\n".join(["[limits]", *lines, ""]))
        super().__init__(home)
        self._process = psutil.Process(self.process.pid)

    def __enter__(self) -> Victim:
        super().__enter__()
        return self

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.address.rpartition(":")[2])

    @property
    def status(self) -> dict[str, Any]:
        """What the command ``status`` shows."""
        return dict(self.command("status", "-o", "json").json)

    @property
    def cpu(self) -> float:
        """Seconds of CPU that it has used."""
        used = self._process.cpu_times()
        return used.user + used.system

    @property
    def descriptors(self) -> int:
        """How many descriptors it has open."""
        return self._process.num_fds()

    @property
    def memory(self) -> int:
        """Bytes that it has resident."""
        return self._process.memory_info().rss

    @contextmanager
    def read_by_somebody(self) -> Iterator[None]:
        """Have its events read all the time; else it makes peers wait who send packets."""
        assert self.process.stdout is not None
        over, stdout = threading.Event(), self.process.stdout.fileno()

        def read() -> None:
            while not over.is_set():
                if select.select([stdout], [], [], 0.1)[0]:
                    os.read(stdout, 1 << 20)

        reading = threading.Thread(target=read)
        reading.start()
        try:
            yield
        finally:
            over.set()
            reading.join()

    def allow_descriptors(self, count: int) -> None:
        """Give it another limit of descriptors."""
        hard = resource.prlimit(self.process.pid, resource.RLIMIT_NOFILE)[1]
        resource.prlimit(self.process.pid, resource.RLIMIT_NOFILE, (count, hard))


class Load:
    """How much of one core a node uses, from now on."""

    def __init__(self, victim: Victim) -> None:
        self._victim = victim
        self._cpu, self._since = victim.cpu, time.monotonic()

    @property
    def share(self) -> float:
        """From 0 to 1."""
        return (self._victim.cpu - self._cpu) / (time.monotonic() - self._since)


def in_ms(seconds: list[float]) -> dict[str, float]:
    """The median, the 99th percentile and the worst of some times, in milliseconds."""
    if not seconds:
        return {}
    ordered = sorted(seconds)
    p99 = ordered[min(len(ordered) - 1, round(0.99 * (len(ordered) - 1)))]
    return {
        "count": len(ordered),
        "p50": round(1000 * statistics.median(ordered), 2),
        "p99": round(1000 * p99, 2),
        "worst": round(1000 * ordered[-1], 2),
    }
