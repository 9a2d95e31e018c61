"""Services: the parts of something that runs, started in order and stopped in the opposite order.

All or nothing: whatever interrupts a start, an error, a timeout that strikes or a greenlet that is killed, what was
started is stopped again. Of two calls that meet, one that starts and one that stops, the later one wins.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any, Protocol

import gevent
from gevent.event import Event as Flag

from peernet.errors import ConfigurationError
from peernet.runtime.deadline import Deadline
from peernet.runtime.greenlets import spawn
from peernet.runtime.logs import get_logger
from peernet.runtime.threads import HomeThread, at_home

logger = get_logger(__name__)

# What a service gets beyond its time, to cut off what has not ended. Then nobody waits for it any more. Seconds.
GRACE = 0.5


class RunState(Enum):
    """Where something that can be started stands."""

    STOPPED = "stopped"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"


# state -> the states that may follow. A start that fails, or is interrupted, passes STOPPING too, because some of the
# services run by then.
TRANSITIONS: dict[RunState, frozenset[RunState]] = {
    RunState.STOPPED: frozenset({RunState.STARTING}),
    RunState.STARTING: frozenset({RunState.RUNNING, RunState.STOPPING}),
    RunState.RUNNING: frozenset({RunState.STOPPING}),
    RunState.STOPPING: frozenset({RunState.STOPPED}),
}

# Where it stays until somebody calls; the other two end by themselves.
SETTLED = frozenset({RunState.STOPPED, RunState.RUNNING})


class Service(Protocol):
    """Something that starts and stops with the others."""

    def start(self) -> object:
        """Start. What it raises makes all that was started be stopped again, this service included."""

    def stop(self, timeout: float, /) -> object:
        """Stop within so many seconds, which may be 0.

        It may be called although :meth:`start` was interrupted. It runs in a greenlet of its own, which is killed half
        a second after the time is up.
        """


def _nothing() -> None:
    """For parts that have nothing to start, or nothing to stop."""


class Part:
    """A service that is made of two functions, neither of which waits for long.

    Args:
        name: what the log calls it.
        start: as :meth:`Service.start`.
        stop: as :meth:`Service.stop`, without the time.
    """

    def __init__(
        self, name: str, start: Callable[[], object] = _nothing, stop: Callable[[], object] = _nothing
    ) -> None:
        self.name = name
        self._start = start
        self._stop = stop

    def start(self) -> None:
        self._start()

    def stop(self, timeout: float, /) -> None:
        self._stop()


class Services:
    """What runs together.

    They belong to the native thread that starts them, until they are stopped.

    Args:
        services: in the order in which they start.
        home: becomes that thread.

    Attributes:
        state: see :class:`RunState`.
    """

    def __init__(self, services: list[Service], home: HomeThread) -> None:
        self._home = home
        self.state = RunState.STOPPED
        self._services = services
        self._begun: list[Service] = []
        self._starting: _Starting | None = None
        self._stops = 0  # how often stop() was called
        self._settled, self._stopped = Flag(), Flag()  # for those who wait; at the start nobody does

    def __repr__(self) -> str:
        return f"<Services: {self.state.value}>"

    @property
    def running(self) -> bool:
        """Whether all were started and not all are stopped again. In a forked child nothing runs."""
        return self.state in (RunState.RUNNING, RunState.STOPPING) and not self._home.forked

    def check_running(self) -> None:
        """
        Raises:
            ConfigurationError: they are not running.
        """
        if not self.running:
            raise ConfigurationError("the network is not started; call start() first")

    def check_stopped(self) -> None:
        """
        Raises:
            ConfigurationError: they are running, or partly so.
        """
        if self.state is not RunState.STOPPED:
            raise ConfigurationError("the network is running; stop it first")

    @at_home
    def add(self, service: Service) -> None:
        """Add a service: it starts after the others, and stops before them.

        Raises:
            ConfigurationError: the others are running already.
        """
        self.check_stopped()
        self._services.append(service)

    @at_home
    def start(self) -> None:
        """Start all, one after the other. Idempotent; if somebody else starts or stops them, it waits for that first.

        Raises:
            ConfigurationError: somebody has called :meth:`stop` meanwhile.
            BaseException: what one of them has raised, or what has interrupted this; nothing is started then.
        """
        stops = self._stops
        # Ends: what starts or stops gets done or is cut off, and a stop() while we wait ends it too.
        while self.state not in SETTLED:
            self._settled.wait()
            self._check_wanted(stops)
        if self.state is RunState.STOPPED:
            self._start(stops)

    @at_home
    def stop(self, timeout: float, *, wait: bool = True) -> None:
        """Stop all that was started, the last one first. Idempotent.

        It goes on if the caller is interrupted. A service that hangs is left to itself, so this takes half a second
        more than ``timeout`` for each one that does.

        Args:
            timeout: seconds for all together.
            wait: whether to wait for the end; in the background it comes all the same.
        """
        self._stops += 1
        if self._starting is not None:
            self._starting.give_up(timeout)
        elif self.state is RunState.RUNNING:
            self._end(timeout)
        if wait and self.state is not RunState.STOPPED:
            self._stopped.wait(timeout + GRACE * (1 + len(self._services)))

    @at_home
    def wait(self, timeout: float | None = None) -> bool:
        """Wait until all are stopped. Returns whether they are."""
        return self.state is RunState.STOPPED or bool(self._stopped.wait(timeout))

    def is_starting_in(self, greenlet: Any) -> bool:
        """Whether this greenlet is the one that starts them just now, which cannot wait until they are stopped."""
        return self._starting is not None and self._starting.greenlet is greenlet

    def _start(self, stops: int) -> None:
        self._home.claim()
        self._settled, self._stopped = Flag(), Flag()  # a flag belongs to the thread in which somebody waits for it
        self._move(RunState.STARTING)
        self._starting = starting = _Starting()
        try:
            for service in self._services:
                self._check_wanted(stops)
                self._begun.append(service)
                service.start()
            self._move(RunState.RUNNING)
        except _GivenUp:
            raise _stopped_meanwhile() from None
        finally:
            starting.over, self._starting = True, None
            # A signal handler may have called stop() between any two lines.
            if self.state is RunState.STARTING or (self.state is RunState.RUNNING and self._stops != stops):
                self._end(starting.timeout)
                self._stopped.wait()
        self._check_wanted(stops)

    def _check_wanted(self, stops: int) -> None:
        if self._stops != stops:
            raise _stopped_meanwhile()

    def _end(self, timeout: float) -> None:
        self._move(RunState.STOPPING)
        # In a greenlet of its own, so that whoever interrupts the caller does not leave half of them.
        spawn("stop of all services", self._stop_all, Deadline(timeout))

    def _stop_all(self, deadline: Deadline) -> None:
        try:
            while self._begun:  # ends: nothing is added before the state is STOPPED
                self._stop_one(self._begun.pop(), deadline.remaining or 0.0)
        finally:
            self._move(RunState.STOPPED)

    def _stop_one(self, service: Service, timeout: float) -> None:
        name = getattr(service, "name", type(service).__name__)
        stopping = spawn(f"stop of {name}", service.stop, timeout)
        stopping.join(timeout + GRACE)
        if not stopping.dead:
            logger.warning("%s does not stop in time and is left to itself", name)
            stopping.kill(block=False)

    def _move(self, state: RunState) -> None:
        assert state in TRANSITIONS[self.state], f"{self.state.value} things cannot become {state.value}"
        self.state = state
        if state is RunState.STOPPED:
            self._home.release()
        for flag, holds in ((self._settled, state in SETTLED), (self._stopped, state is RunState.STOPPED)):
            flag.set() if holds else flag.clear()


class _GivenUp(BaseException):
    """Thrown into the greenlet that starts the services when somebody wants them to stop."""


class _Starting:
    """One start that is under way.

    Attributes:
        greenlet: where it runs.
        over: whether it has ended, however.
        timeout: seconds for stopping what was started, if it does not get done.
    """

    def __init__(self) -> None:
        self.greenlet: Any = gevent.getcurrent()
        self.over = False
        self.timeout = 0.0

    def give_up(self, timeout: float) -> None:
        """Have it fail soon, wherever it waits."""
        self.timeout = timeout
        gevent.get_hub().loop.run_callback(self._throw)

    def _throw(self) -> None:
        if not self.over:
            self.greenlet.throw(_GivenUp)


def _stopped_meanwhile() -> ConfigurationError:
    return ConfigurationError("the network was stopped while it started")
