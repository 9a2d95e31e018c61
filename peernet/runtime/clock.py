"""What time it is, for every module that asks; a simulation puts its own time here.

Read it as ``clock.monotonic()``: a name that is imported from here keeps the time of the
machine. gevent's timers follow the loop of the hub, so whoever replaces one replaces both.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

monotonic: Callable[[], float] = time.monotonic
"""Seconds since some moment, never fewer than before; for everything that waits."""

wall: Callable[[], float] = time.time
"""Seconds of Unix time, for people, and for what ``loop.now()`` is compared with."""


def moment_of(value: object) -> float:
    """A number of seconds that was read from somewhere.

    Raises:
        ValueError, TypeError, OverflowError: it is none, or not one that can be counted with.
    """
    number = float(value)  # type: ignore[arg-type]  # then it raises
    if not math.isfinite(number):
        raise ValueError(f"{value!r} is no time")
    return number
