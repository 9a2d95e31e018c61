from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import gevent
import pytest
from gevent.event import Event as Flag
from greenlet import GreenletExit

from peernet.errors import ConfigurationError
from peernet.runtime.events import Event
from peernet.runtime.greenlets import spawn
from tests.support import Recorder, scaled


def test_listeners_are_called_in_the_order_they_came() -> None:
    event = Event[[int]]("something")
    calls: list[tuple[str, int]] = []
    event.add(lambda value: calls.append(("first", value)))
    event.add(lambda value: calls.append(("second", value)))
    event.fire(5)
    assert calls == [("first", 5), ("second", 5)]


def test_nobody_has_to_listen() -> None:
    event = Event[[int, int, int]]("something")
    event.fire(1, 2, 3)
    assert event.listeners == ()


def test_add_is_a_decorator() -> None:
    event = Event[[]]("something")

    @event.add
    def listener() -> str:
        return "still a function"

    assert listener() == "still a function"
    assert event.listeners == (listener,)


def test_a_removed_listener_hears_no_more() -> None:
    event, one, other = Event[[]]("something"), Recorder(), Recorder()
    event.add(one)
    event.add(other)
    event.remove(one)
    event.remove(one)
    event.fire()
    assert (len(one), len(other)) == (0, 1)


def test_bound_methods_can_be_removed() -> None:
    class Owner:
        def listen(self) -> None: ...

    event, owner = Event[[]]("something"), Owner()
    event.add(owner.listen)
    event.remove(owner.listen)
    assert event.listeners == ()


def test_a_failing_listener_is_logged_and_hurts_nobody(caplog: pytest.LogCaptureFixture) -> None:
    event, other = Event[[]]("something"), Recorder()

    @event.add
    def fail() -> None:
        raise ValueError("oh dear")

    event.add(other)
    with caplog.at_level(logging.ERROR):
        event.fire()
    assert len(other) == 1
    assert "a listener of something failed" in caplog.text
    assert "oh dear" in caplog.text


@pytest.mark.parametrize("error", [GreenletExit(), gevent.Timeout(5)])
def test_what_is_addressed_to_a_greenlet_of_the_program_passes_through(error: BaseException) -> None:
    """A program may have set a timeout around a call of ours in which the event fires."""
    event = Event[[]]("something")

    @event.add
    def fail() -> None:
        raise error

    with pytest.raises(type(error)):
        event.fire()


class OwnError(BaseException):
    """What a program may have made, and no library expects."""


@pytest.mark.parametrize("error", [GreenletExit(), gevent.Timeout(5), GeneratorExit(), OwnError()])
def test_in_a_greenlet_of_ours_whatever_a_listener_raises_is_its_failure(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    event, other = Event[[]]("something"), Recorder()

    @event.add
    def fail() -> None:
        raise error

    event.add(other)
    assert spawn("fires", event.fire).get() is False
    assert len(other) == 1
    assert "a listener of something failed" in caplog.text


def test_a_listener_can_be_killed_with_its_greenlet() -> None:
    event, hanging = Event[[]]("something"), Flag()

    @event.add
    def hang() -> None:
        hanging.set()
        Flag().wait()

    firing = spawn("fires", event.fire)
    assert hanging.wait(scaled(5))
    firing.kill()
    assert isinstance(firing.value, GreenletExit)


def test_listeners_may_come_and_go_while_the_event_fires() -> None:
    event, late = Event[[]]("something"), Recorder()

    @event.add
    def once() -> None:
        event.remove(once)
        event.add(late)

    event.fire()
    assert (event.listeners, len(late)) == ((late,), 0)
    event.fire()
    assert len(late) == 1


def removed_event() -> Event[[str, int]]:
    return Event("removed", ["channel", "reason"])


@pytest.mark.parametrize(
    "listener",
    [lambda: None, lambda channel: None, lambda channel, reason, more: None, lambda channel, *, reason: None],
    ids=["none", "one", "three", "one and a keyword"],
)
def test_a_listener_that_cannot_be_called_with_the_arguments_is_refused(listener: Any) -> None:
    event = removed_event()
    with pytest.raises(
        ConfigurationError, match=r"^a listener of removed is called with 2 positional arguments \(channel, reason\), "
    ):
        event.add(listener)
    assert event.listeners == ()


@pytest.mark.parametrize(
    "listener",
    [lambda channel, reason: None, lambda channel, reason, more=5: None, lambda *args: None, Recorder()],
    ids=["two", "two or three", "any number", "an object"],
)
def test_a_listener_that_can_be_called_with_the_arguments_is_added(listener: Any) -> None:
    event = removed_event()
    assert event.add(listener) is listener
    event.fire("alice", 5)
    assert event.listeners == (listener,)


async def coroutine(channel: str, reason: int) -> None: ...


def generator(channel: str, reason: int) -> Iterator[int]:
    yield 5


@pytest.mark.parametrize("listener", [coroutine, generator, None, "listener"])
@pytest.mark.parametrize("event", [Event("removed"), removed_event()], ids=["any number", "two"])
def test_a_listener_that_would_run_nothing_when_called_is_refused(event: Event[...], listener: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^a listener of removed must be "):
        event.add(listener)
    assert event.listeners == ()
