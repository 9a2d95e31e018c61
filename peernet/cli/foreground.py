"""A node in the foreground: its output, its log, and its signals."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from typing import TextIO

import gevent

from peernet.cli.output import clock
from peernet.cli.session import Session
from peernet.cli.writer import LineWriter
from peernet.node.events import make_event
from peernet.node.failures import ExitCode
from peernet.node.node import Node
from peernet.node.settings import Settings
from peernet.runtime.greenlets import spawn
from peernet.runtime.logs import tell_dropped

# How long the last lines may take when the node has ended. Seconds.
FLUSH_TIMEOUT = 2.0


def run_in_foreground(session: Session, settings: Settings) -> None:
    """Run a node until a signal or `stop` ends it. The caller has locked the home.

    Raises:
        PeerNetError: it cannot start.
    """
    line_of = session.line_of
    out = LineWriter(_descriptor(sys.__stdout__), "stdout", lambda count: line_of(make_event("dropped", count=count)))
    log = LineWriter(_descriptor(sys.__stderr__), "stderr", "{} lines of the log could not be written".format)
    try:
        with redirect_stderr(log):  # gevent and the interpreter write there too, and the hub must not wait
            session.log_to(log)
            node = Node(session.home, settings, lambda event: out.put(line_of(event)), out.wait_for_room)
            node.stop_asked.rawlink(lambda asked: out.hurry())  # nobody waits for an unread stdout any more
            with _signals(node):
                node.run()
            if session.output.for_people:
                out.put(f"{clock(time.time())}  stopped        everybody was told goodbye")
    finally:
        tell_dropped()
        session.log_to()
        closing = [spawn("last lines", writer.close, FLUSH_TIMEOUT) for writer in (out, log)]
        if not all(greenlet.get() for greenlet in closing):
            # A thread hangs in a write to a pipe that nobody reads; waiting for it would hang us too.
            os._exit(ExitCode.OK if sys.exc_info()[0] is None else ExitCode.ERROR)


def _descriptor(stream: TextIO | None) -> int:
    """Where a stream of the process leads to, whatever stands for it now."""
    assert stream is not None  # the command has opened what was closed
    return stream.fileno()


@contextmanager
def _signals(node: Node) -> Iterator[None]:
    """The first signal asks the node to stop; the second ends the process at once."""
    seen: list[int] = []

    def handle(number: int) -> None:
        seen.append(number)
        if len(seen) > 1:
            os._exit(128 + number)
        node.ask_to_stop()

    watchers = [gevent.signal_handler(number, handle, number) for number in _ending_signals()]
    try:
        yield
    finally:
        for watcher in watchers:
            watcher.cancel()


def _ending_signals() -> list[int]:
    numbers: list[int] = [signal.SIGTERM, signal.SIGINT]
    # Of a terminal that is closed. Under nohup it is ignored, and must stay so.
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    return numbers
