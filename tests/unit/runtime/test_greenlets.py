from __future__ import annotations

import logging

import gevent
import pytest
from gevent import socket

from peernet.runtime.greenlets import let_others_run, spawn


def test_a_greenlet_has_a_name_and_returns_what_its_function_returns() -> None:
    greenlet = spawn("adder", lambda one, other: one + other, 1, 2)
    assert greenlet.get(timeout=1) == 3
    assert greenlet.name == "adder"


def test_what_escapes_a_greenlet_is_logged_under_its_name(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise ValueError("oh dear")

    with caplog.at_level(logging.ERROR):
        assert spawn("failure", fail).get(timeout=1) is None
    assert "the greenlet failure failed" in caplog.text
    assert "oh dear" in caplog.text
    assert capsys.readouterr().err == ""


def test_a_greenlet_can_be_killed_quietly(caplog: pytest.LogCaptureFixture) -> None:
    greenlet = spawn("sleeper", gevent.sleep, 60)
    gevent.sleep(0)
    greenlet.kill(timeout=1)
    assert greenlet.dead
    assert caplog.text == ""


def test_who_lets_others_run_lets_them_see_their_input() -> None:
    """gevent.sleep(0) does not: fifty turns may pass before the loop looks at a socket."""
    near, far = socket.socketpair()
    turns = 0

    def answer() -> int:
        far.recv(1)
        return turns

    with near, far:
        answering = gevent.spawn(answer)
        let_others_run()
        near.send(b"x")
        while not answering.dead:
            turns += 1
            let_others_run()
        assert answering.get() <= 2
