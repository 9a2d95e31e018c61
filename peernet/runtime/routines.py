"""NetworkRoutines: named jobs of a network that run again and again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import gevent

from peernet.errors import ConfigurationError
from peernet.runtime.callables import check_callable
from peernet.runtime.greenlets import failure_of, spawn
from peernet.runtime.logs import get_logger
from peernet.runtime.threads import NO_HOME, HomeThread, at_home

logger = get_logger(__name__)


@dataclass
class Routine:
    """One job.

    Attributes:
        name: unique in its network.
        interval: seconds between the end of one run and the start of the next.
        job: what runs; what it raises is logged, and it runs again.
    """

    name: str
    interval: float
    job: Callable[[], object]
    _home: HomeThread = field(default=NO_HOME, repr=False)
    _greenlet: gevent.Greenlet[..., Any] | None = field(default=None, repr=False)

    @property
    def running(self) -> bool:
        """Whether it is started."""
        return self._greenlet is not None

    @at_home
    def start(self) -> None:
        """Run from now on. Idempotent."""
        if self._greenlet is None:
            self._greenlet = spawn(f"routine {self.name}", self._run)

    @at_home
    def stop(self) -> None:
        """Run no more. Idempotent."""
        greenlet, self._greenlet = self._greenlet, None
        if greenlet is not None and greenlet is not gevent.getcurrent():
            greenlet.kill()

    def _run(self) -> None:
        me = gevent.getcurrent()
        gevent.sleep(self.interval)
        while self._greenlet is me:  # else it was stopped, and perhaps started again
            failure = failure_of(self.job)
            if failure is not None:
                logger.error("the routine %s failed; it runs again in %s s", self.name, self.interval, exc_info=failure)
            gevent.sleep(self.interval)


class NetworkRoutines:
    """The routines of one network; they start and stop with it.

    Args:
        home: the thread of the network.
    """

    def __init__(self, home: HomeThread = NO_HOME) -> None:
        self._home = home
        self._routines: dict[str, Routine] = {}
        self._started = False

    def __repr__(self) -> str:
        return f"<NetworkRoutines: {', '.join(self._routines)}>"

    def __iter__(self) -> Iterator[Routine]:
        return iter(list(self._routines.values()))

    def __getitem__(self, name: str) -> Routine:
        try:
            return self._routines[name]
        except KeyError:
            raise ConfigurationError(f"no routine {name!r}; there are {', '.join(self._routines)}") from None

    @at_home
    def add(self, name: str, interval: float, job: Callable[[], object]) -> Routine:
        """Add a routine; it starts at once if the network runs.

        Raises:
            ConfigurationError: the name is taken, or the job cannot be called without arguments, or is a coroutine
                or generator function.
        """
        check_callable(job, (), f"the job of the routine {name!r}")
        if name in self._routines:
            raise ConfigurationError(f"there is a routine {name!r} already")
        routine = self._routines[name] = Routine(name, interval, job, self._home)
        if self._started:
            routine.start()
        return routine

    @at_home
    def start(self) -> None:
        """Start all."""
        self._started = True
        for routine in self:
            routine.start()

    @at_home
    def stop(self) -> None:
        """Stop all."""
        self._started = False
        for routine in self:
            routine.stop()
