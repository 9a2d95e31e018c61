"""Forked children of the process that runs the tests."""

from __future__ import annotations

import json
import os
import signal
import traceback
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from gevent import os as cooperative

from tests.support import wait_until

PATIENCE = 20.0  # with a child. Seconds, scaled


def in_child(function: Callable[[], Any]) -> Any:
    """What a function returns in a forked child, as JSON brings it back. The child ends without any cleaning up."""
    reader, writer = os.pipe()
    child = fork()
    if not child:
        _answer(writer, function)
    os.close(writer)
    try:
        return json.loads(_read(reader, child))
    finally:
        os.close(reader)
        end(child)


def fork() -> int:
    """``os.fork()`` of Python, also if the process has threads."""
    with warnings.catch_warnings():  # Python 3.12 and later warn of threads, and gevent's pool has some
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def end(child: int) -> None:
    """Have a child end, if it has not, and leave nothing of it."""
    with suppress(ChildProcessError):  # gevent's loop waits for all children, once a test has used its subprocesses
        if not os.waitpid(child, os.WNOHANG)[0]:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def _answer(writer: int, function: Callable[[], Any]) -> None:
    try:
        answer = function()
    except BaseException:
        answer = traceback.format_exc()
    try:
        os.write(writer, json.dumps(answer).encode())
    finally:
        os._exit(0)


def _read(reader: int, child: int) -> bytes:
    cooperative.make_nonblocking(reader)
    content: list[bytes] = []

    def is_complete() -> bool:
        try:
            content.append(os.read(reader, 1 << 16))
        except BlockingIOError:
            return False
        return not content[-1]

    wait_until(is_complete, PATIENCE, f"the answer of child {child}")
    return b"".join(content)
