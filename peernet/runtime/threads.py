"""What a network has to do with native threads: the one it belongs to, and those that run blocking callbacks."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, Protocol, TypeVar, cast

import gevent
from gevent import monkey
from gevent.threadpool import ThreadPool

from peernet.errors import ConfigurationError, ForkedError, WrongThreadError
from peernet.runtime import forks
from peernet.runtime.greenlets import OwnedGroup, get_ident, spawn

# Of native threads too. It may be taken again by the thread that has it: a signal handler can call in between.
make_lock: Callable[[], Any] = monkey.get_original("_thread", "RLock")
# What no thread is called: CPython's identifiers are addresses, or numbers from 1 on.
NOBODY = 0
FORKED = -1
# A thread without work ends after that long. Seconds.
IDLE = 5


class HomeThread:
    """The native thread that a network belongs to from :meth:`claim` to :meth:`release`, and its hub.

    After a fork in between, the child's copy stays as it is for ever: the network belongs to the parent.

    Attributes:
        thread: the identifier of the thread; :data:`NOBODY` or :data:`FORKED` if the network belongs to none here.
            What is called for each packet compares it with :func:`get_ident`, and calls :meth:`check` if they differ.
        greenlets: what :meth:`call_soon` has started, and what else works for the network.
    """

    __slots__ = ("__weakref__", "_lock", "_loop", "greenlets", "thread")

    def __init__(self) -> None:
        self.thread = NOBODY
        self.greenlets = OwnedGroup()
        self._loop: Any = None
        self._lock = make_lock()
        forks.let_go_in_children(self, HomeThread._note_fork)

    @property
    def forked(self) -> bool:
        """Whether this is a child process, and the network its parent's."""
        return self.thread == FORKED

    def claim(self) -> None:
        """It is the calling thread from now on.

        Raises:
            WrongThreadError: it is another one by now.
            ForkedError: see :attr:`forked`.
        """
        self.check()
        with self._lock:  # two threads may try at once
            self.check()
            self.thread, self._loop = get_ident(), gevent.get_hub().loop

    def release(self) -> None:
        """The network belongs to no thread any more, and any may use it."""
        if not self.forked:
            with self._lock:
                self.thread, self._loop = NOBODY, None

    def check(self, what: str = "this network") -> None:
        """Pass in the thread that ``what`` belongs to, and in any if it belongs to none.

        Raises:
            WrongThreadError: this is another thread.
            ForkedError: see :attr:`forked`.
        """
        thread = self.thread
        if thread == FORKED:
            raise ForkedError(
                f"{what} belongs to the parent of this process, where it goes on; make another PeerNetwork here, with "
                "an identity of its own"
            )
        if thread not in (NOBODY, get_ident()):
            raise WrongThreadError(
                f"{what} belongs to the native thread in which the network was started; in another one use "
                "network.call_soon(function, *args), for example network.call_soon(channel.send, message)"
            )

    def call_soon(self, function: Callable[..., Any], *args: Any) -> None:
        """Run ``function(*args)`` in a greenlet of that thread. From any thread; waits for nothing.

        Raises:
            ConfigurationError: the network is not started.
            ForkedError: see :attr:`forked`.
        """
        if self.forked:
            self.check()
        with self._lock:  # or the thread could end, and with it the loop, between the two lines
            if self._loop is None:
                raise ConfigurationError("the network is not started; call start() first")
            self._loop.run_callback_threadsafe(self._start, function, args)

    def _start(self, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self.greenlets.add(spawn("call from a thread", function, *args))

    def _note_fork(self) -> None:
        if self.thread != NOBODY:
            self.thread = FORKED


# For what belongs to no network: anybody may use it.
NO_HOME = HomeThread()


class AtHome(Protocol):
    """Something that belongs to a network."""

    @property
    def _home(self) -> HomeThread: ...


Method = TypeVar("Method", bound=Callable[..., Any])


def at_home(method: Method) -> Method:
    """Decorator for methods of an :class:`AtHome` that act on its network.

    While the network runs, only its own native thread may call them: in another one they raise
    :class:`WrongThreadError`, in a child process :class:`ForkedError`.
    """

    @wraps(method)
    def checked(self: AtHome, *args: Any, **kwargs: Any) -> Any:
        home = self._home
        if get_ident() != home.thread:
            home.check()
        return method(self, *args, **kwargs)

    return cast(Method, checked)


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
