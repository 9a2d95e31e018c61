"""Callables: whether what a program sets as a callback can be called as one.

A callback that cannot be called would fail with the first packet or event, in a log that nobody reads. So it is
refused where it is set.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from types import FunctionType

from peernet.errors import ConfigurationError

# A call of one of these runs nothing: it makes an object that somebody would have to await or to iterate.
_MAKERS: tuple[tuple[Callable[[object], bool], str], ...] = (
    (inspect.iscoroutinefunction, "a coroutine function (async def)"),
    (inspect.isasyncgenfunction, "an asynchronous generator function (async def with yield)"),
    (inspect.isgeneratorfunction, "a generator function (it has a yield)"),
)


_NOT_PLAIN = inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR | inspect.CO_GENERATOR | inspect.CO_ITERABLE_COROUTINE


def check_callable(function: object, parameters: Sequence[str] | None, what: str) -> None:
    """Check that a call of a function runs it.

    Args:
        function: what a program has set.
        parameters: names of the positional arguments that it will be called with; ``None`` if they are not known.
        what: what it is set as, for the messages.

    Raises:
        ConfigurationError: it is not callable, cannot be called with so many positional arguments, or is a
            coroutine or generator function.
    """
    if not callable(function):
        raise ConfigurationError(f"{what} must be callable, not {function!r}")
    if not _is_plain(function):
        _check_kind(function, what)
    if parameters is not None:
        _check_parameters(function, parameters, what)


def _is_plain(function: object) -> bool:
    """Whether it is a function that runs when it is called; a tenth of the time of asking ``inspect``."""
    return type(function) is FunctionType and not function.__code__.co_flags & _NOT_PLAIN and not function.__dict__


def _check_kind(function: object, what: str) -> None:
    for is_made_by, kind in _MAKERS:
        if is_made_by(function) or is_made_by(_call_of(function)):
            raise ConfigurationError(
                f"{what} must be an ordinary function, and {_name(function)} is {kind}: a call would not run it"
            )


def _check_parameters(function: Callable[..., object], parameters: Sequence[str], what: str) -> None:
    try:
        # Not what it wraps, if it is a decorator's: the wrapper is called, and may take other arguments.
        signature = inspect.signature(function, follow_wrapped=False)
    except ValueError:
        return  # some functions written in C do not tell what they take
    try:
        signature.bind(*parameters)
    except TypeError as error:
        raise ConfigurationError(
            f"{what} is called with {len(parameters)} positional argument{'s' * (len(parameters) != 1)} "
            f"({', '.join(parameters)}), and {_name(function)}{_without_types(signature)} cannot be: {error}"
        ) from None


def _without_types(signature: inspect.Signature) -> inspect.Signature:
    return inspect.Signature([one.replace(annotation=one.empty) for one in signature.parameters.values()])


def _call_of(function: object) -> object:
    """What runs when an object is called that is no function itself."""
    return type(_innermost(function)).__call__


def _innermost(function: object) -> object:
    while isinstance(function, partial):
        function = function.func
    return function


def _name(function: object) -> str:
    function = _innermost(function)
    name: str = getattr(function, "__qualname__", None) or type(function).__qualname__
    return name
