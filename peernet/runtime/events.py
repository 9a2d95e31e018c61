"""Events: lists of listeners that cannot hurt each other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from peernet.runtime.greenlets import is_addressed_here, raise_in_main
from peernet.runtime.logs import get_logger

logger = get_logger(__name__)

Listener = TypeVar("Listener", bound=Callable[..., Any])


class Event:
    """A named event. Listeners run in the order they were added, in the greenlet that fires.

    A listener that raises is logged and the next one runs, whatever it raises. Only what is addressed to the
    greenlet passes through; see :func:`~peernet.runtime.greenlets.is_addressed_here`.

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
            except BaseException as error:
                if is_addressed_here(error):
                    raise
                logger.exception("a listener of %s failed", self.name)
                raise_in_main(error)
                well = False
        return well
