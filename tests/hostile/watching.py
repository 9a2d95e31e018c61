"""What an attack costs, measured while it goes on and after it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.hostile.honest import Echoes, Figures, echoes
from tests.hostile.node import Victim, in_ms

SETTLING_TIME = 10.0  # seconds in which everything that has ended must be gone
LOOK_EVERY = 2.0  # seconds; to look costs the node some milliseconds


class Watch:
    """How a node feels.

    Attributes:
        most: the most that was seen of some figures of ``status``.
        asking: the honest peer.
    """

    def __init__(self, victim: Victim, asking: Echoes) -> None:
        self.victim = victim
        self.asking = asking
        self.most = {"fds": 0, "greenlets": 0, "hub_lag_ms": 0}
        self._over = threading.Event()
        self._before = victim.status
        victim.forget_peak()
        self._resident = victim.memory
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(LOOK_EVERY):
            self.look()

    def look(self) -> None:
        """Take note of its status."""
        status = self.victim.status
        for name, value in self.most.items():
            self.most[name] = max(value, status[name])

    @property
    def figures(self) -> Figures:
        """What it has cost so far: at its worst, and how honest peers were served."""
        self.look()
        return {
            "memory_mb": round((self.victim.peak - self._resident) / 1e6, 2),
            "descriptors": self.most["fds"] - self._before["fds"],
            "greenlets": self.most["greenlets"] - self._before["greenlets"],
            "hub_lag_ms": self.most["hub_lag_ms"],
            "echo_ms": in_ms(self.asking.took),
            "channel_lost": self.asking.broken,
        }

    def left(self) -> Figures:
        """What is left of it some seconds after all attackers have gone; the honest peer is still there."""
        ends = time.monotonic() + SETTLING_TIME
        while True:
            after = self.victim.status
            descriptors = after["fds"] - self._before["fds"]
            greenlets = after["greenlets"] - self._before["greenlets"]
            if max(descriptors, greenlets) <= 0 or time.monotonic() > ends:
                break
            time.sleep(0.05)
        return {
            "descriptors_left": descriptors,
            "greenlets_left": greenlets,
            "memory_left_mb": round((after["rss"] - self._resident) / 1e6, 2),
        }


@contextmanager
def watching(victim: Victim, pause: float = 0.005) -> Iterator[Watch]:
    """Watch a node, and have an honest peer ask it for answers, from now on."""
    with echoes(victim, pause) as asking, Watch(victim, asking) as watch:
        yield watch
