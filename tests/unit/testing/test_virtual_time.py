from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from random import Random

import gevent
import gevent.pool
import gevent.socket
import pytest
from gevent.event import Event
from gevent.exceptions import LoopExit
from gevent.pool import Pool

from peernet.runtime import clock, rng
from peernet.runtime.greenlets import let_others_run
from peernet.testing.virtual_time import VirtualTime
from tests.support import scaled


@pytest.fixture
def virtual() -> Iterator[VirtualTime]:
    with VirtualTime(Random(1)) as time:
        yield time


def test_years_pass_at_once_on_every_clock(virtual: VirtualTime) -> None:
    began, wall, year = time.monotonic(), clock.wall(), 365 * 86_400.0
    gevent.sleep(year)
    assert virtual.now == clock.monotonic() == year
    assert clock.wall() - wall == gevent.get_hub().loop.now() - wall == year
    assert time.monotonic() - began < scaled(10)


def test_who_sleeps_less_wakes_sooner_and_at_the_same_moment_in_the_order_of_coming(virtual: VirtualTime) -> None:
    woken = []

    def sleep(name: str, seconds: float) -> None:
        gevent.sleep(seconds)
        woken.append((name, clock.monotonic()))

    gevent.joinall([gevent.spawn(sleep, name, seconds) for name, seconds in (("c", 2), ("a", 1), ("d", 2), ("b", 1))])
    assert woken == [("a", 1), ("b", 1), ("c", 2), ("d", 2)]


def test_timeouts_and_events_agree_on_the_time(virtual: VirtualTime) -> None:
    event = Event()
    assert not event.wait(5)
    gevent.spawn_later(3, event.set).join()
    assert event.wait(5)
    assert virtual.now == 8
    with suppress(gevent.Timeout), gevent.Timeout(2):
        gevent.sleep(60)
    assert virtual.now == 10


def test_a_timer_that_was_stopped_or_started_again_does_not_fire_at_its_first_time(virtual: VirtualTime) -> None:
    fired: list[float] = []
    stopped, restarted = gevent.get_hub().loop.timer(1), gevent.get_hub().loop.timer(3)
    for timer in (stopped, restarted):
        timer.start(lambda: fired.append(virtual.now))
    stopped.stop()
    gevent.sleep(2)
    restarted.start(lambda: fired.append(virtual.now))
    gevent.sleep(8)
    assert fired == [5]


def test_a_timer_may_repeat(virtual: VirtualTime) -> None:
    fired: list[float] = []
    timer = gevent.get_hub().loop.timer(1, repeat=2)
    timer.start(lambda: fired.append(virtual.now))
    gevent.sleep(6)
    timer.close()
    gevent.sleep(6)
    assert fired == [1, 3, 5]


def test_who_lets_others_run_gets_older_too(virtual: VirtualTime) -> None:
    with suppress(gevent.Timeout), gevent.Timeout(0.001):
        while virtual.now < 1:
            let_others_run()
    assert virtual.now == pytest.approx(0.001, abs=0.0001)


def test_time_stands_still_while_another_thread_works(virtual: VirtualTime) -> None:
    def work() -> str:
        time.sleep(0.05)
        return "done"

    sleeper = gevent.spawn(gevent.sleep, 1)
    assert gevent.get_hub().threadpool.apply(work) == "done"
    assert virtual.now < 0.01
    assert not sleeper.dead
    sleeper.join()


def test_a_semaphore_wakes_those_who_wait_for_it_one_by_one(virtual: VirtualTime) -> None:
    """gevent looks at whether its callback is still being run."""
    pool, done = Pool(2), list[int]()

    def work(number: int) -> None:
        gevent.sleep(0.1)
        done.append(number)

    for number in range(9):
        pool.spawn(work, number)
    pool.join()
    assert done == list(range(9))
    assert virtual.now == pytest.approx(0.5, abs=0.001)


def test_what_waits_for_ever_is_told(virtual: VirtualTime) -> None:
    with pytest.raises(LoopExit):
        Event().wait()
    gevent.sleep(1)
    assert virtual.now == 1


def test_an_error_in_a_callback_stops_nobody(virtual: VirtualTime, capsys: pytest.CaptureFixture[str]) -> None:
    gevent.get_hub().loop.run_callback(lambda: 1 / 0)
    gevent.sleep(1)
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_there_are_no_sockets(virtual: VirtualTime) -> None:
    with pytest.raises(RuntimeError, match="no sockets"):
        gevent.socket.socket()


def test_chance_comes_from_the_seed(virtual: VirtualTime) -> None:
    expected = Random(1)
    assert rng.uniform(0, 1) == expected.uniform(0, 1)
    assert rng.randbits(64) == expected.getrandbits(64)


def test_other_threads_keep_the_time_and_the_chance_of_the_machine(virtual: VirtualTime) -> None:
    seen: list[float] = []
    thread = threading.Thread(target=lambda: seen.extend((clock.monotonic(), time.monotonic(), rng.randbits(64))))
    thread.start()
    thread.join()
    assert seen[0] == pytest.approx(seen[1], abs=1)
    assert seen[2] != Random(1).getrandbits(64)


def test_afterwards_everything_is_as_it_was() -> None:
    before = (gevent.get_hub(), clock.monotonic, clock.wall, rng.uniform, rng.randbits)
    with VirtualTime(Random(1)):
        gevent.sleep(100)
        assert gevent.get_hub() is not before[0]
    assert (gevent.get_hub(), clock.monotonic, clock.wall, rng.uniform, rng.randbits) == before
    gevent.sleep(0.001)


def test_there_is_one_simulation_at_a_time(virtual: VirtualTime) -> None:
    with pytest.raises(RuntimeError, match="already"), VirtualTime(Random(1)):
        pass
