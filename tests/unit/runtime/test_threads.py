"""The native thread that a network belongs to."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import gevent
import pytest

from peernet.errors import ConfigurationError, ForkedError, WrongThreadError
from peernet.runtime.greenlets import OwnedGroup, get_ident, spawn
from peernet.runtime.threads import FORKED, NO_HOME, NOBODY, HomeThread, at_home
from tests.integration.forking import in_child
from tests.support import scaled, wait_until


class Part:
    """Something of a network."""

    def __init__(self, home: HomeThread) -> None:
        self._home = home

    @at_home
    def act(self, value: int, *, more: int = 0) -> int:
        """Act."""
        return value + more


@pytest.fixture
def home() -> HomeThread:
    return HomeThread()


def in_thread(function: Callable[..., Any], *args: Any) -> Any:
    """What a function returns in a native thread, or the error that it raises."""
    try:
        return gevent.get_hub().threadpool.apply(function, args)
    except Exception as error:
        return error


def test_at_first_it_is_nobody_s_and_all_may_act(home: HomeThread) -> None:
    assert (home.thread, home.forked) == (NOBODY, False)
    assert Part(home).act(1, more=2) == in_thread(Part(home).act, 3) == 3


def test_whoever_claims_it_has_it_until_it_is_released(home: HomeThread) -> None:
    home.claim()
    home.claim()
    assert home.thread == get_ident()
    assert Part(home).act(1) == 1
    for act in (Part(home).act, home.claim, home.check):
        assert isinstance(in_thread(act), WrongThreadError)
    home.release()
    assert in_thread(Part(home).act, 1) == 1


def test_of_two_threads_that_claim_it_at_once_one_has_it(home: HomeThread) -> None:
    begin, outcomes = threading.Barrier(4), []

    def claim() -> None:
        begin.wait(scaled(5))
        try:
            home.claim()
            outcomes.append("has it")
        except WrongThreadError:
            outcomes.append("refused")
        finally:
            begin.wait(scaled(5))  # or another thread might get the same number
            gevent.get_hub().destroy(destroy_loop=True)

    threads = [threading.Thread(target=claim) for _ in range(4)]
    for thread in threads:
        thread.start()
    wait_until(lambda: not any(thread.is_alive() for thread in threads))
    assert sorted(outcomes) == ["has it", "refused", "refused", "refused"]


def test_a_guarded_method_keeps_its_name_and_its_words() -> None:
    assert (Part.act.__name__, Part.act.__doc__) == ("act", "Act.")


def test_what_is_called_soon_runs_in_the_thread_that_has_it(home: HomeThread) -> None:
    with pytest.raises(ConfigurationError, match="call start"):
        home.call_soon(print)
    home.claim()
    seen: list[int] = []
    assert in_thread(home.call_soon, lambda: seen.append(get_ident())) is None
    wait_until(lambda: seen == [get_ident()])


def test_in_a_child_it_is_nobody_s_for_ever(home: HomeThread) -> None:
    home.claim()

    def look() -> list[object]:
        home.release()
        raised = []
        acts: list[Callable[[], object]] = [home.claim, home.check]
        acts += [lambda: Part(home).act(1), lambda: home.call_soon(print)]
        for act in acts:
            try:
                act()
            except ForkedError as error:
                raised.append("this network belongs to the parent of this process" in str(error))
        return [home.thread, home.forked, raised]

    assert in_child(look) == [FORKED, True, [True] * 4]
    assert not home.forked


def test_in_a_child_what_nobody_has_can_be_claimed(home: HomeThread) -> None:
    def claim() -> list[bool]:
        home.claim()
        return [home.thread == get_ident(), NO_HOME.forked]

    assert in_child(claim) == [True, False]


def test_a_group_serves_one_thread_after_the_other() -> None:
    group = OwnedGroup()

    def use() -> bool:
        group.add(spawn("short", gevent.sleep, 0.01))
        return group.join(scaled(5))

    def use_and_leave() -> bool:
        try:
            return use()
        finally:
            gevent.get_hub().destroy(destroy_loop=True)

    assert group.join(0)
    for _ in range(2):
        assert in_thread(use_and_leave) is True
        assert use()
    group.add(spawn("long", gevent.sleep, 60))
    assert not group.join(0.01)
    group.kill()
    assert group.join(0)
