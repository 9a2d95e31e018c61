"""Real ``peernet-node`` processes and their events, for the demo and for tests of the command line.

Every wait is for something, and has a deadline. Standard library only, and POSIX: it waits with select().
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

PROGRAM = Path(sys.executable).with_name("peernet-node")
COMMAND = [str(PROGRAM)] if PROGRAM.exists() else [sys.executable, "-m", "peernet"]
# Every time limit is multiplied by this: raise it on a slow machine.
FACTOR = float(os.environ.get("PEERNET_TEST_FACTOR", "1"))

Event = dict[str, Any]


def command(
    home: str | Path, *arguments: str, stdin: bytes = b"", timeout: float = 15, run: Any = subprocess.run
) -> Finished:
    """Run a command on a home folder until it ends.

    With ``run=gevent.subprocess.run`` greenlets go on meanwhile. A native thread for that would be wrong:
    gevent's loop collects all children that end, so the exit code may be lost.
    """
    done = run(
        [*COMMAND, "--home", str(home), *arguments],
        input=stdin,
        capture_output=True,
        timeout=timeout * FACTOR,
        env=clean_environment(),
        check=False,
    )
    return Finished(done.returncode, done.stdout.decode(), done.stderr.decode())


@contextmanager
def running(arguments: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A process without the settings of the user. It does not outlive its context, whatever happens in there."""
    with subprocess.Popen(arguments, env=clean_environment(), **options) as process:
        try:
            yield process
        finally:
            process.kill()


def clean_environment() -> dict[str, str]:
    """The environment without the settings that a user may have in it."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PEERNET_")}


class Finished:
    """What a command has left.

    Attributes:
        code: its exit code.
        out: what it wrote to stdout; ``json`` is the same, parsed.
        err: what it wrote to stderr.
    """

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code = code
        self.out = out
        self.err = err

    def __repr__(self) -> str:
        return f"exit code {self.code}\nstdout: {self.out}\nstderr: {self.err}"

    @property
    def json(self) -> Any:
        """The document on stdout."""
        return json.loads(self.out)


class NodeProcess:
    """A running node. Leaving its context ends it, whatever state it is in.

    Args:
        home: its home folder.
        arguments: for ``run``; it listens on a free port of the loopback interface if they say nothing else.
        verbose: whether its log tells more.

    Attributes:
        ready: the first event.
    """

    def __init__(self, home: str | Path, *arguments: str, verbose: bool = False) -> None:
        self.home = Path(home)
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  # end() closes it
        listen = [] if "--listen" in arguments else ["--listen", "127.0.0.1:0"]
        self.process = subprocess.Popen(
            [*COMMAND, "--home", str(home), *["-v"] * verbose, "run", *listen, *arguments, "-o", "jsonl"],
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=clean_environment(),
        )
        self._buffer = b""
        self._events: list[Event] = []
        self.ready: Event = {}

    def __enter__(self) -> NodeProcess:
        try:
            self.ready = self.wait_for("ready")
        except AssertionError:
            self.end()
            raise
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.end()

    @property
    def identifier(self) -> str:
        """Who it is."""
        return str(self.ready["identifier"])

    @property
    def address(self) -> str:
        """Where it listens, pinned to its identity."""
        return str(self.ready["addresses"][0])

    @property
    def log(self) -> str:
        """What it wrote to stderr so far."""
        self._log.seek(0)
        return self._log.read().decode()

    def command(self, *arguments: str, stdin: bytes = b"") -> Finished:
        """Run a command on this node's home folder."""
        return command(self.home, *arguments, stdin=stdin)

    def wait_for(self, event: str, timeout: float = 10, /, **fields: Any) -> Event:
        """The first event not yet taken that has this name and these fields. Takes it.

        Raises:
            AssertionError: it did not come in time.
        """
        ends = time.monotonic() + timeout * FACTOR
        wanted = {"event": event, **fields}
        while True:
            for seen in self._events:
                if wanted.items() <= seen.items():
                    self._events.remove(seen)
                    return seen
            if not self._read(ends - time.monotonic()):
                raise AssertionError(f"waited in vain for {wanted}; untaken: {self._events}; log: {self.log}")

    def end_of_output(self, timeout: float = 10) -> list[Event]:
        """The events not yet taken, when it has closed its stdout."""
        ends = time.monotonic() + timeout * FACTOR
        while self._read(ends - time.monotonic()):
            pass
        return self._events

    def terminate(self, number: int = signal.SIGTERM, timeout: float = 10) -> int:
        """Send a signal, and return the exit code."""
        self.process.send_signal(number)
        return self.wait(timeout)

    def wait(self, timeout: float = 10) -> int:
        """The exit code, when it has ended."""
        return self.process.wait(timeout * FACTOR)

    def end(self) -> None:
        """Make sure that nothing is left of it. Idempotent."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()
        self._log.close()

    def _read(self, timeout: float) -> bool:
        """Take in what comes next. Returns False at the end of the stream or of the time."""
        assert self.process.stdout is not None
        descriptor = self.process.stdout.fileno()
        if not select.select([descriptor], [], [], max(0.0, timeout))[0]:
            return False
        data = os.read(descriptor, 1 << 20)
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        self._events += map(json.loads, lines)
        return bool(data)
