"""What a child process lets go of, before anything else runs there."""

from __future__ import annotations

import os
import resource
import socket
import sys
from collections.abc import Iterator
from contextlib import suppress

import gevent
import pytest
from gevent.event import Event as Flag

from peernet.runtime.forks import close_in_children, let_go_in_children
from peernet.runtime.greenlets import spawn
from tests.integration.forking import in_child
from tests.support import scaled


class Thing:
    """Counts how often it was let go."""

    def __init__(self) -> None:
        self.times = 0

    def let_go(self) -> None:
        self.times += 1


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    near, far = socket.socketpair()
    with near, far:
        yield near, far


def test_it_is_let_go_in_the_child_alone_and_before_anything_else() -> None:
    thing = Thing()
    let_go_in_children(thing, Thing.let_go)
    let_go_in_children(thing, Thing.let_go)  # which changes nothing
    assert in_child(lambda: thing.times) == 1
    assert thing.times == 0


def test_what_is_gone_is_not_kept_for_that() -> None:
    names: list[str] = []
    let_go_in_children(Thing(), lambda thing: names.append("gone"))
    assert in_child(lambda: names) == []


def test_what_fails_keeps_nothing_else_from_being_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: told.append(str(unraisable.exc_value)))

    def fail(thing: Thing) -> None:
        raise ValueError("cannot let go")

    things = [Thing() for _ in range(3)]
    let_go_in_children(things[0], Thing.let_go)
    let_go_in_children(things[1], fail)
    let_go_in_children(things[2], Thing.let_go)
    assert in_child(lambda: [[thing.times for thing in things], told]) == [[1, 0, 1], ["cannot let go"]]


def test_nothing_a_child_writes_arrives_and_it_reads_nothing(pair: tuple[socket.socket, socket.socket]) -> None:
    near, far = pair
    close_in_children(near)

    def use() -> list[object]:
        number = near.fileno()
        return [os.read(number, 10).decode(), os.write(number, b"from the child"), os.get_inheritable(number)]

    far.send(b"for the parent")
    assert in_child(use) == ["", 14, False]
    assert near.recv(100) == b"for the parent"
    near.send(b"from the parent")
    assert far.recv(100) == b"from the parent"


def test_the_other_side_sees_the_end_though_a_child_lives(pair: tuple[socket.socket, socket.socket]) -> None:
    near, far = pair
    close_in_children(near)
    close_in_children(far)
    far.settimeout(scaled(5))

    def look() -> bool:
        """In the child, which holds nothing of either."""
        return os.path.samefile(f"/dev/fd/{near.fileno()}", os.devnull)

    assert in_child(look)
    near.close()
    assert far.recv(10) == b""


def test_a_socket_that_is_closed_is_none_to_let_go() -> None:
    sock = socket.socket()
    close_in_children(sock)
    sock.close()
    assert in_child(lambda: "fine") == "fine"


def test_no_further_descriptor_is_needed(pair: tuple[socket.socket, socket.socket]) -> None:
    near, far = pair
    close_in_children(near)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    spare = [os.dup(far.fileno())]
    resource.setrlimit(resource.RLIMIT_NOFILE, (spare[0] + 20, limits[1]))
    try:
        with suppress(OSError):
            while True:  # ends: there is a limit
                spare.append(os.dup(far.fileno()))
        for _ in range(2):  # for the pipe that brings the answer
            os.close(spare.pop())
        assert in_child(lambda: os.read(near.fileno(), 10).decode()) == ""
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for number in spare:
            os.close(number)


def test_greenlets_end_in_the_child_and_the_one_that_forks_goes_on() -> None:
    begun, go_on = Flag(), Flag()
    told: list[str] = []
    fresh: list[gevent.Greenlet[..., None]] = []

    def stay(name: str) -> None:
        told.append(f"{name} begins")
        begun.set()
        try:
            go_on.wait()
            told.append(f"{name} goes on")
        finally:
            told.append(f"{name} ends")

    def fork() -> object:
        fresh.append(spawn("fresh", stay, "fresh"))
        return in_child(look)

    def look() -> list[str]:
        go_on.set()
        gevent.sleep(0.05)
        return told

    staying = spawn("staying", stay, "staying")
    begun.wait()
    try:
        assert spawn("forks", fork).get(timeout=scaled(30)) == ["staying begins", "staying ends"]
        assert told == ["staying begins", "fresh begins"]
    finally:
        for greenlet in (staying, *fresh):
            greenlet.kill()
