"""A node in the foreground: its output, its log, and its signals."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import gevent

from peernet.cli.node import Node
from peernet.cli.session import Session
from peernet.cli.settings import Settings
from peernet.cli.writer import LineWriter

STDOUT, STDERR = 1, 2
# How long the last lines may take when the node has ended. Seconds.
FLUSH_TIMEOUT = 2.0


def run_in_foreground(session: Session, settings: Settings) -> None:
    """Run a node until a signal or `stop` ends it. The caller has locked the home.

    Raises:
        PeerNetError: it cannot start.
    """
    out, log = LineWriter(STDOUT), LineWriter(STDERR)
    session.log_to(log)
    try:
        node = Node(session.home, settings, session.output_format, out)
        with _signals(node):
            node.run()
    finally:
        session.log_to()
        flushed = [writer.close(FLUSH_TIMEOUT) for writer in (out, log)]
    if not all(flushed):
        # A thread hangs in a write to a pipe that nobody reads; waiting for it would hang us too.
        os._exit(0)


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
