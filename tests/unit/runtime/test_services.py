"""Parts that start in order and stop in the opposite order, whatever happens."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import gevent
import pytest
from gevent import GreenletExit
from gevent.event import Event as Flag

from peernet.errors import ConfigurationError
from peernet.runtime.services import SETTLED, TRANSITIONS, Part, RunState, Services
from peernet.runtime.threads import HomeThread
from tests.support import scaled, wait_until

STOPPED, STARTING, RUNNING, STOPPING = RunState


class Recorded:
    """A service that writes down what is done with it; what it shall do besides is given to it."""

    def __init__(
        self,
        name: str,
        story: list[str],
        start: Callable[[], object] = lambda: None,
        stop: Callable[[float], object] = lambda timeout: None,
    ) -> None:
        self.name = name
        self._story = story
        self._start = start
        self._stop = stop

    def start(self) -> None:
        self._story.append(f"start {self.name}")
        self._start()

    def stop(self, timeout: float) -> None:
        self._story.append(f"stop {self.name}")
        self._stop(timeout)


@pytest.fixture
def story() -> list[str]:
    return []


def make(story: list[str], **middle: Any) -> Services:
    """Three services, of which the one in the middle does something special."""
    return Services([Recorded("one", story), Recorded("two", story, **middle), Recorded("three", story)], HomeThread())


def raising(error: BaseException) -> Callable[..., object]:
    def fail(*_: object) -> None:
        raise error

    return fail


# The states.


def test_the_table_holds_exactly_the_specified_transitions() -> None:
    specified = {STOPPED: {STARTING}, STARTING: {RUNNING, STOPPING}, RUNNING: {STOPPING}, STOPPING: {STOPPED}}
    assert specified == TRANSITIONS


def test_what_does_not_stay_as_it_is_ends_stopped() -> None:
    assert {STOPPED, RUNNING} == SETTLED
    for state in set(RunState) - {STOPPED}:
        assert STOPPED in TRANSITIONS[state] | {after for one in TRANSITIONS[state] for after in TRANSITIONS[one]}


# Order.


def test_services_start_in_order_and_stop_in_the_opposite_order(story: list[str]) -> None:
    services = make(story)
    services.start()
    assert (services.state, services.running, services.wait(0)) == (RUNNING, True, False)
    assert story == ["start one", "start two", "start three"]
    services.stop(1)
    assert (services.state, services.running, services.wait(0)) == (STOPPED, False, True)
    assert story[3:] == ["stop three", "stop two", "stop one"]


def test_starting_and_stopping_twice_is_once(story: list[str]) -> None:
    services = make(story)
    services.stop(1)
    services.start()
    services.start()
    services.stop(1)
    services.stop(1)
    assert len(story) == 6


def test_services_can_start_again(story: list[str]) -> None:
    services = make(story)
    for _ in range(2):
        services.start()
        services.stop(1)
    assert story[6:] == story[:6]


def test_a_service_that_is_added_starts_last_and_stops_first(story: list[str]) -> None:
    services = make(story)
    services.add(Recorded("four", story))
    services.start()
    services.stop(1)
    assert story[3:5] == ["start four", "stop four"]


@pytest.mark.parametrize("state", [STARTING, RUNNING, STOPPING])
def test_none_is_added_unless_all_are_stopped(story: list[str], state: RunState) -> None:
    go_on = Flag()
    services = make(story, start=lambda: state is STARTING and go_on.wait(), stop=lambda timeout: go_on.wait(5))
    starting = gevent.spawn(services.start)
    wait_until(lambda: services.state is (STARTING if state is STARTING else RUNNING))
    stopping = gevent.spawn(services.stop, 5) if state is STOPPING else None
    wait_until(lambda: services.state is state)
    with pytest.raises(ConfigurationError, match="stop it first"):
        services.add(Part("too late"))
    go_on.set()
    starting.join()
    services.stop(1)
    if stopping is not None:
        stopping.join()
    assert len(story) == 6


def test_a_part_is_made_of_two_functions_and_may_have_nothing_to_do() -> None:
    done: list[str] = []
    busy = Part("busy", lambda: done.append("start"), lambda: done.append("stop"))
    services = Services([Part("idle"), busy], HomeThread())
    services.start()
    services.stop(1)
    assert done == ["start", "stop"]


def test_services_are_told_how_much_time_is_left(story: list[str]) -> None:
    told: list[float] = []
    services = make(story, stop=told.append)
    services.start()
    services.stop(3)
    assert 2 < told[0] <= 3


# Starts that do not get done.

INTERRUPTIONS = [
    ValueError("a bad value"),
    ConfigurationError("another one"),
    gevent.Timeout(1),
    GreenletExit(),
    KeyboardInterrupt(),
    SystemExit(1),
]


@pytest.mark.parametrize("error", INTERRUPTIONS, ids=lambda error: type(error).__name__)
def test_whatever_interrupts_a_start_what_was_started_is_stopped_and_the_error_passes(
    story: list[str], error: BaseException
) -> None:
    services = make(story, start=raising(error))
    with pytest.raises(type(error)) as caught:
        services.start()
    assert caught.value is error
    assert story == ["start one", "start two", "stop two", "stop one"]
    assert (services.state, services.running, services.wait(0)) == (STOPPED, False, True)


def test_a_timeout_that_strikes_while_a_service_starts_interrupts_it(story: list[str]) -> None:
    never = Flag()
    services = make(story, start=never.wait)
    with pytest.raises(gevent.Timeout), gevent.Timeout(0.01):
        services.start()
    assert story == ["start one", "start two", "stop two", "stop one"]
    never.set()
    services.start()
    assert services.running
    services.stop(1)


def test_a_start_that_is_killed_stops_what_was_started(story: list[str]) -> None:
    services = make(story, start=Flag().wait)
    starting = gevent.spawn(services.start)
    wait_until(lambda: len(story) == 2)
    starting.kill()
    assert services.state is STOPPED
    assert story[2:] == ["stop two", "stop one"]


def test_it_is_stopped_again_even_if_the_interrupted_one_is_interrupted_once_more(story: list[str]) -> None:
    go_on = Flag()
    services = make(story, start=raising(ValueError("a bad value")), stop=lambda timeout: go_on.wait(5))
    starting = gevent.spawn(services.start)
    wait_until(lambda: services.state is STOPPING)
    starting.kill()
    go_on.set()
    assert services.wait(scaled(5))
    assert story[2:] == ["stop two", "stop one"]


# Calls that meet.


def start_late(services: Services) -> Any:
    """:meth:`Services.start` in a greenlet, which returns the error."""

    def start() -> ConfigurationError | None:
        try:
            services.start()
        except ConfigurationError as error:
            return error
        return None

    return gevent.spawn(start)


def test_a_stop_while_they_start_wins(story: list[str]) -> None:
    services = make(story, start=Flag().wait)
    starting = start_late(services)
    wait_until(lambda: len(story) == 2)
    services.stop(1)
    assert services.state is STOPPED
    assert story[2:] == ["stop two", "stop one"]
    assert "was stopped while it started" in str(starting.get(timeout=scaled(5)))


def test_a_stop_that_a_starting_service_calls_wins(story: list[str]) -> None:
    services: Services = make(story, start=lambda: services.stop(1, wait=False))
    with pytest.raises(ConfigurationError, match="was stopped while it started"):
        services.start()
    assert services.state is STOPPED
    assert story == ["start one", "start two", "stop two", "stop one"]


def test_a_stop_that_the_last_service_calls_when_it_starts_wins(story: list[str]) -> None:
    services = make(story)
    services.add(Recorded("four", story, start=lambda: services.stop(1, wait=False)))
    with pytest.raises(ConfigurationError, match="was stopped while it started"):
        services.start()
    assert services.state is STOPPED
    assert story[4:] == ["stop four", "stop three", "stop two", "stop one"]


def test_the_greenlet_that_starts_them_is_known(story: list[str]) -> None:
    known: list[bool] = []
    services: Services = make(story, start=lambda: known.append(services.is_starting_in(gevent.getcurrent())))
    services.start()
    assert known == [True]
    assert not services.is_starting_in(gevent.getcurrent())
    services.stop(1)


def test_a_start_while_they_stop_waits_and_wins(story: list[str]) -> None:
    go_on = Flag()
    services = make(story, stop=lambda timeout: go_on.wait(5))
    services.start()
    stopping = gevent.spawn(services.stop, 5)
    wait_until(lambda: services.state is STOPPING)
    starting = start_late(services)
    gevent.sleep(0)
    assert services.state is STOPPING
    go_on.set()
    assert starting.get(timeout=scaled(5)) is None
    assert services.running
    assert story[6:] == ["start one", "start two", "start three"]
    stopping.join()
    services.stop(1)


def test_a_start_after_a_stop_in_the_background_wins(story: list[str]) -> None:
    services = make(story)
    services.start()
    services.stop(1, wait=False)
    services.start()
    assert services.running
    assert len(story) == 9
    services.stop(1)


def test_of_stop_start_stop_the_last_one_wins(story: list[str]) -> None:
    go_on = Flag()
    services = make(story, stop=lambda timeout: go_on.wait(5))
    services.start()
    services.stop(5, wait=False)
    starting = start_late(services)
    gevent.sleep(0)
    services.stop(5, wait=False)
    go_on.set()
    assert "was stopped while it started" in str(starting.get(timeout=scaled(5)))
    assert (services.state, len(story)) == (STOPPED, 6)


def test_a_second_start_waits_for_the_first(story: list[str]) -> None:
    go_on = Flag()
    services = make(story, start=go_on.wait)
    both = [start_late(services), start_late(services)]
    wait_until(lambda: services.state is STARTING)
    assert not any(one.ready() for one in both)
    go_on.set()
    assert [one.get(timeout=scaled(5)) for one in both] == [None, None]
    assert story == ["start one", "start two", "start three"]
    services.stop(1)


def test_a_second_start_tries_itself_if_the_first_fails(story: list[str]) -> None:
    errors, go_on = [ConfigurationError("once")], Flag()

    def fail_once() -> None:
        go_on.wait()
        if errors:
            raise errors.pop()

    services = make(story, start=fail_once)
    both = [start_late(services), start_late(services)]
    wait_until(lambda: services.state is STARTING)
    go_on.set()
    assert str(both[0].get(timeout=scaled(5))) == "once"
    assert both[1].get(timeout=scaled(5)) is None
    assert services.running
    services.stop(1)


def test_stopping_goes_on_if_its_caller_is_interrupted(story: list[str]) -> None:
    go_on = Flag()
    services = make(story, stop=lambda timeout: go_on.wait(5))
    services.start()
    with pytest.raises(gevent.Timeout), gevent.Timeout(0.01):
        services.stop(5)
    go_on.set()
    assert services.wait(scaled(5))
    assert story[3:] == ["stop three", "stop two", "stop one"]


# Services that do not stop.


def test_a_service_that_hangs_keeps_neither_the_others_nor_the_caller(
    story: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    services = make(story, stop=lambda timeout: Flag().wait())
    services.start()
    with gevent.Timeout(scaled(5)):
        services.stop(0.01)
    assert services.state is STOPPED
    assert story[3:] == ["stop three", "stop two", "stop one"]
    assert "two does not stop in time and is left to itself" in caplog.text


def test_a_service_that_cannot_be_killed_is_left_to_itself(story: list[str]) -> None:
    at_last = Flag()

    def hang(timeout: float) -> None:
        while not at_last.is_set():
            with suppress(GreenletExit):
                at_last.wait()

    services = make(story, stop=hang)
    services.start()
    with gevent.Timeout(scaled(5)):
        services.stop(0)
    assert story[3:] == ["stop three", "stop two", "stop one"]
    at_last.set()


def test_a_service_that_cannot_be_interrupted_when_it_starts_does_not_keep_who_stops(story: list[str]) -> None:
    at_last = Flag()

    def hang() -> None:
        while not at_last.is_set():
            with suppress(BaseException):
                at_last.wait()

    services = make(story, start=hang)
    starting = start_late(services)
    wait_until(lambda: len(story) == 2)
    with gevent.Timeout(scaled(10)):
        services.stop(0)
    assert services.state is STARTING
    at_last.set()
    assert "was stopped" in str(starting.get(timeout=scaled(5)))
    assert services.state is STOPPED


@pytest.mark.parametrize("error", [ValueError("a bad value"), gevent.Timeout(1), GreenletExit()])
def test_a_service_that_fails_to_stop_does_not_keep_the_others(story: list[str], error: BaseException) -> None:
    services = make(story, stop=raising(error))
    services.start()
    services.stop(1)
    assert services.state is STOPPED
    assert story[3:] == ["stop three", "stop two", "stop one"]


def test_what_is_not_running_says_so(story: list[str]) -> None:
    services = make(story)
    with pytest.raises(ConfigurationError, match="not started; call start"):
        services.check_running()
    services.start()
    services.check_running()
    services.stop(1)
