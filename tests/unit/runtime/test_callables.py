from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from peernet.errors import ConfigurationError
from peernet.runtime.callables import check_callable


def two(channel: object, packet: object) -> None: ...


def two_or_more(channel: object, packet: object, *more: object, last: int = 5) -> None: ...


def anything(*args: object, **keywords: object) -> None: ...


def one(channel: object) -> None: ...


def three(channel: object, packet: object, more: object) -> None: ...


def with_keyword(channel: object, packet: object, *, more: object) -> None: ...


async def coroutine(channel: object, packet: object) -> None: ...


async def asynchronous_generator(channel: object, packet: object) -> AsyncIterator[int]:
    yield 1


def generator(channel: object, packet: object) -> Iterator[int]:
    yield 1


@functools.wraps(one)
def wrapper_of_one(channel: object, packet: object) -> None: ...


@functools.wraps(two)
def wrapper_of_two(channel: object) -> None: ...


class Methods:
    def two(self, channel: object, packet: object) -> None: ...

    def one(self, channel: object) -> None: ...

    @staticmethod
    def static(channel: object, packet: object) -> None: ...

    @classmethod
    def of_class(cls, channel: object, packet: object) -> None: ...

    async def coroutine(self, channel: object, packet: object) -> None: ...

    def generator(self, channel: object, packet: object) -> Iterator[int]:
        yield 1


class Made:
    def __init__(self, channel: object, packet: object) -> None: ...


class MadeOfOne:
    def __init__(self, channel: object) -> None: ...


class Called:
    def __call__(self, channel: object, packet: object) -> None: ...


class CalledWithOne:
    def __call__(self, channel: object) -> None: ...


class CalledAsCoroutine:
    async def __call__(self, channel: object, packet: object) -> None: ...


class CalledAsGenerator:
    def __call__(self, channel: object, packet: object) -> Iterator[int]:
        yield 1


def check(function: object) -> None:
    check_callable(function, ["channel", "packet"], "the callback")


@pytest.mark.parametrize(
    "function",
    [
        two,
        two_or_more,
        anything,
        wrapper_of_one,
        lambda channel, packet: None,
        lambda channel, packet=None: None,
        Methods().two,
        Methods.static,
        Methods.of_class,
        Made,
        Called(),
        functools.partial(three, "first"),
        functools.partial(three, more=5),
        functools.partial(with_keyword, more=5),
        print,
        [].insert,
        dict,  # tells no signature
        functools.lru_cache(two),  # nor does this
    ],
)
def test_what_can_be_called_with_the_arguments_is_taken(function: object) -> None:
    check(function)


@pytest.mark.parametrize(
    "function",
    [
        one,
        three,
        with_keyword,
        wrapper_of_two,
        lambda: None,
        Methods.two,
        Methods().one,
        MadeOfOne,
        CalledWithOne(),
        functools.partial(two, "first"),
        functools.partial(two, packet=5),
        [].append,
    ],
)
def test_what_cannot_be_called_with_the_arguments_is_refused(function: object) -> None:
    with pytest.raises(ConfigurationError, match=r"^the callback is called with 2 positional arguments \(channel, pa"):
        check(function)


@pytest.mark.parametrize(
    ("function", "kind"),
    [
        (coroutine, "a coroutine function"),
        (Methods().coroutine, "a coroutine function"),
        (functools.partial(coroutine), "a coroutine function"),
        (CalledAsCoroutine(), "a coroutine function"),
        (functools.partial(CalledAsCoroutine()), "a coroutine function"),
        (asynchronous_generator, "an asynchronous generator function"),
        (generator, "a generator function"),
        (Methods().generator, "a generator function"),
        (CalledAsGenerator(), "a generator function"),
        (functools.partial(generator, packet=5), "a generator function"),
    ],
)
def test_what_would_run_nothing_when_called_is_refused(function: object, kind: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"^the callback must be an ordinary function, and .+ is {kind} \("):
        check(function)


@pytest.mark.parametrize("function", [None, "print", 5, object()])
def test_what_cannot_be_called_at_all_is_refused(function: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^the callback must be callable, not "):
        check(function)


def test_the_message_names_the_function_and_what_it_takes() -> None:
    with pytest.raises(
        ConfigurationError,
        match=r"\(channel, packet\), and one\(channel\) cannot be: too many positional arguments$",
    ):
        check(one)


def test_one_argument_is_not_called_arguments() -> None:
    with pytest.raises(ConfigurationError, match=r"is called with 1 positional argument \(channel\), and two"):
        check_callable(two, ["channel"], "the listener")


@pytest.mark.parametrize("function", [one, two, three])
def test_any_number_of_arguments_is_taken_where_it_is_not_known(function: object) -> None:
    check_callable(function, None, "the listener")


def test_a_coroutine_function_is_refused_whatever_it_is_called_with() -> None:
    with pytest.raises(ConfigurationError, match="is a coroutine function"):
        check_callable(coroutine, None, "the listener")
