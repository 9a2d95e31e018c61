"""Every test ends, and with no greenlet and no file descriptor left."""

from __future__ import annotations

import gc
import os
import signal
import sqlite3
import traceback
import weakref
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import gevent
import gevent.socket
import pytest
from greenlet import greenlet
from hypothesis import HealthCheck, settings

from peernet import network
from peernet.assembly import Assembly
from peernet.channel.channel import PeerChannel
from peernet.network import PeerNetwork
from peernet.runtime.services import Services
from peernet.switch import switch
from tests.support import AssemblyOf, Parts, PartsOf, make_network, scaled, wait_until

# How long one example takes says more about the machine than about the code. Hypothesis would try the same examples
# each time where CI is set.
settings.register_profile(
    "tests",
    deadline=None,
    derandomize=False,
    suppress_health_check=[HealthCheck.too_slow],
    stateful_step_count=20,
)
settings.register_profile("fuzz", settings.get_profile("tests"), max_examples=20, stateful_step_count=60)
settings.load_profile("tests")

DESCRIPTORS = Path("/proc/self/fd")  # Linux; elsewhere descriptors are not counted
SETTLING_TIME = 2.0  # for goodbyes in the background. Seconds, scaled
PATIENCE = 90.0  # with a test that waits. Seconds, scaled
REAL_LOOP = gevent.get_hub().loop  # some tests have another one, with a clock of its own

_started: weakref.WeakSet[gevent.Greenlet[..., Any]] = weakref.WeakSet()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where everything is meant to be tested, a test that cannot run has failed. Elsewhere it is skipped."""
    report = yield
    if report.skipped and os.environ.get("CI"):
        report.outcome, report.longrepr = "failed", f"it must not be skipped here: {report.longreprtext}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, object, object]:
    """Fail a test that waits for ever, in the line where it waits.

    This needs the hub, and real time. Without them, ``faulthandler_timeout`` in setup.cfg ends the process.
    """
    REAL_LOOP.update_now()  # or the timer would begin when the hub ran last, before a test that did without it
    timer = REAL_LOOP.timer(scaled(PATIENCE))
    timer.start(_give_up, gevent.getcurrent())
    try:
        return (yield)
    finally:
        timer.stop()
        timer.close()


def _give_up(test: greenlet) -> None:
    stacks = [f"{one!r}\n{''.join(traceback.format_stack(one.gr_frame))}" for one in _started if one.gr_frame]
    test.throw(pytest.fail.Exception("\n".join(["the test hangs; meanwhile there are:", *stacks])))


# What runs in the background may ignore these, and so would every process that a test starts and interrupts.
for _number in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, signal.default_int_handler if _number == signal.SIGINT else signal.SIG_DFL)


@pytest.fixture(scope="session", autouse=True)
def _warm_up() -> Iterator[None]:
    """Open what gevent opens once and keeps, and take note of every greenlet from now on."""
    gevent.get_hub().threadpool.apply(lambda: None)
    gevent.socket.getaddrinfo("localhost", 80)
    gevent.socket.getaddrinfo("127.0.0.1", 80)
    gevent.sleep(0)
    gevent.Greenlet.add_spawn_callback(_started.add)
    yield
    gevent.Greenlet.remove_spawn_callback(_started.add)


@pytest.fixture(autouse=True)
def _nothing_left(_warm_up: None) -> Iterator[None]:
    before = _descriptors()
    yield
    if _settled(before, 0.05):
        return
    gc.collect()  # what only a cycle of references keeps is no leak
    if not _settled(before, SETTLING_TIME):
        leaked = _leaked(before)
        _blame_once()
        pytest.fail("left behind: " + ", ".join(leaked), pytrace=False)


@pytest.fixture
def networks() -> Iterator[Callable[..., PeerNetwork]]:
    """A factory of started networks, which are stopped at the end: ``networks(policy=...)``."""
    made: list[PeerNetwork] = []

    def make(**options: Any) -> PeerNetwork:
        made.append(make_network(**options))
        return made[-1]

    yield make
    gevent.joinall([gevent.spawn(one.stop, 2) for one in made])


@pytest.fixture
def assembly_of(monkeypatch: pytest.MonkeyPatch) -> AssemblyOf:
    """The parts of a network, if the test had this fixture when the network was made."""
    made: dict[Services, Assembly] = {}

    def assemble(*args: Any, **options: Any) -> Assembly:
        assembly = Assembly(*args, **options)
        made[assembly.services] = assembly
        return assembly

    monkeypatch.setattr(network, "Assembly", assemble)
    return lambda node: made[node.services]


@pytest.fixture
def databases(monkeypatch: pytest.MonkeyPatch) -> list[sqlite3.Connection]:
    """Every database that is opened from now on. Put it before the fixture that opens one."""
    opened: list[sqlite3.Connection] = []
    connect = sqlite3.connect

    def remember(*args: Any, **options: Any) -> sqlite3.Connection:
        opened.append(connect(*args, **options))
        return opened[-1]

    monkeypatch.setattr(sqlite3, "connect", remember)
    return opened


@pytest.fixture
def parts_of(monkeypatch: pytest.MonkeyPatch) -> PartsOf:
    """The parts of a channel, if the test had this fixture when the channel was made."""
    made: dict[PeerChannel, Parts] = {}

    def make_channel(*args: Any, **options: Any) -> Any:
        parts = Parts(*args, **options)
        made[parts.channel] = parts
        return parts.control

    monkeypatch.setattr(switch, "make_channel", make_channel)
    return made.__getitem__


def _settled(before: dict[int, str], timeout: float) -> bool:
    try:
        wait_until(lambda: not _leaked(before), timeout)
    except AssertionError:
        return False
    return True


def _blame_once() -> None:
    """Keep what this test has left from failing those that follow."""
    for one in list(_started):
        _started.discard(one)
        one.kill(block=False)


def _leaked(before: dict[int, str]) -> list[str]:
    """Greenlets that still live, and descriptors that were not open before."""
    alive = [one for one in list(_started) if not one.dead]
    opened = {number: what for number, what in _descriptors().items() if number not in before}
    return [f"the greenlet {getattr(one, 'name', one)}" for one in alive] + [
        f"descriptor {number} ({what})" for number, what in opened.items()
    ]


def _descriptors() -> dict[int, str]:
    if not DESCRIPTORS.is_dir():
        return {}
    found = {}
    for entry in os.listdir(DESCRIPTORS):
        try:
            found[int(entry)] = os.readlink(DESCRIPTORS / entry)
        except OSError:
            continue  # the one that listed the directory
    return found
