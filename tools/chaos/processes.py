"""Peers in processes of their own, which can be stopped and killed; they do what they are asked.

The scenario and its child talk in JSON lines: ``{"id": 1, "do": "method", "with": {…}}``
and ``{"id": 1, "answer": …}`` or ``{"id": 1, "error": "…"}``. What a child can be asked
for are the methods of its agent, a class of the scenario's module. A child ends when
its stdin does.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import gevent
import gevent.subprocess
from gevent.event import AsyncResult
from gevent.fileobject import FileObjectPosix

from peernet.runtime.greenlets import spawn

ROOT = Path(__file__).resolve().parents[2]


class ChildError(Exception):
    """A child could not do what it was asked."""


class Child:
    """A process with an agent in it. Leaving its context kills it.

    Args:
        agent: the agent's class, at the top of a module.
        options: what the agent is made with.
    """

    def __init__(self, agent: type, **options: Any) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  # end() closes it
        self.process = gevent.subprocess.Popen(
            [sys.executable, "-m", __name__, agent.__module__, agent.__qualname__, json.dumps(options)],
            stdin=gevent.subprocess.PIPE,
            stdout=gevent.subprocess.PIPE,
            stderr=self._log,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._stdin, self._stdout = self.process.stdin, self.process.stdout
        self._asked: dict[int, AsyncResult[Any]] = {}
        self._last = 0
        self.said_last: Any = None
        self._listening = spawn(f"answers of {agent.__qualname__}", self._listen)

    def __enter__(self) -> Child:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.end()

    @property
    def log(self) -> str:
        """What it wrote to stderr so far."""
        return os.pread(self._log.fileno(), 1 << 24, 0).decode(errors="replace")

    def ask(self, method: str, timeout: float = 60, /, **arguments: Any) -> Any:
        """Have the agent do something, and wait for what comes of it.

        Raises:
            ChildError: it failed, has ended, or took too long.
        """
        self._last += 1
        answer = self._asked[self._last] = AsyncResult()
        line = json.dumps({"id": self._last, "do": method, "with": arguments}) + "\n"
        try:
            self._stdin.write(line.encode())
            self._stdin.flush()
            return answer.get(timeout=timeout)
        except (OSError, gevent.Timeout) as error:
            raise ChildError(f"{method} of process {self.process.pid}: {error!r}\n{self.log[-4000:]}") from error

    def send_signal(self, number: int) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Let it stand still (SIGSTOP) for a while."""
        self.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """``kill -9``, and wait until it is dead."""
        self.process.kill()
        self.wait(10)

    def wait(self, timeout: float) -> int | None:
        """Its exit code, ``None`` if it still runs after so many seconds; what it said until then has been heard."""
        try:
            code: int = self.process.wait(timeout)
        except gevent.subprocess.TimeoutExpired:
            return None
        self._listening.join(5)
        return code

    def end(self) -> None:
        """Make sure that nothing is left of it. Idempotent."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._listening.join(5)
        for stream in (self._stdin, self._stdout, self._log):
            try:
                stream.close()
            except OSError:
                continue  # what was written last found nobody to read it

    def _listen(self) -> None:
        for line in self._stdout:
            message = json.loads(line)
            asked = self._asked.pop(message.get("id"), None)
            if asked is None:
                self.said_last = message
            elif "error" in message:
                asked.set_exception(ChildError(message["error"]))
            else:
                asked.set(message["answer"])
        for asked in self._asked.values():
            asked.set_exception(ChildError(f"process {self.process.pid} has ended\n{self.log[-4000:]}"))


# What follows runs in the child.


def say(message: dict[str, Any]) -> None:
    """Tell the scenario something: an answer, or a last word (``Child.said_last``)."""
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def _obey(agent: object, order: dict[str, Any]) -> None:
    try:
        do: Callable[..., Any] = getattr(agent, order["do"])
        say({"id": order["id"], "answer": do(**order["with"])})
    except Exception:
        say({"id": order["id"], "error": traceback.format_exc()})


def main(module: str, name: str, options: str) -> None:
    """Be an agent until stdin ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the one who started us ends us
    logging.basicConfig(level=logging.WARNING)
    agent = getattr(importlib.import_module(module), name)(**json.loads(options))
    for line in FileObjectPosix(sys.stdin.fileno(), "rb", close=False):
        spawn("order", _obey, agent, json.loads(line))
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
