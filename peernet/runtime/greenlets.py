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
from peernet.runtime.interruptions import OwnedGreenlet, is_addressed_here, raise_in_main
from peernet.runtime.logs import get_logger

logger = get_logger(__name__)

# Of the native thread. In a patched process threading's own tells greenlets apart.
get_ident: Callable[[], int] = monkey.get_original("_thread", "get_ident")


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


def call_back(callback: Callable[[Any], object], argument: Any) -> None:
    """Call ``callback(argument)``, which must not wait, where nothing that it raises may get out.

    As it does not wait, nobody can have interrupted it: whatever it raises, a ``gevent.Timeout`` and ``GreenletExit``
    too, is its own failure. It is logged; what asks the program to end is raised in the main greenlet.
    """
    try:
        callback(argument)
    except BaseException as error:
        logger.exception("a callback of %r failed", argument)
        raise_in_main(error)


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
