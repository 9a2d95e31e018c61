from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import gevent
import pytest

from peernet.errors import ConfigurationError
from peernet.runtime.routines import NetworkRoutines, Routine
from tests.support import FAILURES, Recorder, wait_until

SOON = 0.001


@pytest.fixture
def routines() -> object:
    made = NetworkRoutines()
    yield made
    made.stop()


def test_a_routine_runs_again_and_again_while_its_network_runs(routines: NetworkRoutines) -> None:
    job = Recorder()
    routine = routines.add("count", SOON, job)
    assert not routine.running
    routines.start()
    job.wait_for(3)
    routines.stop()
    assert not routine.running


def test_a_routine_added_to_a_running_network_starts_at_once(routines: NetworkRoutines) -> None:
    routines.start()
    job = Recorder()
    routines.add("count", SOON, job)
    job.wait_for(1)


def test_a_stopped_routine_runs_no_more(routines: NetworkRoutines) -> None:
    stopped, other = Recorder(), Recorder()
    routines.add("stopped", SOON, stopped)
    routines.add("other", SOON, other)
    routines.start()
    stopped.wait_for(1)
    routines["stopped"].stop()
    count = len(stopped)
    other.wait_for(len(other) + 3)
    assert len(stopped) == count


def test_starting_twice_starts_one_greenlet(routines: NetworkRoutines) -> None:
    ran_in: list[object] = []
    routines.add("count", SOON, lambda: ran_in.append(gevent.getcurrent()))
    routines.start()
    routines.start()
    wait_until(lambda: len(ran_in) >= 6)
    assert len(set(ran_in)) == 1


def test_a_failing_job_is_logged_and_runs_again(routines: NetworkRoutines, caplog: pytest.LogCaptureFixture) -> None:
    runs = []

    def job() -> None:
        runs.append(1)
        raise ValueError("oh dear")

    with caplog.at_level(logging.ERROR):
        routines.add("fails", SOON, job)
        routines.start()
        wait_until(lambda: len(runs) >= 2)
    assert "the routine fails failed; it runs again in 0.001 s" in caplog.text


@pytest.mark.parametrize("failure", FAILURES)
def test_no_failure_of_a_job_ends_its_routine(
    routines: NetworkRoutines, caplog: pytest.LogCaptureFixture, failure: Callable[[], BaseException]
) -> None:
    runs: list[int] = []

    def job() -> None:
        runs.append(1)
        raise failure()

    routines.add("fails", SOON, job)
    routines.start()
    wait_until(lambda: len(runs) >= 3)
    assert "the routine fails failed; it runs again in 0.001 s" in caplog.text


def test_a_routine_may_stop_itself() -> None:
    ran_in: list[Any] = []

    def job() -> None:
        ran_in.append(gevent.getcurrent())
        routine.stop()

    routine = Routine("once", SOON, job)
    routine.start()
    wait_until(lambda: ran_in and ran_in[0].dead)
    assert (len(ran_in), routine.running) == (1, False)


def test_a_routine_that_restarts_itself_runs_once_at_a_time() -> None:
    greenlets: list[Any] = []

    def job() -> None:
        greenlets.append(gevent.getcurrent())
        routine.stop()
        routine.start()

    routine = Routine("again", SOON, job)
    routine.start()
    wait_until(lambda: len(greenlets) >= 3)
    routine.stop()
    wait_until(lambda: all(one.dead for one in greenlets))
    assert len(set(greenlets)) == len(greenlets)


def test_a_name_is_taken_only_once(routines: NetworkRoutines) -> None:
    routines.add("heartbeat", 60, Recorder())
    with pytest.raises(ConfigurationError, match="there is a routine 'heartbeat' already"):
        routines.add("heartbeat", 60, Recorder())


def test_a_routine_is_found_by_name_and_a_wrong_name_tells_the_right_ones(routines: NetworkRoutines) -> None:
    routine = routines.add("heartbeat", 60, Recorder())
    assert routines["heartbeat"] is routine
    assert list(routines) == [routine]
    with pytest.raises(ConfigurationError, match="no routine 'hartbeat'; there are heartbeat"):
        routines["hartbeat"]


async def coroutine() -> None: ...


@pytest.mark.parametrize("job", [None, coroutine, lambda argument: None])
def test_a_job_that_cannot_be_called_is_refused_where_it_is_added(routines: NetworkRoutines, job: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^the job of the routine 'count' (must be|is called with 0 pos)"):
        routines.add("count", SOON, job)
    assert list(routines) == []
