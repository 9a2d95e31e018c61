"""An honest peer beside the attackers, who notices how well it is served."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

from tests.hostile.node import Victim
from tests.hostile.raw import Peer, Plain, client_context, source
from tests.hostile.wire import content, hello

Figures = dict[str, Any]
NAME = b"z" * 52  # the identifier that an honest peer claims, where nothing can be proven
SOURCES = map(source, count(random.randrange(1 << 16)))
"""Addresses that nobody has used. Others in each run: rates are remembered."""


def honest_handshake(port: int) -> float | None:
    """The seconds in which an honest peer gets acquainted; ``None`` if it is sent away."""
    context = client_context()
    began = time.perf_counter()
    try:
        peer = Peer(port, next(SOURCES), context)
    except (OSError, ConnectionError):
        return None
    took = time.perf_counter() - began
    peer.close()
    return took


def guest(victim: Victim) -> Peer:
    """A peer without sessions, with TLS if the node has it."""
    if victim.insecure:
        return Peer(victim.port, next(SOURCES), Plain, hello("peernet", content(9, NAME)))
    return Peer(victim.port, next(SOURCES))


class Echoes:
    """An honest peer that asks for an answer all the time, in a thread of its own."""

    def __init__(self, victim: Victim, pause: float) -> None:
        self.took: list[float] = []
        self.broken = False
        self._peer = guest(victim)
        self._pause = pause
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._over.is_set():
            try:
                self.took.append(self._peer.echo())
            except OSError:
                self.broken = True
                return
            time.sleep(self._pause)

    def stop(self) -> None:
        self._over.set()
        self._thread.join()
        self._peer.close()


@contextmanager
def echoes(victim: Victim, pause: float = 0.005) -> Iterator[Echoes]:
    """An honest peer that is served all the time, or notices."""
    asking = Echoes(victim, pause)
    try:
        yield asking
    finally:
        asking.stop()
