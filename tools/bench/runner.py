"""Runs the pairs of processes, the systems taking turns, and collects what they measured.

Round by round every system gets its turn before any system gets its next one. Each
pair is two fresh processes that talk over loopback and warm up before they measure;
a command's start is rehearsed once, uncounted. Only processes that were started here
are ever ended here, and each has a deadline.
"""

from __future__ import annotations

import json
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tools.bench.scenarios import Scenario
from tools.bench.systems import SYSTEMS

ROOT = Path(__file__).resolve().parents[2]
Message = dict[str, Any]


class PairError(Exception):
    """A pair ended without a result; the text says what its processes had to say."""


class Child:
    """One process of a pair: its JSON lines, its error output, its end."""

    def __init__(
        self, name: str, command: list[str], *, cwd: str | Path = ROOT, environment: dict[str, str] | None = None
    ) -> None:
        self.name = name
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - end() closes it
        self._lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._process = subprocess.Popen(
            command,
            cwd=cwd,
            env=environment or _environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
        )
        threading.Thread(target=self._read, daemon=True).start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put(b"")

    def receive(self, timeout: float) -> Message | None:
        """The next message, or None if there is none in time."""
        try:
            line = self._lines.get(timeout=max(timeout, 0))
        except queue.Empty:
            return None
        if not line:
            raise PairError(f"{self.name}: {self.last_words()}")
        message: Message = json.loads(line)
        return message

    def send(self, message: Message) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message).encode() + b"\n")
        self._process.stdin.flush()

    def last_words(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "no error output"

    def finish(self, timeout: float) -> None:
        """Let the process end by itself, which it does when its stdin is closed."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise PairError(f"{self.name}: has not ended in time: {self.last_words()}") from None

    def end(self) -> None:
        """End the process. Its result is in already, so there is nothing to wait for."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            if stream is not None:
                stream.close()


def _environment() -> dict[str, str]:
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    return {**os.environ, "PYTHONPATH": path}


@contextmanager
def _started(system: str, role: str, params: dict[str, Any]) -> Iterator[Child]:
    command = [sys.executable, "-m", "tools.bench.child", system, role, json.dumps(params)]
    child = Child(f"{system}, {role}ing side", command)
    try:
        yield child
    finally:
        child.end()


def run_pair(system: str, scenario: Scenario, params: dict[str, Any]) -> Message:
    """One measurement: start both sides, introduce them, return what they report."""
    deadline = time.monotonic() + scenario.timeout
    params = {"scenario": scenario.name, **params}
    with _started(system, "listen", params) as listener, _started(system, "dial", params) as dialler:
        hello = listener.receive(scenario.timeout)
        if hello is None:
            raise PairError(f"no address within {scenario.timeout:.0f} s: {listener.last_words()}")
        dialler.send({"address": hello["ready"], "process": listener.pid})
        return _await_results((listener, dialler), scenario.results, deadline)


def _await_results(children: tuple[Child, Child], wanted: int, deadline: float) -> Message:
    """What the sides have measured, in one message."""
    together: Message = {}
    while time.monotonic() < deadline:
        for child in children:
            message = child.receive(0.02)
            if message is not None:
                together |= message["result"]
                wanted -= 1
        if not wanted:
            return together
    words = "; ".join(f"{child.name}: {child.last_words()}" for child in children)
    raise PairError(f"no result in time ({words})")


def _startup_command(system: str) -> list[str]:
    if system == "python":
        return [sys.executable, "-c", "pass"]
    beside = Path(sys.executable).with_name("peernet-node")
    script = str(beside) if beside.exists() else shutil.which("peernet-node")
    return [script, "--version"] if script else [sys.executable, "-m", "peernet", "--version"]


def run_startup(system: str, scenario: Scenario, params: dict[str, Any]) -> Message:
    """One start of a command, timed from here."""
    command = _startup_command(system)
    began = time.perf_counter()
    try:
        done = subprocess.run(command, cwd=ROOT, env=_environment(), capture_output=True, timeout=scenario.timeout)
    except subprocess.TimeoutExpired:
        raise PairError(f"{' '.join(command)} took more than {scenario.timeout:.0f} s") from None
    seconds = time.perf_counter() - began
    if done.returncode:
        raise PairError(f"{' '.join(command)}: {done.stderr.decode(errors='replace').strip()[-200:]}")
    return {"seconds": seconds, "command": " ".join(command)}


class Runs:
    """All results of one scenario: per system its rounds, or why it has none."""

    def __init__(self, scenario: Scenario, systems: list[str]) -> None:
        self.scenario = scenario
        self.rounds: dict[str, list[Message]] = {system: [] for system in systems}
        self.problems: dict[str, str] = {}
        for system in systems:
            missing = SYSTEMS[system].missing() if system in SYSTEMS else []
            if missing:
                self.problems[system] = f"not installed: {', '.join(missing)}"

    def measure(self, *, rounds: int, params: dict[str, Any], tell: Callable[[str], None]) -> None:
        run = run_startup if self.scenario.name == "startup" else run_pair
        for number in range(rounds + self._rehearsals()):
            for system, results in self.rounds.items():
                if system in self.problems:
                    continue
                tell(f"{self.scenario.name} {number}/{rounds}: {system}")
                try:
                    result = run(system, self.scenario, params)
                except PairError as error:
                    self.problems[system] = f"failed: {error}"
                    continue
                if number >= self._rehearsals():
                    results.append(result)

    def _rehearsals(self) -> int:
        return 1 if self.scenario.name == "startup" else 0
