"""A real node that is attacked, and how it feels."""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from tools.node_process import NodeProcess

# A node counts its greenlets once a second; what has not changed for longer than that stays. Seconds.
COUNTED_EVERY = 1.1
# How long a node may take until nothing begins or ends any more. Seconds.
SETTLING = 120.0


class Measured:
    """A process, looked at from outside.

    Attributes:
        process: the process.
    """

    process: subprocess.Popen[bytes]

    @property
    def cpu(self) -> float:
        """Seconds of CPU that it has used, to the microsecond."""
        return time.clock_gettime(~self.process.pid << 3 | 2)  # clock_getcpuclockid(3), as Linux makes it

    @property
    def descriptors(self) -> int:
        """How many descriptors it has open."""
        return psutil.Process(self.process.pid).num_fds()

    @property
    def memory(self) -> int:
        """Bytes that it has resident."""
        return psutil.Process(self.process.pid).memory_info().rss

    @property
    def peak(self) -> int:
        """The most bytes that it had resident since :meth:`forget_peak`."""
        for line in self._file("status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
        raise AssertionError("this system does not tell the most memory that a process had")

    def forget_peak(self) -> None:
        """Begin anew with :attr:`peak`."""
        self._file("clear_refs").write_text("5")

    def allow_descriptors(self, count: int) -> None:
        """Give it another limit of descriptors."""
        hard = resource.prlimit(self.process.pid, resource.RLIMIT_NOFILE)[1]
        resource.prlimit(self.process.pid, resource.RLIMIT_NOFILE, (count, hard))

    def _file(self, name: str) -> Path:
        return Path(f"/proc/{self.process.pid}/{name}")


class Victim(NodeProcess, Measured):
    """A running node with limits of its own.

    Args:
        home: its home folder, which is made.
        arguments: for ``run``.
        verbose: whether its log tells more.
        limits: what differs from the defaults.
    """

    def __init__(self, home: Path, *arguments: str, verbose: bool = False, **limits: Any) -> None:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        lines = [f"{name} = {str(value).lower()}" for name, value in limits.items()]
        (home / "config.toml").write_text("\n".join(["[limits]", *lines, ""]))
        super().__init__(home, *arguments, verbose=verbose)
        self.insecure = "--insecure" in arguments
        self.shown = 0  # bytes of events that :meth:`read_by_somebody` has read

    def __enter__(self) -> Victim:
        super().__enter__()
        return self

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.address.rpartition(":")[2])

    @property
    def status(self) -> dict[str, Any]:
        """What the command ``status`` shows, without the cost of a command."""
        with socket.socket(socket.AF_UNIX) as control:
            control.settimeout(60)
            folder = os.open(self.home, os.O_RDONLY)
            try:
                control.connect(f"/proc/self/fd/{folder}/control.sock")  # paths of sockets must be short
            finally:
                os.close(folder)
            control.sendall(b'{"command": "status", "arguments": {}}\n')
            with control.makefile("rb") as answer:
                return dict(json.loads(answer.readline())["result"])

    def settled(self) -> dict[str, Any]:
        """Its status when nothing has begun or ended for more than a second.

        Raises:
            AssertionError: that does not come to pass.
        """
        ends = time.monotonic() + SETTLING
        status, since = self.status, time.monotonic()
        while time.monotonic() - since < COUNTED_EVERY:
            assert time.monotonic() < ends, f"it does not settle: {status}"
            time.sleep(0.05)
            latest = self.status
            if (latest["fds"], latest["greenlets"]) != (status["fds"], status["greenlets"]):
                since = time.monotonic()
            status = latest
        return status

    @property
    def logged(self) -> int:
        """Bytes of its log."""
        return os.fstat(self._log.fileno()).st_size

    @contextmanager
    def read_by_somebody(self) -> Iterator[None]:
        """Have its events read all the time; else it makes peers wait who send packets."""
        assert self.process.stdout is not None
        over, stdout = threading.Event(), self.process.stdout.fileno()

        def read() -> None:
            while not over.is_set():
                if select.select([stdout], [], [], 0.1)[0]:
                    self.shown += len(os.read(stdout, 1 << 20))

        reading = threading.Thread(target=read)
        reading.start()
        try:
            yield
        finally:
            over.set()
            reading.join()


class Program(Measured):
    """A program of its own that has a network in it: see ``tests/hostile/program.py``.

    Args:
        log: the file for its log.
        options: what it does otherwise than usual.
    """

    def __init__(self, log: Path, **options: Any) -> None:
        self.log = log
        with log.open("wb") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.hostile.program", json.dumps(options)],
                stdout=subprocess.PIPE,
                stderr=stderr,
            )

    def __enter__(self) -> Program:
        self.port = int(self._line())
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def stop(self) -> dict[str, Any]:
        """Have it stop. Returns what it has counted."""
        self.process.send_signal(signal.SIGTERM)
        return dict(json.loads(self._line()))

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().decode()


class Load:
    """How much of one core a node uses, from now on."""

    def __init__(self, victim: Measured) -> None:
        self._victim = victim
        self._cpu, self._since = victim.cpu, time.monotonic()

    @property
    def share(self) -> float:
        """From 0 to 1."""
        return (self._victim.cpu - self._cpu) / (time.monotonic() - self._since)


def until(happened: Callable[[], object], patience: float = 10) -> None:
    """Wait until something has happened."""
    ends = time.monotonic() + patience
    while not happened():
        assert time.monotonic() < ends, "it does not happen"
        time.sleep(0.02)


def until_still(figure: Callable[[], int], patience: float = 10) -> None:
    """Wait until a figure has not changed for a tenth of a second."""
    seen: list[int] = []

    def is_still() -> bool:
        seen.append(figure())
        return len(seen) > 5 and len(set(seen[-6:])) == 1

    until(is_still, patience)


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
