"""The arguments of a request: whether they are those of the method that answers it, and of the types that it names."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from inspect import Parameter, signature
from typing import Any, get_type_hints

from peernet.node.failures import RequestError

# What is shown of a value of the wrong type. Characters.
MAX_SHOWN = 40
# Times, counts: nothing is as large, and every number up to it fits wherever it is used. Excludes NaN.
MAX_NUMBER = 2**53


def check_arguments(method: Callable[..., Any], arguments: dict[str, Any]) -> None:
    """Pass if these are the arguments of a method, each of the type of its annotation.

    Raises:
        RequestError: one is missing, unknown, or of another type.
    """
    parameters = _parameters_of(method)
    for name in arguments:
        if name not in parameters:
            raise RequestError(f"there is no argument {name!r}")
    for name, parameter in parameters.items():
        if name in arguments:
            check_type(name, arguments[name], parameter.annotation)
        elif parameter.default is Parameter.empty:
            raise RequestError(f"the argument {name!r} is missing")


def check_type(name: str, value: object, wanted: Any) -> None:
    """Pass if a value is of one of the :data:`TYPES`.

    Raises:
        RequestError: it is not.
    """
    word, is_one = TYPES[wanted]
    if not is_one(value):
        raise RequestError(f"{name!r} must be {word}, not {json.dumps(value)[:MAX_SHOWN]}")


@cache
def _parameters_of(method: Callable[..., Any]) -> dict[str, Parameter]:
    """What follows the object whose method it is."""
    hints = get_type_hints(method)
    _, *parameters = signature(method).parameters.values()
    return {parameter.name: parameter.replace(annotation=hints[parameter.name]) for parameter in parameters}


def _is_text(value: object) -> bool:
    """JSON can write halves of characters, which are no text to anybody else."""
    return isinstance(value, str) and value.encode(errors="replace") == value.encode(errors="surrogatepass")


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -MAX_NUMBER <= value <= MAX_NUMBER


TYPES: dict[Any, tuple[str, Callable[[object], bool]]] = {
    str: ("a text", _is_text),
    str | None: ("a text, or null", lambda value: value is None or _is_text(value)),
    bool: ("true or false", lambda value: isinstance(value, bool)),
    int: ("a whole number", lambda value: isinstance(value, int) and _is_number(value)),
    float: ("a number", _is_number),
    float | None: ("a number, or null", lambda value: value is None or _is_number(value)),
    dict[str, Any]: ("an object", lambda value: isinstance(value, dict)),
}
"""By annotation: what people call the type, and whether a value is of it."""
