"""The one way to start a greenlet: named, and nothing it raises is lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gevent
from gevent import monkey
from gevent.event import Event as Flag
from gevent.hub import Waiter
from gevent.pool import Group

from peernet.runtime import forks
from peernet.runtime.logs import get_logger

logger = get_logger(__name__)

# Of the native thread. In a patched process threading's own tells greenlets apart.
get_ident: Callable[[], int] = monkey.get_original("_thread", "get_ident")


class OwnedGreenlet(gevent.Greenlet):  # type: ignore[type-arg]  # not generic at run time
    """A greenlet of peernet's own.

    It does not remember the stack that started it: 2.6 KiB less for each channel. It remembers who killed it, because
    code that it calls may raise ``GreenletExit`` by itself.

    Attributes:
        thrown: the exception, or its class, that ``kill()`` has thrown into it; ``None`` if nobody has.
    """

    spawning_stack_limit = 0
    thrown: Any = None

    def throw(self, *args: Any) -> Any:
        """As of every greenlet. A :class:`gevent.Timeout` comes this way too; it kills nobody."""
        if args and not isinstance(args[0], gevent.Timeout):
            self.thrown = args[0]
        return super().throw(*args)


class OwnedGroup(Group):
    """A group that may be used in one native thread after another, each time that it is empty in between.

    gevent's own belongs for ever to the first thread in which somebody waited for it.
    """

    def add(self, greenlet: Any) -> None:
        if not self:
            self._empty_event = Flag()
        super().add(greenlet)

    def join(self, timeout: float | None = None, raise_error: bool = False) -> bool:
        return not self or bool(super().join(timeout, raise_error))


def spawn(name: str, function: Callable[..., Any], *args: Any) -> OwnedGreenlet:
    """Start ``function(*args)`` in a greenlet called ``name``; what escapes it is logged.

    The caller owns the greenlet and joins it.
    """
    greenlet = OwnedGreenlet(_logged, name, function, args)
    greenlet.name = name
    forks.let_go_in_children(greenlet, _end_in_child)
    greenlet.start()
    return greenlet


def _end_in_child(greenlet: OwnedGreenlet) -> None:
    """In a forked child, end a copy as soon as the hub runs. The one that has forked goes on."""
    if greenlet is gevent.getcurrent() or greenlet.dead:
        return
    hub: Any = greenlet.parent
    if hub.thread_ident == get_ident():  # those of other threads than the one that has forked never run again
        greenlet.kill(block=False)


def _logged(name: str, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    try:
        return function(*args)
    except BaseException as error:
        if is_addressed_here(error):
            raise
        logger.exception("the greenlet %s failed", name)
        raise_in_main(error)
        return None


def is_addressed_here(error: BaseException) -> bool:
    """Whether what foreign code let escape is meant for the calling greenlet, and is not a failure of that code.

    Whoever kills a greenlet means the greenlet. A ``gevent.Timeout`` in a greenlet of a program may be the program's,
    which waits around our call. In our own greenlets and in the hub nobody waits around, so there it is the foreign
    code's.
    """
    current = gevent.getcurrent()
    if isinstance(error, Exception) or isinstance(current, gevent.hub.Hub):
        return False
    if not isinstance(current, OwnedGreenlet):
        return isinstance(error, (gevent.GreenletExit, gevent.Timeout))
    thrown = current.thrown
    return error is thrown or (isinstance(thrown, type) and type(error) is thrown)


def failure_of(function: Callable[..., object], *args: object, **kwargs: object) -> BaseException | None:
    """Call a function of the program. Returns what it has raised, of whatever kind, for the caller to log.

    What is addressed to the calling greenlet passes through; what asks the program to end is raised in its main
    greenlet as well.
    """
    try:
        function(*args, **kwargs)
    except BaseException as error:
        if is_addressed_here(error):
            raise
        raise_in_main(error)
        return error
    return None


def raise_in_main(error: BaseException) -> bool:
    """If an error asks the program to end, raise it in the main greenlet of this thread, with the next loop pass.

    That is what gevent does with ``SystemExit`` and ``KeyboardInterrupt`` that end a greenlet. Returns whether it
    is such an error.
    """
    hub: Any = gevent.get_hub()
    if not isinstance(error, hub.SYSTEM_ERROR):
        return False
    hub.loop.run_callback(hub.parent.throw, error)
    return True


def let_others_run() -> None:
    """Wait until the event loop has looked at every socket once, without making it wait itself.

    ``gevent.sleep(0)`` is not that: the loop may run fifty callbacks before it polls,
    so a busy greenlet that pauses with it delays everybody's input fifty turns. An
    async watcher fires only after a poll.
    """
    hub = gevent.get_hub()
    waiter: Any = Waiter(hub)
    watcher = hub.loop.async_()
    watcher.start(waiter.switch, None)
    watcher.send()
    try:
        waiter.get()
    finally:
        watcher.stop()
        watcher.close()
