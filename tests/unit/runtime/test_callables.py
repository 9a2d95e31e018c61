"""What a program may give us to call, and what it is told if that cannot be called."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import Any

import pytest

from peernet.errors import ConfigurationError
from peernet.runtime.callables import check_callable


def two(one: object, other: object) -> None: ...


def any_number(*args: object) -> None: ...


def one_and_an_option(one: object, other: object = None, *, option: bool = False) -> None: ...


class Listens:
    def __call__(self, one: object, other: object) -> None: ...

    def method(self, one: object, other: object) -> None: ...


@pytest.mark.parametrize(
    "function",
    [two, any_number, one_and_an_option, Listens(), Listens().method, partial(any_number, 1), [].insert, dict, max],
)
def test_what_takes_two_arguments_may_be_given(function: Any) -> None:
    check_callable(function, 2, "a listener", "listener(one, other)")


def none() -> None: ...


def one(one: object) -> None: ...


def by_name(one: object, *, other: object) -> None: ...


@pytest.mark.parametrize("function", [none, one, by_name, partial(two, 1), lambda one, two, three: None])
def test_what_takes_another_number_is_refused(function: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"a listener is called as listener\(one, other\); .* cannot be"):
        check_callable(function, 2, "a listener", "listener(one, other)")


async def coroutine(one: object, other: object) -> None: ...


def generator(one: object, other: object) -> Iterator[None]:
    yield


async def async_generator(one: object, other: object) -> AsyncIterator[None]:
    yield


class Awaits:
    async def __call__(self, one: object, other: object) -> None: ...


@pytest.mark.parametrize("function", [coroutine, generator, async_generator, Awaits(), partial(coroutine, 1)])
def test_what_only_begins_to_run_is_refused(function: Any) -> None:
    with pytest.raises(ConfigurationError, match="whose body would never run"):
        check_callable(function, 2, "a listener", "listener(one, other)")


@pytest.mark.parametrize("function", [None, "print", 5])
def test_what_cannot_be_called_at_all_is_refused(function: Any) -> None:
    with pytest.raises(ConfigurationError, match="a listener must be callable"):
        check_callable(function, 2, "a listener", "listener(one, other)")
