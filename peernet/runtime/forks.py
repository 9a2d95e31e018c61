"""Forks: a child process has copies of all that its parent has, and must let go of what only one may use.

The copy of a network does nothing in the child. Its greenlets end when the hub runs there, its sockets lead nowhere,
and its database is never touched. Here the parts of a network say what each of them has to let go.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol, TypeVar
from weakref import WeakKeyDictionary

Thing = TypeVar("Thing")

_held: WeakKeyDictionary[Any, Callable[[Any], None]] = WeakKeyDictionary()


class HasDescriptor(Protocol):
    """A socket, or a file."""

    def fileno(self) -> int: ...


def let_go_in_children(thing: Thing, let_go: Callable[[Thing], None]) -> None:
    """In every child process that is forked while a thing lives, call ``let_go(thing)`` before anything else runs.

    It runs where ``os.fork()`` was called, in whatever state other threads were interrupted: it waits for nothing,
    takes no lock, and calls no library that may.
    """
    _held[thing] = let_go


def close_in_children(sock: HasDescriptor) -> None:
    """In every child process, have the descriptor of a socket or a file lead nowhere.

    What is bound to it or locked by it is free as soon as the parent closes it, and nothing is written to it, or read.
    """
    let_go_in_children(sock, _lead_nowhere)


def _lead_nowhere(sock: HasDescriptor) -> None:
    try:
        number = sock.fileno()
    except ValueError:  # of a file that is closed
        return
    if number < 0:  # of a socket that is
        return
    with suppress(OSError):  # somebody has closed it by its number
        os.close(number)  # first, because there may be no descriptor to spare
    # The number stays taken: objects that know it, OpenSSL's among them, must not meet another socket there.
    null = os.open(os.devnull, os.O_RDWR)
    if null != number:
        os.dup2(null, number, inheritable=False)
        os.close(null)


def _let_go() -> None:
    failures: list[Exception] = []
    for thing, let_go in list(_held.items()):
        try:
            let_go(thing)
        except Exception as failure:  # keeps no other from being let go
            failures.append(failure)
    if failures:
        raise failures[0]  # Python prints it, and the child goes on


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_let_go)
