"""Ownership: the native thread and the greenlets that a channel belongs to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gevent
from gevent.pool import Group
from greenlet import greenlet

from peernet.channel.lifecycle import Lifecycle
from peernet.errors import SelfWaitError
from peernet.runtime.greenlets import get_ident, spawn
from peernet.runtime.threads import HomeThread


class Ownership:
    """The native thread of the network, the channel's own greenlet, and those that it has spawned.

    The own greenlet alone reads and calls back. Until one does, it is the greenlet that makes the channel.

    Args:
        lifecycle: names the channel in errors.
        home: the native thread of the network.

    Attributes:
        home: that thread.
        greenlet: the channel's own.
        runs: whether the own greenlet has begun to read.
    """

    __slots__ = ("_lifecycle", "_tasks", "greenlet", "home", "runs")

    def __init__(self, lifecycle: Lifecycle, home: HomeThread) -> None:
        self._lifecycle = lifecycle
        self.home = home
        self.greenlet: greenlet = gevent.getcurrent()
        self.runs = False
        self._tasks: Group | None = None  # most channels never spawn

    def start(self, run: Callable[[], None]) -> gevent.Greenlet[..., Any]:
        """Call ``run``, which takes over, in a new greenlet."""
        self.greenlet = spawned = spawn(f"channel {self._lifecycle.peer.identifier[:8]}", run)
        return spawned

    def take_over(self) -> None:
        """The calling greenlet is the channel's own from now on."""
        self.greenlet = gevent.getcurrent()
        self.runs = True

    def kill(self) -> None:
        """Kill the channel's own greenlet. Not before it :attr:`runs`: until then it is somebody else's."""
        gevent.kill(self.greenlet)

    # Checks.

    def in_own_greenlet(self) -> bool:
        """Whether this runs in one of the channel's own callbacks."""
        return gevent.getcurrent() is self.greenlet

    def check_thread(self) -> None:
        """
        Raises:
            WrongThreadError: this is not the native thread of the network.
            ForkedError: this is a child of the network's process.
        """
        if get_ident() != self.home.thread:
            self.home.check(self._lifecycle.label)

    def check_not_own_greenlet(self, method: str) -> None:
        """
        Raises:
            SelfWaitError: this is one of the channel's own callbacks.
            WrongThreadError, ForkedError: as :meth:`check_thread`.
        """
        self.check_thread()
        if self.in_own_greenlet():
            raise SelfWaitError(
                f"{method}() in a callback of the same channel would wait for itself; use channel.spawn(...)"
            )

    # What the channel has spawned.

    def spawn(self, function: Callable[..., Any], *args: Any) -> gevent.Greenlet[..., Any]:
        """Run ``function(*args)`` in a greenlet of its own, until :meth:`kill_tasks`."""
        task = spawn(f"channel {self._lifecycle.peer.identifier[:8]} task", function, *args)
        if self._tasks is None:
            self._tasks = Group()
        self._tasks.add(task)
        return task

    @property
    def has_tasks(self) -> bool:
        """Whether any of them still runs."""
        return bool(self._tasks)

    def has_spawned(self, task: Any) -> bool:
        """Whether ``task`` is one of them."""
        return self._tasks is not None and task in self._tasks

    def kill_tasks(self, after: float = 0.0) -> None:
        """End them; those that need less than ``after`` seconds end themselves."""
        if self._tasks is not None:
            try:
                self._tasks.join(timeout=after)
            finally:
                self._tasks.kill()
