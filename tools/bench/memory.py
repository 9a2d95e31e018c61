"""The idle scenario: what one more channel costs a node in resident memory.

The first channels are not counted: with them come modules, caches and the allocator's
first arenas, which a node pays once. So the figure is the growth from FIRST channels
to all of them, divided by how many were added.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import gevent
import psutil

from tools.bench.child import Side

FIRST = 20
# Long enough for handshakes to finish on both sides and for the first readings to settle.
SETTLE = 1.5


def measure_idle(side: Side, connected: Callable[[], int]) -> None:
    """Run in the node under test: read its memory at both numbers of channels."""
    channels = side.params["channels"]
    process = psutil.Process(os.getpid())
    before = _settled(process, connected, FIRST)
    after = _settled(process, connected, channels)
    side.report(
        {
            "kib_per_channel": (after - before) / 1024 / (channels - FIRST),
            "rss_mib": after / 2**20,
            "channels": connected(),
        }
    )
    side.hold(gevent.sleep)


def _settled(process: psutil.Process, connected: Callable[[], int], wanted: int) -> int:
    while connected() < wanted:
        gevent.sleep(0.05)
    gevent.sleep(SETTLE / 2)
    return process.memory_info().rss


def dial_in_two_steps(side: Side, dial: Callable[[], Any], pool: Any) -> list[Any]:
    """Run in the clients' process: a few channels, a pause for the node to look, the rest."""
    kept = pool.map(lambda _: dial(), range(FIRST))
    gevent.sleep(SETTLE)
    return kept + pool.map(lambda _: dial(), range(side.params["channels"] - FIRST))
