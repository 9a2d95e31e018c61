"""Frames that are announced and never come."""

from __future__ import annotations

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from tests.hostile.honest import SOURCES, Figures
from tests.hostile.node import Victim
from tests.hostile.raw import Peer
from tests.hostile.reasons import name_of
from tests.hostile.watching import watching
from tests.hostile.wire import MAX_FRAME, varint

LENGTHS = {
    "0": varint(0),
    "1": varint(1),
    "the limit": varint(MAX_FRAME),
    "one more": varint(MAX_FRAME + 1),
    "2^31": varint(1 << 31),
    "2^32 - 1": varint((1 << 32) - 1),
    "2^35 - 1": varint((1 << 35) - 1),
    "a varint of six bytes": b"\x81\x80\x80\x80\x80\x00",
    "a varint without an end": b"\xff" * 64,
}
HELD_BACK = ("1", "the limit")


def lengths(victim: Victim, *, channels: int = 64, silence: float = 2) -> Figures:
    """Each length on many channels at once, and then silence."""
    figures = {}
    for name, announced in LENGTHS.items():
        with watching(victim, 0.02) as watch:
            peers = [Peer(victim.port, next(SOURCES)) for _ in range(channels)]
            before = victim.memory
            victim.forget_peak()
            began = time.perf_counter()
            for peer in peers:
                peer.send(announced)
            outcome = dict(_outcomes(peers)) if name not in HELD_BACK else _still_there(victim, silence)
            took = time.perf_counter() - began
            figures[name] = {
                "outcome": outcome,
                "seconds": round(took, 3),
                "memory_mb": round((victim.peak - before) / 1e6, 2),
                "channel_lost": watch.figures["channel_lost"],
            }
            for peer in peers:
                peer.close()
    return figures


def _outcomes(peers: list[Peer]) -> Counter[str]:
    with ThreadPoolExecutor(len(peers)) as threads:
        return Counter(map(name_of, threads.map(Peer.reason, peers)))


def _still_there(victim: Victim, silence: float) -> dict[str, int]:
    time.sleep(silence)
    return {"held back": victim.status["channels"] - 1}  # one is the honest peer's
