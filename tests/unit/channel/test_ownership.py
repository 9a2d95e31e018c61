"""To whom a channel belongs, and what follows for others."""

from __future__ import annotations

import gevent
import pytest
from gevent.event import Event as Flag

from peernet.channel.lifecycle import Lifecycle
from peernet.channel.ownership import Ownership
from peernet.errors import SelfWaitError, WrongThreadError
from peernet.runtime.threads import HomeThread
from tests.support import scaled, wait_until
from tests.unit.sample_peers import peer_at


@pytest.fixture
def ownership() -> Ownership:
    home = HomeThread()
    home.claim()
    return Ownership(Lifecycle(peer_at()), home)


def test_until_it_runs_it_belongs_to_the_greenlet_that_makes_it(ownership: Ownership) -> None:
    assert ownership.in_own_greenlet()
    assert not ownership.runs
    assert gevent.spawn(ownership.in_own_greenlet).get(timeout=scaled(5)) is False


def test_who_takes_over_is_its_own_greenlet(ownership: Ownership) -> None:
    own: list[bool] = []

    def run() -> None:
        ownership.take_over()
        own.append(ownership.in_own_greenlet())

    ownership.start(run).get(timeout=scaled(5))
    assert own == [True]
    assert ownership.runs
    assert not ownership.in_own_greenlet()


def test_it_can_be_killed(ownership: Ownership) -> None:
    def run() -> None:
        ownership.take_over()
        Flag().wait()

    running = ownership.start(run)
    wait_until(lambda: ownership.runs)
    ownership.kill()
    running.join(timeout=scaled(5))
    assert running.dead


def test_another_native_thread_is_refused_and_told_what_to_do(ownership: Ownership) -> None:
    ownership.check_thread()
    for check in (ownership.check_thread, lambda: ownership.check_not_own_greenlet("ping")):
        with pytest.raises(WrongThreadError, match=r"<PeerChannel aaaaaaaa .* network\.call_soon"):
            gevent.get_hub().threadpool.apply(check)


def test_who_would_wait_for_itself_is_refused(ownership: Ownership) -> None:
    with pytest.raises(SelfWaitError, match=r"ping\(\) in a callback"):
        ownership.check_not_own_greenlet("ping")
    gevent.spawn(ownership.check_not_own_greenlet, "ping").get(timeout=scaled(5))


def test_what_it_has_spawned_is_known_until_it_ends(ownership: Ownership) -> None:
    assert not ownership.has_tasks
    task = ownership.spawn(lambda one, other: one + other, 1, 2)
    assert ownership.has_spawned(task)
    assert ownership.has_tasks
    assert not ownership.has_spawned(gevent.getcurrent())
    assert task.get(timeout=scaled(5)) == 3
    wait_until(lambda: not ownership.has_tasks)


def test_tasks_get_some_time_to_end_by_themselves(ownership: Ownership) -> None:
    quick, slow = Flag(), Flag()
    ends, stays = ownership.spawn(quick.wait), ownership.spawn(slow.wait)
    gevent.sleep(0)
    quick.set()
    ownership.kill_tasks(after=0.01)
    assert (ends.value, stays.dead) == (True, True)
    assert stays.value is not True


def test_who_has_spawned_nothing_has_nothing_to_kill(ownership: Ownership) -> None:
    ownership.kill_tasks()
    assert not ownership.has_tasks
