"""What a network has to do with native threads: the one it belongs to, and those that run blocking callbacks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gevent
from gevent import monkey
from gevent.pool import Group
from gevent.threadpool import ThreadPool

from peernet.errors import ConfigurationError
from peernet.runtime.greenlets import spawn

# Of the native thread. In a patched process threading's own tells greenlets apart.
get_ident: Callable[[], int] = monkey.get_original("_thread", "get_ident")
# A thread without work ends after that long. Seconds.
IDLE = 5


class HomeThread:
    """The native thread that a network was started in, and its hub.

    Args:
        greenlets: take what :meth:`call_soon` starts.
    """

    def __init__(self, greenlets: Group) -> None:
        self._loop: Any = None
        self._greenlets = greenlets

    def start(self) -> None:
        """This thread it is from now on."""
        self._loop = gevent.get_hub().loop

    def stop(self) -> None:
        """None it is from now on."""
        self._loop = None

    def call_soon(self, function: Callable[..., Any], *args: Any) -> None:
        """Run ``function(*args)`` in a greenlet of that thread. From any thread; waits for nothing.

        Raises:
            ConfigurationError: it is not started.
        """
        loop = self._loop
        if loop is None:
            raise ConfigurationError("the network is not started; call start() first")
        loop.run_callback_threadsafe(self._start, function, args)

    def _start(self, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self._greenlets.add(spawn("call from a thread", function, *args))


class CallbackThreads:
    """Native threads for callbacks that block. Not gevent's own pool, which must stay free for names and files.

    Args:
        most: how many callbacks may run at once; others wait.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._pool: ThreadPool | None = None

    def run(self, function: Callable[..., Any], *args: Any) -> None:
        """Run ``function(*args)`` in a native thread, while the calling greenlet waits and others run.

        If the greenlet is killed meanwhile, nobody waits for the function any more; it is
        not called if it had to wait for a thread until then.

        Raises:
            BaseException: what the function raises.
        """
        if self._pool is None:
            self._pool = ThreadPool(self._most, idle_task_timeout=IDLE)
        job = _Job(function, args)
        try:
            error = self._pool.spawn(job.run).get()
        finally:
            job.wanted = False
        if error is not None:
            raise error

    def stop(self) -> None:
        """Keep no threads. One that hangs in a callback is left to itself: it cannot be ended."""
        pool, self._pool = self._pool, None
        if pool is not None and not len(pool):
            pool.kill()


class _Job:
    """One call. What it raises is returned, because gevent would print it."""

    __slots__ = ("_args", "_function", "wanted")

    def __init__(self, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self._function = function
        self._args = args
        self.wanted = True

    def run(self) -> BaseException | None:
        """In the native thread."""
        if self.wanted:
            try:
                self._function(*self._args)
            except BaseException as error:
                return error
        return None
