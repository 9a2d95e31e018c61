"""``python -m tools.bench.instructions``: user-space instructions per message, counted by callgrind.

A rate depends on what else the machine does; a number of instructions hardly does. Both sides of a pair run
under callgrind, once with some messages and once with three times as many: the difference is what the messages
take, without start and end. A bare echo on gevent and pyOpenSSL is counted beside peernet, and the ratio is judged
(targets.py).
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tools.bench.counted import CAN_BEGIN_LATE
from tools.bench.lockstep import Relay
from tools.bench.report import print_table
from tools.bench.runner import ROOT, Child, PairError
from tools.bench.systems import BARE
from tools.bench.targets import INSTRUCTION_LIMITS, judge_instructions

PEERNET = "peernet-tls"
# Of each scenario: the smaller of the two numbers of messages. A flow is sent in whole batches of 250.
MESSAGES = {"small": 4000, "rtt": 500}
TITLES = {"small": "one way, 50 bytes", "rtt": "round trip, 50 bytes, callback answers"}
# What peernet compares with a clock is out of reach, so that the number of frames alone ends a turn. Under callgrind
# the time for it would be over after a few frames, and after fewer of them on a busy machine.
LIMITS = dict.fromkeys(("seconds_per_turn", "write_timeout", "dead_after"), 3600.0)
SIDES = ("listen", "dial")
TIMEOUT = 600.0  # of a pair; it takes some ten seconds on an idle machine


@dataclass(frozen=True)
class Pair:
    system: str
    scenario: str
    messages: int


@dataclass(frozen=True)
class Cost:
    """Thousand instructions per message, or per round trip."""

    listen: float
    dial: float

    @property
    def both(self) -> float:
        return self.listen + self.dial


def main() -> int:
    options = _parser().parse_args()
    if shutil.which("valgrind") is None:
        print("valgrind is needed to count instructions: apt-get install valgrind", file=sys.stderr)
        return 2
    costs = Counter(options.peernet.resolve()).count(options.only or list(MESSAGES), options.jobs)
    _print(costs)
    if options.json:
        options.json.write_text(json.dumps({f"{s}/{n}": vars(cost) for (s, n), cost in costs.items()}, indent=1) + "\n")
    broken = judge_instructions(ratios(costs))
    for sentence in broken:
        print(sentence)
    return 1 if broken and options.enforce else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tools.bench.instructions", description=__doc__)
    parser.add_argument("--peernet", type=Path, default=ROOT, metavar="DIR", help="count the peernet of this checkout")
    parser.add_argument("--only", action="append", choices=list(MESSAGES), help="count only this scenario")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, metavar="N", help="pairs at a time")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the counts there, too")
    parser.add_argument("--enforce", action="store_true", help="exit 1 if a limit is exceeded")
    return parser


def ratios(costs: dict[tuple[str, str], Cost]) -> dict[str, float]:
    """Of each scenario: what peernet takes on both sides, in parts of what the bare echo takes."""
    return {
        scenario: cost.both / costs[scenario, BARE].both
        for (scenario, system), cost in costs.items()
        if system == PEERNET
    }


class Counter:
    """Runs pairs under callgrind.

    Args:
        checkout: the folder whose ``peernet`` is counted; the tools are always these.
    """

    def __init__(self, checkout: Path) -> None:
        self._checkout = checkout

    def count(self, scenarios: list[str], jobs: int) -> dict[tuple[str, str], Cost]:
        """The costs of each scenario and system.

        Raises:
            PairError: a pair came to nothing.
        """
        kinds = [(scenario, system) for scenario in scenarios for system in (BARE, PEERNET)]
        pairs = [Pair(system, s, factor * MESSAGES[s]) for factor in (3, 1) for s, system in kinds]
        with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(jobs) as pool:
            # What is imported from here comes before the path of Python: peernet, and nothing else.
            (Path(folder) / "peernet").symlink_to(self._checkout / "peernet")
            for scenario, system in kinds:  # bytecode is written now, and not while somebody counts
                self._run(folder, Pair(system, scenario, MESSAGES[scenario]), counted=False)
            totals = dict(zip(pairs, pool.map(lambda pair: self._run(folder, pair), pairs), strict=True))
        return costs_of(totals)

    def _run(self, folder: str, pair: Pair, *, counted: bool = True) -> dict[str, int]:
        """The instructions of each side from where it begins to count to its end."""
        files = {role: Path(folder) / f"{pair.system}.{pair.scenario}.{pair.messages}.{role}" for role in SIDES}
        params = json.dumps({"scenario": pair.scenario, "messages": pair.messages, "limits": LIMITS})
        with ExitStack() as stack:
            children = []
            for role, file in files.items():
                command = [sys.executable, "-m", "tools.bench.child", pair.system, role, params]
                command = _callgrind(file) + command if counted else command
                child = Child(f"{pair.system}, {role}ing side", command, cwd=folder, environment=_environment())
                stack.callback(child.end)
                children.append(child)
            listener, dialler = children
            address = _expect(listener, "ready")
            if pair.scenario == "rtt" and counted:
                address = Relay(address, listener=listener.pid, dialler=dialler.pid).address
            dialler.send({"address": address, "process": listener.pid})
            _expect(listener if pair.scenario == "small" else dialler, "result")
            for child in (dialler, listener):
                child.finish(TIMEOUT)
        return {role: total_of(file.read_text(errors="replace")) for role, file in files.items()} if counted else {}


def _environment() -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "PYTHONHASHSEED": "0",
        "GEVENT_LOOP": "tools.bench.counted.SlowLoop",
    }


def _callgrind(file: Path) -> list[str]:
    at_start = "no" if CAN_BEGIN_LATE else "yes"
    return ["valgrind", "-q", "--tool=callgrind", f"--instr-atstart={at_start}", f"--callgrind-out-file={file}"]


def _expect(child: Child, name: str) -> object:
    message = child.receive(TIMEOUT)
    if message is None:
        raise PairError(f"{child.name}: no {name} in time: {child.last_words()}")
    return message[name]


def total_of(text: str) -> int:
    """The total in what callgrind has written.

    Raises:
        PairError: there is none.
    """
    found = re.search(r"^totals: (\d+)$", text, re.MULTILINE)
    if found is None:
        raise PairError("callgrind has counted nothing")
    return int(found[1])


def costs_of(totals: dict[Pair, dict[str, int]]) -> dict[tuple[str, str], Cost]:
    """What one message costs, from the totals of each pair with few messages and with three times as many."""
    costs = {}
    for pair, less in totals.items():
        few = MESSAGES[pair.scenario]
        if pair.messages == few:
            more = totals[Pair(pair.system, pair.scenario, 3 * few)]
            cost = Cost(**{role: (more[role] - less[role]) / (2 * few) / 1000 for role in less})
            costs[pair.scenario, pair.system] = cost
    return costs


def _print(costs: dict[tuple[str, str], Cost]) -> None:
    found = ratios(costs)
    for scenario in found:
        rows = []
        for system in (BARE, PEERNET):
            cost = costs[scenario, system]
            ratio = f"{found[scenario]:.3f}" if system == PEERNET else "1"
            rows.append([system, f"{cost.listen:,.2f}", f"{cost.dial:,.2f}", f"{cost.both:,.2f}", ratio])
        title = f"{TITLES[scenario]}: thousand instructions each (limit {INSTRUCTION_LIMITS[scenario]:g} x bare)"
        print_table(title, ["system", "listening", "dialling", "both", "ratio"], rows)


if __name__ == "__main__":
    sys.exit(main())
