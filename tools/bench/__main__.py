"""``python -m tools.bench`` (or ``python tools/bench``): measure, print, write a JSON file."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

# Started as a folder, Python puts tools/bench itself on the path: its parent's parent is meant.
ROOT = str(Path(__file__).resolve().parents[2])
if ROOT not in sys.path:
    sys.path.insert(0, ROOT)

from tools.bench.report import Report  # noqa: E402
from tools.bench.runner import Runs  # noqa: E402
from tools.bench.scenarios import SCENARIOS, Scenario  # noqa: E402
from tools.bench.systems import SYSTEMS  # noqa: E402


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tools.bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few short rounds: to see that all works, not to judge")
    parser.add_argument("--rounds", type=int, metavar="N", help="rounds per scenario (default: 5; startup 11)")
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="SCENARIO[/SYSTEM]",
        help="measure only this; may be given several times; either part may be empty, e.g. rtt or /pyzmq",
    )
    parser.add_argument("--json", type=Path, default=Path("bench-results.json"), metavar="PATH", help="%(default)s")
    parser.add_argument("--enforce", action="store_true", help="exit 1 if a target is missed")
    parser.add_argument("--list", action="store_true", help="list scenarios and systems and what they do")
    return parser


def _plan(only: list[str], parser: argparse.ArgumentParser) -> list[tuple[Scenario, list[str]]]:
    wanted = [entry.partition("/")[::2] for entry in only] or [("", "")]
    plan = []
    for scenario in SCENARIOS.values():
        names = list(scenario.systems) or [s.name for s in SYSTEMS.values() if scenario.name in s.scenarios]
        chosen = [n for n in names if any(w in ("", scenario.name) and s in ("", n) for w, s in wanted)]
        if chosen:
            plan.append((scenario, chosen))
    if not plan:
        parser.error(f"nothing matches {', '.join(only)}; see --list")
    return plan


def _list() -> None:
    for scenario in SCENARIOS.values():
        print(f"{scenario.name:18} {scenario.title}")
    print()
    for system in SYSTEMS.values():
        print(f"{system.name:18} {system.note}")


def _tell(text: str) -> None:
    """Progress on stderr; on a terminal in one line that is overwritten."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
    else:
        print(text, file=sys.stderr, flush=True)


def _measure(plan: list[tuple[Scenario, list[str]]], *, quick: bool, rounds: int | None) -> list[Runs]:
    measured = []
    for scenario, systems in plan:
        runs = Runs(scenario, systems)
        usual = scenario.quick_rounds if quick else scenario.rounds
        runs.measure(rounds=rounds or usual, params=scenario.quick if quick else scenario.params, tell=_tell)
        measured.append(runs)
    return measured


def main() -> int:
    parser = _parser()
    options = parser.parse_args()
    if options.list:
        _list()
        return 0
    began = time.monotonic()
    runs = _measure(_plan(options.only, parser), quick=options.quick, rounds=options.rounds)
    _tell("")
    report = Report(runs, quick=options.quick)
    report.print()
    report.write(options.json)
    print(f"\n{time.monotonic() - began:.0f} s; all figures in {options.json}")
    return 1 if options.enforce and report.missed() else 0


if __name__ == "__main__":
    sys.exit(main())
