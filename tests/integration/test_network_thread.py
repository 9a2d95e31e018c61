"""The class ``NetworkThread``, as it is printed in docs/embedding.rst."""

from __future__ import annotations

import ast
import gc
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest

from peernet.errors import ConfigurationError, ListenError
from tests.integration.meetings import Networks, text
from tests.support import Recorder, scaled, wait_until
from tools.documents import ROOT, program

PAGE = ROOT / "docs" / "embedding.rst"
DESCRIPTORS = Path("/proc/self/fd")  # Linux; elsewhere descriptors are not counted
OPTIONS: dict[str, Any] = {"listen": ["127.0.0.1:0"], "network_name": "test"}


@pytest.fixture(scope="module")
def network_thread() -> Any:
    """The class, made from its code in the page and the imports above it."""
    tree = ast.parse(program(PAGE))
    [where] = [
        at for at, node in enumerate(tree.body) if isinstance(node, ast.ClassDef) and node.name == "NetworkThread"
    ]
    start = where
    while isinstance(tree.body[start - 1], (ast.Import, ast.ImportFrom)):
        start -= 1
    names: dict[str, Any] = {}
    exec(compile(ast.Module(tree.body[start : where + 1], []), str(PAGE), "exec"), names)
    return names["NetworkThread"]


def in_thread(function: Any, *args: Any) -> Any:
    """What a function returns or raises in another native thread than the tests, whose hub goes on meanwhile."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append(function(*args))
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=run, daemon=True)  # so that one that hangs fails the test, and no more
    thread.start()
    wait_until(lambda: not thread.is_alive(), 10, f"the end of {function}")
    return outcome[0]


@pytest.fixture
def node(network_thread: Any) -> Iterator[Any]:
    made = in_thread(lambda: network_thread(**OPTIONS))
    yield made
    in_thread(made.stop)


def test_a_call_returns_what_the_function_returns_or_raises(node: Any, networks: Networks) -> None:
    peer, heard = networks(), Recorder()
    peer.handlers["pure_message"] = heard
    channel = in_thread(node.call, node.network.connect, peer.addresses[0])
    receipt = in_thread(node.call, channel.send, text("hello"))
    assert in_thread(node.call, receipt.wait, scaled(5)) is True
    assert len(heard) == 1
    assert isinstance(in_thread(node.call, int, "x"), ValueError)


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), gevent.GreenletExit()], ids=repr)
def test_what_ends_programs_and_greenlets_reaches_the_caller_as_well(node: Any, error: BaseException) -> None:
    def fail() -> None:
        raise error

    assert in_thread(node.call, fail) is error
    assert in_thread(node.call, str, 5) == "5"


def test_the_network_can_be_stopped_by_a_call(node: Any) -> None:
    assert in_thread(node.call, node.network.stop) is None
    assert not node.network.running


def test_a_call_after_the_end_is_refused_at_once(node: Any) -> None:
    in_thread(node.stop)
    assert isinstance(in_thread(node.call, str), ConfigurationError)
    assert in_thread(node.stop) is None


def test_a_call_that_has_not_ended_by_then_is_told(node: Any) -> None:
    began = threading.Event()

    def stay() -> None:
        began.set()
        gevent.sleep(scaled(60))

    outcome: list[Any] = []
    waiting = threading.Thread(target=lambda: outcome.append(in_thread_itself(node.call, stay)), daemon=True)
    waiting.start()
    wait_until(began.is_set)
    in_thread(node.stop)
    wait_until(lambda: outcome)
    assert isinstance(outcome[0], ConfigurationError)


def in_thread_itself(function: Any, *args: Any) -> Any:
    """What a function returns or raises here."""
    try:
        return function(*args)
    except BaseException as error:
        return error


def test_calls_that_meet_the_end_are_all_answered(node: Any) -> None:
    outcomes: list[Any] = []

    def call_again_and_again() -> None:
        while not isinstance(outcome := in_thread_itself(node.call, os.getpid), ConfigurationError):
            assert outcome == os.getpid()
        outcomes.append(outcome)

    callers = [threading.Thread(target=call_again_and_again, daemon=True) for _ in range(8)]
    for caller in callers:
        caller.start()
    gevent.sleep(0.05)
    in_thread(node.stop)
    wait_until(lambda: len(outcomes) == len(callers), 10)
    wait_until(lambda: not any(caller.is_alive() for caller in callers))


def test_a_network_that_cannot_start_says_so(network_thread: Any, node: Any) -> None:
    taken = node.network.addresses[0].rpartition("@")[2]
    error = in_thread(lambda: network_thread(**(OPTIONS | {"listen": [taken]})))
    assert isinstance(error, ListenError)


def test_nothing_is_left_of_it(network_thread: Any) -> None:
    def count() -> tuple[int, int]:
        gc.collect()
        return len(os.listdir(DESCRIPTORS)) if DESCRIPTORS.exists() else 0, threading.active_count()

    def cycle() -> None:
        node = network_thread(**OPTIONS)
        node.call(node.network.channel_to, "")
        node.stop()

    in_thread(cycle)  # what is made once and kept
    before = count()
    for _ in range(5):
        in_thread(cycle)
    wait_until(lambda: count() == before, what="the descriptors and threads as before")
