"""Medians, ratios, the table and the JSON file."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Sequence
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

from tools.bench.runner import Runs
from tools.bench.scenarios import Metric
from tools.bench.systems import BARE, SYSTEMS
from tools.bench.targets import judge_all

PACKAGES = (
    "gevent", "protobuf", "pyOpenSSL", "cryptography", "pyzmq", "uvloop", "grpcio", "zerorpc", "eclipse-zenoh",
)  # fmt: skip


class Report:
    """Everything that was measured in one run."""

    def __init__(self, runs: Sequence[Runs], *, quick: bool) -> None:
        self._runs = {run.scenario.name: run for run in runs}
        self._quick = quick
        self.targets = judge_all(self._median)

    def missed(self) -> bool:
        return any(target["verdict"] == "missed" for target in self.targets)

    def _median(self, scenario: str, metric: str, system: str) -> float | None:
        run = self._runs.get(scenario)
        if run is None or not run.rounds.get(system):
            return None
        found = next(m for m in run.scenario.metrics if m.name == metric)
        return median(_values(run, found, system))

    # -- for people ---------------------------------------------------------

    def print(self) -> None:
        for run in self._runs.values():
            rows = [self._row(run, system) for system in run.rounds]
            print_table(f"{run.scenario.name}: {run.scenario.title}", _columns(run), rows)
        rows = [_target_row(target) for target in self.targets]
        print_table("targets", ["what", "target", "measured", "baseline", "ratio", "verdict"], rows)
        if self._quick:
            print("Quick run: few and short rounds; judge by a full one.")

    def _row(self, run: Runs, system: str) -> list[str]:
        row = [system]
        for metric in run.scenario.metrics:
            values = _values(run, metric, system)
            row.append(_number(median(values), metric.digits) if values else "-")
            if metric.spread:
                row.append(_spread(values, metric) if values else "")
        if "cpu" in _names(run):
            row.append(self._ratio(run, "cpu", system, BARE))
        row.append(self._ratio(run, run.scenario.metrics[0].name, run.scenario.reference, system))
        row.append(run.problems.get(system, f"{len(run.rounds[system])} rounds"))
        return row

    def _ratio(self, run: Runs, metric: str, system: str, other: str) -> str:
        over, under = (self._median(run.scenario.name, metric, name) for name in (system, other))
        return f"{over / under:.2f}" if over and under else "-"

    # -- for programs -------------------------------------------------------

    def write(self, path: Path) -> None:
        document = {
            "machine": _machine(),
            "quick": self._quick,
            "systems": {system.name: system.note for system in SYSTEMS.values()},
            "results": [self._entry(run, system) for run in self._runs.values() for system in run.rounds],
            "targets": self.targets,
        }
        path.write_text(json.dumps(document, indent=1) + "\n")

    def _entry(self, run: Runs, system: str) -> dict[str, Any]:
        metrics = {}
        for metric in run.scenario.metrics:
            values = _values(run, metric, system)
            if values:
                metrics[metric.name] = {"unit": metric.unit, "median": median(values), "rounds": values}
        return {
            "scenario": run.scenario.name,
            "system": system,
            "problem": run.problems.get(system),
            "metrics": metrics,
            "raw": run.rounds[system],
        }


def _names(run: Runs) -> list[str]:
    return [metric.name for metric in run.scenario.metrics]


def _values(run: Runs, metric: Metric, system: str) -> list[float]:
    return [metric.of(result) for result in run.rounds[system]]


def _number(value: float, digits: int) -> str:
    return f"{value:,.{digits}f}"


def _spread(values: list[float], metric: Metric) -> str:
    return f"{_number(min(values), metric.digits)} - {_number(max(values), metric.digits)}"


def _columns(run: Runs) -> list[str]:
    columns = ["system"]
    for metric in run.scenario.metrics:
        columns.append(f"{metric.name} [{metric.unit}]")
        if metric.spread:
            columns.append("min - max")
    if "cpu" in _names(run):
        columns.append("cpu / bare")
    return [*columns, f"{run.scenario.reference} / this", ""]


def _target_row(target: dict[str, Any]) -> list[str]:
    def figure(name: str) -> str:
        return "-" if target[name] is None else f"{target[name]:,.4g}" if target[name] < 1e4 else f"{target[name]:,.0f}"

    return [
        target["what"],
        target["target"],
        figure("measured"),
        figure("baseline"),
        figure("ratio"),
        target["verdict"],
    ]


def print_table(title: str, columns: list[str], rows: list[list[str]]) -> None:
    """Plain text on purpose: it is pasted into documents and read in CI logs."""
    widths = [max(map(len, cells)) for cells in zip(columns, *rows, strict=True)]
    print(f"\n{title}")
    for cells in (columns, ["-" * width for width in widths], *rows):
        aligned = (
            cell.ljust(w) if n == 0 else cell.rjust(w) for n, (cell, w) in enumerate(zip(cells, widths, strict=True))
        )
        print("  " + "  ".join(aligned).rstrip())


def _machine() -> dict[str, Any]:
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "packages": {name: _version(name) for name in PACKAGES},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
