"""Events: lists of listeners that cannot hurt each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Generic, ParamSpec, TypeVar

from peernet.runtime.callables import check_callable
from peernet.runtime.greenlets import failure_of, get_ident
from peernet.runtime.logs import get_logger
from peernet.runtime.threads import NO_HOME, HomeThread, at_home

logger = get_logger(__name__)

# What the listeners of an event are called with, all of it positional. Only type checkers need the default, which
# lets programs write Event without it, and which `typing` has from Python 3.13 on.
if TYPE_CHECKING:
    from typing_extensions import ParamSpec as ParamSpecWithDefault

    Parameters = ParamSpecWithDefault("Parameters", default=...)
else:
    Parameters = ParamSpec("Parameters")
Returned = TypeVar("Returned")


class Event(Generic[Parameters]):
    """A named event. Listeners run in the order they were added, in the greenlet that fires.

    A listener that raises is logged and the next one runs, whatever it raises. Only what is addressed to the
    greenlet passes through; see :func:`~peernet.runtime.interruptions.is_addressed_here`.

    For type checkers an event is generic in what its listeners are called with:
    ``Event[[PeerChannel, Reason]]`` has listeners ``(channel, reason)``.

    Args:
        name: for messages.
        parameters: names of the positional arguments that listeners are called with. A listener that does not
            take so many is refused. If ``None``, any number is taken.
        home: the thread of the network whose event it is; any thread may use one of no network.

    Attributes:
        listeners: who listens; replaced, never changed, so that it is safe to iterate.
    """

    def __init__(self, name: str, parameters: Sequence[str] | None = None, home: HomeThread = NO_HOME) -> None:
        self.name = name
        self.parameters = None if parameters is None else tuple(parameters)
        self.listeners: tuple[Callable[Parameters, object], ...] = ()
        self._home = home

    def __repr__(self) -> str:
        parameters = "..." if self.parameters is None else ", ".join(self.parameters)
        return f"<Event {self.name}({parameters}), listeners: {len(self.listeners)}>"

    @at_home
    def add(self, listener: Callable[Parameters, Returned]) -> Callable[Parameters, Returned]:
        """Add a listener; usable as a decorator. Returns the listener.

        Raises:
            ConfigurationError: it cannot be called with the arguments of this event, or is a coroutine or
                generator function, whose call would run nothing.
        """
        check_callable(listener, self.parameters, f"a listener of {self.name}")
        self.listeners += (listener,)
        return listener

    @at_home
    def remove(self, listener: Callable[Parameters, object]) -> None:
        """Remove a listener; one that is not there is no error."""
        self.listeners = tuple(known for known in self.listeners if known != listener)

    def fire(self, *args: Parameters.args, **kwargs: Parameters.kwargs) -> bool:
        """Call every listener with ``args``. Returns whether all of them returned.

        In a forked child nobody is called: it happens to the parent's network.
        """
        home, well = self._home, True
        if get_ident() != home.thread:
            if home.forked:
                return False
            home.check()
        for listener in self.listeners:
            failure = failure_of(listener, *args, **kwargs)
            if failure is not None:
                logger.error("a listener of %s failed", self.name, exc_info=failure)
                well = False
        return well
