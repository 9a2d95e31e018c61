"""What a program gives us to call: checked when it is given, and not when it is called for the first time."""

from __future__ import annotations

import inspect

from peernet.errors import ConfigurationError


def check_callable(function: object, arguments: int, what: str, form: str) -> None:
    """Pass if something can be called with so many positional arguments, and runs to its end when it is.

    Args:
        function: what a program has given.
        arguments: how many it will be given.
        what: what it is, for the error.
        form: how it should look, for the error.

    Raises:
        ConfigurationError: it cannot be called so, or only begins to run: a coroutine or generator function.
    """
    if not callable(function):
        raise ConfigurationError(f"{what} must be callable, as {form}; {function!r} is not")
    inner = getattr(function, "callback", function)  # of InThreadpool
    if _only_begins(inner):
        raise ConfigurationError(
            f"{what} must be an ordinary function, as {form}; {function!r} is a coroutine or generator function, "
            "whose body would never run"
        )
    try:
        inspect.signature(inner).bind(*range(arguments))
    except TypeError as error:
        raise ConfigurationError(f"{what} is called as {form}; {function!r} cannot be: {error}") from None
    except ValueError:
        return  # some functions of C tell nobody what they take


def _only_begins(function: object) -> bool:
    """Whether calling it runs nothing yet. An object is as its class's ``__call__``."""
    candidates = [function, vars(type(function)).get("__call__")]
    kinds = (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction)
    return any(is_one(inspect.unwrap(one)) for one in candidates if callable(one) for is_one in kinds)
