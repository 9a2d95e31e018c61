"""A callback that raises at every packet."""

from __future__ import annotations

import time
from pathlib import Path

from tests.hostile.honest import Figures
from tests.hostile.node import Program
from tests.hostile.raw import Peer
from tests.hostile.wire import message

BATCH = 500


def raising(log: Path, *, packets: int = 1_000_000) -> Figures:
    """Many packets for such a callback, as fast as they are taken. The peers at both ends have no session."""
    with Program(log, raises=True, limits={"untrusted_frame_rate": 0}) as program:
        peer = Peer(program.port)
        before = program.memory
        program.forget_peak()
        began = time.monotonic()
        for start in range(0, packets, BATCH):
            peer.send(b"".join(message(str(number)) for number in range(start, start + BATCH)))
        peer.echo()  # the channel is alive, and has handled all
        took = time.monotonic() - began
        grown = program.peak - before
        peer.say_goodbye()
        return {
            "seconds": round(took, 1),
            "memory_mb": round(grown / 1e6, 2),
            "counters": program.stop(),
            "log_kib": round(log.stat().st_size / 1024, 1),
        }
