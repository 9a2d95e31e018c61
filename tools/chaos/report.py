"""The table, and the JSON file."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tools.chaos.figures import Figure, combine, show

PACKAGES = ("gevent", "protobuf", "pyOpenSSL", "cryptography")
HEADINGS = ("what", "figure", "limit", "verdict")


class Report:
    """What the scenarios of one run have measured.

    Args:
        scale: ``long`` or ``short``.
        seed: what random choices were made from.
    """

    def __init__(self, scale: str, seed: int) -> None:
        self._scale = scale
        self._seed = seed
        self._rounds: dict[str, list[Sequence[Figure]]] = {}
        self._errors: dict[str, str] = {}

    def add(self, scenario: str, figures: Sequence[Figure]) -> None:
        """One round of a scenario is done."""
        self._rounds.setdefault(scenario, []).append(figures)

    def add_failure(self, scenario: str, text: str) -> None:
        """A scenario could not be brought to its end."""
        self._errors[scenario] = text

    @property
    def missed(self) -> bool:
        """Whether a limit was missed in any round, or a scenario failed."""
        every = (figure for rounds in self._rounds.values() for figures in rounds for figure in figures)
        return bool(self._errors) or any(figure.missed for figure in every)

    def table(self) -> str:
        """For people. Of several rounds: the median and, in brackets, the worst, which the verdict is about."""
        lines: list[tuple[str, ...]] = [HEADINGS]
        for scenario in self._scenarios():
            lines += [(f"[{scenario}]", "", "", "")]
            lines += [_row(median, worst) for median, worst in combine(self._rounds.get(scenario, []))]
            if scenario in self._errors:
                lines += [(self._errors[scenario].strip().splitlines()[-1], "", "", "failed")]
        widths = [max(len(line[column]) for line in lines) for column in range(3)]
        return "\n".join(
            "  ".join([*(cell.ljust(width) for cell, width in zip(line, widths, strict=False)), line[3]]).rstrip()
            for line in lines
        )

    def write(self, path: Path) -> None:
        """For programs: every round."""
        path.write_text(json.dumps(self._document(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    def _document(self) -> dict[str, Any]:
        return {
            "when": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "scale": self._scale,
            "seed": self._seed,
            "python": platform.python_version(),
            "system": f"{platform.system()} {platform.release()}",
            "processors": os.cpu_count(),
            "versions": {name: version(name) for name in PACKAGES},
            "missed": self.missed,
            "scenarios": {
                scenario: {
                    "rounds": [[_entry(one) for one in figures] for figures in self._rounds.get(scenario, [])],
                    "error": self._errors.get(scenario),
                }
                for scenario in self._scenarios()
            },
        }

    def _scenarios(self) -> list[str]:
        return sorted({*self._rounds, *self._errors})


def _row(median: Figure, worst: Figure) -> tuple[str, ...]:
    figure = show(median.value, median.unit)
    if worst.value != median.value:
        figure += f" ({show(worst.value)})"
    return f"  {median.what}", figure, worst.limit, worst.verdict


def _entry(figure: Figure) -> dict[str, Any]:
    return {**asdict(figure), "verdict": figure.verdict}
