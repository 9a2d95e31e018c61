"""Events: lists of listeners that cannot hurt each other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from peernet.runtime.logs import get_logger

logger = get_logger(__name__)

Listener = TypeVar("Listener", bound=Callable[..., Any])


class Event:
    """A named event. Listeners run in the order they were added, in the greenlet that fires.

    A listener that raises is logged and the next one runs; ``GreenletExit`` and
    ``gevent.Timeout`` pass through, because they are addressed to the greenlet.

    Attributes:
        listeners: who listens; replaced, never changed, so that it is safe to iterate.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.listeners: tuple[Callable[..., Any], ...] = ()

    def add(self, listener: Listener) -> Listener:
        """Add a listener; usable as a decorator. Returns the listener."""
        self.listeners += (listener,)
        return listener

    def remove(self, listener: Callable[..., Any]) -> None:
        """Remove a listener; one that is not there is no error."""
        self.listeners = tuple(known for known in self.listeners if known != listener)

    def fire(self, *args: Any) -> bool:
        """Call every listener with ``args``. Returns whether all of them returned."""
        well = True
        for listener in self.listeners:
            try:
                listener(*args)
            except Exception:
                logger.exception("a listener of %s failed", self.name)
                well = False
        return well
