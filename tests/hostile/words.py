"""How much strangers make a node write: lines about events on its stdout, and its log."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

from tests.hostile.honest import SOURCES, Figures
from tests.hostile.node import Victim, until_still
from tests.hostile.raw import Peer, identity
from tests.hostile.wire import DATA_TRANSMISSION, content, disconnect, frame, hello, session

AGENT = "\u202e\x1b[2J\n" * 100  # as much as one may say of oneself, and worse
PER_HOUR = 100 * 3600  # as often a few keys that are known may connect from one address
KIB = 1024


def words(victim: Victim, *, connects: int = 10_000, keys: int = 4) -> Figures:
    """A few identities that come, do something that is refused, go with many words or with none, and come again."""
    said = [hello("peernet", content(4, AGENT.encode()), content(5, b"x" * 200), session(1)), *_chatter()]
    began = time.monotonic()
    with victim.read_by_somebody(), ThreadPoolExecutor(keys) as threads:
        each = connects // keys
        made = sum(threads.map(lambda context: _come_and_go(victim.port, context, said, each), _contexts(keys)))
        until_still(lambda: victim.shown)
        counters, memory = victim.status["counters"], victim.memory
    return {
        "connects": made,
        "seconds": round(time.monotonic() - began, 1),
        "stdout_kib": round(victim.shown / KIB, 1),
        "stdout_bytes_each": round(victim.shown / made),
        "stdout_mib_an_hour_from_one_address": round(victim.shown / made * PER_HOUR / KIB / KIB, 1),
        "log_kib": round(victim.logged / KIB, 1),
        "memory_mb": round(memory / 1e6, 1),
        "counters": counters,
    }


def _contexts(keys: int) -> list[object]:
    return [identity()[0] for _ in range(keys)]


def _chatter() -> list[bytes]:
    """Something that is refused, and a long goodbye."""
    return [frame(content(DATA_TRANSMISSION, b"")) * 3, disconnect(1, AGENT)]


def _come_and_go(port: int, context: object, said: list[bytes], times: int) -> int:
    """Returns how often it was let in."""
    made = 0
    for number in range(times):
        try:
            peer = Peer(port, next(SOURCES), context, said[0])  # type: ignore[arg-type]
        except ConnectionError:
            continue
        peer.send(said[1])
        if number % 2:
            peer.send(said[2])
            peer.reason()
        peer.close()
        made += 1
    return made
