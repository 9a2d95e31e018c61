"""What this process holds: file descriptors, greenlets, threads and memory."""

from __future__ import annotations

import gc
import os
import threading
from dataclasses import dataclass
from pathlib import Path

import gevent
import psutil

# Linux. Elsewhere descriptors are counted as zero, and so never missed.
_DESCRIPTORS = Path("/proc/self/fd")
_MIB = 1024 * 1024


@dataclass(frozen=True)
class Resources:
    """What the process holds at one moment.

    Attributes:
        descriptors: what each open file descriptor stands for; empty where the system does not tell.
        greenlets: gevent's greenlets that run, with their names, by id.
        threads: how many native threads Python knows.
        memory: resident bytes.
    """

    descriptors: dict[int, str]
    greenlets: dict[int, str]
    threads: int
    memory: int

    @classmethod
    def measure(cls) -> Resources:
        """What there is now, without what only awaits the garbage collector."""
        gc.collect()
        return cls(_descriptors(), _greenlets(), threading.active_count(), psutil.Process().memory_info().rss)

    def beyond(self, baseline: Resources, memory_tolerance: int) -> list[str]:
        """A sentence for each resource of which there is more than in ``baseline``."""
        found = []
        if len(self.descriptors) > len(baseline.descriptors):
            new = [what for number, what in self.descriptors.items() if baseline.descriptors.get(number) != what]
            found.append(_sentence("descriptors", len(self.descriptors), len(baseline.descriptors), new))
        if len(self.greenlets) > len(baseline.greenlets):
            new = [name for one, name in self.greenlets.items() if one not in baseline.greenlets]
            found.append(_sentence("greenlets", len(self.greenlets), len(baseline.greenlets), new))
        if self.threads > baseline.threads:
            found.append(f"{self.threads} threads, where there were {baseline.threads}")
        if self.memory > baseline.memory + memory_tolerance:
            found.append(f"{self.memory / _MIB:.1f} MiB of memory, where there were {baseline.memory / _MIB:.1f}")
        return found


def _sentence(what: str, now: int, before: int, new: list[str]) -> str:
    return f"{now} {what}, where there were {before}; new: {', '.join(sorted(new)[:5])}"


def _descriptors() -> dict[int, str]:
    found = {}
    for entry in os.listdir(_DESCRIPTORS) if _DESCRIPTORS.is_dir() else ():
        try:
            found[int(entry)] = os.readlink(_DESCRIPTORS / entry)
        except OSError:
            continue  # the one that lists the directory
    return found


def _greenlets() -> dict[int, str]:
    current = gevent.getcurrent()
    return {
        id(one): str(one.name)
        for one in gc.get_objects()
        if isinstance(one, gevent.Greenlet) and one and one is not current
    }
