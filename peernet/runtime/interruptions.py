"""Interruptions: what is thrown into a greenlet from outside, told apart from what foreign code raises by itself."""

from __future__ import annotations

from typing import Any

import gevent


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


def is_in_own_greenlet() -> bool:
    """Whether this runs in a greenlet of peernet's own, or in the hub: nobody of the program waits around it."""
    return isinstance(gevent.getcurrent(), (OwnedGreenlet, gevent.hub.Hub))


def is_addressed_here(error: BaseException) -> bool:
    """Whether what foreign code let escape is meant for the calling greenlet, and is not a failure of that code.

    Whoever kills a greenlet means the greenlet. A ``gevent.Timeout`` in a greenlet of a program may be the program's,
    which waits around our call. In our own greenlets, and in the hub, nobody waits around, so there it is the foreign
    code's.
    """
    if isinstance(error, Exception):
        return False
    if not is_in_own_greenlet():
        return isinstance(error, (gevent.GreenletExit, gevent.Timeout))
    thrown = getattr(gevent.getcurrent(), "thrown", None)  # nobody kills the hub
    return error is thrown or (isinstance(thrown, type) and type(error) is thrown)


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
