"""``python -m tools.chaos``: run the scenarios, print a table, write a JSON file; 1 if a limit is missed."""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import sys
import time
import traceback
from pathlib import Path
from types import ModuleType

import tools.chaos
from tools.chaos.figures import figures_of
from tools.chaos.report import Report


def scenarios() -> dict[str, ModuleType]:
    """The modules of this folder that can be run, by name."""
    names = sorted(module.name for module in pkgutil.iter_modules(tools.chaos.__path__) if module.name != "__main__")
    modules = {name: importlib.import_module(f"tools.chaos.{name}") for name in names}
    return {name: module for name, module in modules.items() if hasattr(module, "run")}


def summary(module: ModuleType) -> str:
    """What a scenario does, in a line."""
    return (module.__doc__ or "").strip().partition("\n")[0]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tools.chaos", description=__doc__)
    parser.add_argument("scenario", nargs="*", help="what to run; everything if none is named")
    parser.add_argument("--short", action="store_true", help="seconds instead of minutes: to see that all works")
    parser.add_argument("--rounds", type=int, default=1, metavar="N", help="how often (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of random choices (default: %(default)s)")
    parser.add_argument("--json", type=Path, default=Path("chaos-results.json"), metavar="PATH", help="%(default)s")
    parser.add_argument("--list", action="store_true", help="list the scenarios and what they do")
    return parser


def _run(report: Report, name: str, module: ModuleType, *, short: bool, seed: int) -> None:
    began = time.monotonic()
    try:
        result = module.run(seed=seed, **(module.SHORT if short else module.LONG))
        report.add(name, figures_of(result, getattr(module, "LIMITS", {})))
    except Exception:
        report.add_failure(name, traceback.format_exc())
        traceback.print_exc()
    print(f"{name}, seed {seed}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)


def main() -> int:
    parser = _parser()
    options = parser.parse_args()
    known = scenarios()
    if options.list:
        print(*(f"{name:14} {summary(module)}" for name, module in known.items()), sep="\n")
        return 0
    unknown = set(options.scenario) - set(known)
    if unknown:
        parser.error(f"no scenario {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    report = Report("short" if options.short else "long", options.seed)
    for number in range(options.rounds):
        for name in options.scenario or known:
            _run(report, name, known[name], short=options.short, seed=options.seed + number)
    print(report.table())
    report.write(options.json)
    print(f"\nall figures in {options.json}")
    return 1 if report.missed else 0


if __name__ == "__main__":
    sys.exit(main())
