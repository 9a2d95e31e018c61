"""Virtual time: while this thread has nothing left to do, the clock jumps to the next timer.

Five minutes of sleeping cost no time then, and what happens next depends on nothing but
what has happened before.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from types import TracebackType
from typing import Any

import gevent.hub
from gevent import monkey

from peernet.runtime import clock, rng
from peernet.testing.virtual_loop import VirtualLoop

# The system's: in a patched program, gevent's tells greenlets apart.
_get_ident: Callable[[], int] = monkey.get_original("_thread", "get_ident")


class VirtualTime:
    """A context in which the thread that has entered it lives in simulated time, and draws from a seed.

    The thread gets another hub for as long: the greenlets of its own one stand still.
    Other threads notice nothing.

    Args:
        random: what peernet draws from.

    Raises:
        RuntimeError: time is being simulated in this process already.
    """

    _entered = False

    def __init__(self, random: Random) -> None:
        self._random = random
        self._loop = VirtualLoop()

    @property
    def now(self) -> float:
        """Simulated seconds since the beginning."""
        return self._loop.monotonic()

    def __enter__(self) -> VirtualTime:
        if VirtualTime._entered:
            raise RuntimeError("time is being simulated in this process already; end that simulation first")
        VirtualTime._entered = True
        self._hub_before = gevent.get_hub()
        self._before = (clock.monotonic, clock.wall, rng.uniform, rng.randbits)
        loop: Any = self._loop
        self._enter_hub(gevent.hub.Hub(loop))
        clock.monotonic = _in_this_thread(self._loop.monotonic, clock.monotonic)
        clock.wall = _in_this_thread(self._loop.now, clock.wall)
        rng.uniform = _in_this_thread(self._random.uniform, rng.uniform)
        rng.randbits = _in_this_thread(self._random.getrandbits, rng.randbits)
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        clock.monotonic, clock.wall, rng.uniform, rng.randbits = self._before
        gevent.get_hub().destroy(destroy_loop=True)
        self._enter_hub(self._hub_before)
        VirtualTime._entered = False

    @staticmethod
    def _enter_hub(hub: Any) -> None:
        gevent.hub.set_hub(hub)  # type: ignore[attr-defined]  # documented for get_hub(), and not in its stubs


def _in_this_thread(simulated: Callable[..., Any], real: Callable[..., Any]) -> Callable[..., Any]:
    owner = _get_ident()

    def choose(*args: Any) -> Any:
        return simulated(*args) if _get_ident() == owner else real(*args)

    return choose
