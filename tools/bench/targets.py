"""The project's promises on speed and size, and whether the measured medians keep them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tools.bench.systems import BARE

# (scenario, metric, system) -> median, or None when there is none.
Medians = Callable[[str, str, str], "float | None"]


@dataclass(frozen=True)
class Target:
    """``system``'s figure against ``limit``, or against ``limit`` times the figure of ``against``."""

    what: str
    scenario: str
    metric: str
    system: str
    limit: float
    at_least: bool
    against: str | None = None

    def judge(self, median: Medians) -> dict[str, Any]:
        measured = median(self.scenario, self.metric, self.system)
        base = median(self.scenario, self.metric, self.against) if self.against else 1.0
        ratio = measured / base if measured is not None and base else None
        return {
            "what": self.what,
            "target": self._wording(),
            "measured": measured,
            "baseline": base if self.against else None,
            "ratio": ratio if self.against else None,
            "verdict": "not measured" if ratio is None else "met" if self._kept(ratio) else "missed",
        }

    def _kept(self, value: float) -> bool:
        return value >= self.limit if self.at_least else value <= self.limit

    def _wording(self) -> str:
        sign = ">=" if self.at_least else "<="
        return f"{sign} {self.limit:g} x {self.against}" if self.against else f"{sign} {self.limit:g}"


TARGETS = (
    Target("round trip, callback answers, CPU", "rtt", "cpu", "peernet-tls", 0.9, False, BARE),
    Target("round trip, caller waits, CPU", "rtt", "cpu", "peernet-tls-wait", 1.05, False, BARE),
    Target("small messages, TLS, CPU", "small", "cpu", "peernet-tls", 1.5, False, BARE),
    Target("small messages, TLS, rate", "small", "rate", "peernet-tls", 1.0, True, "pyzmq"),
    Target("small messages, TLS, rate", "small", "rate", "peernet-tls", 15.0, True, "grpcio"),
    Target("small messages, with sessions, rate", "small", "rate", "peernet-tls", 0.92, True, "peernet-tls-unsure"),
    Target("bulk, TLS, CPU", "bulk", "cpu", "peernet-tls", 1.05, False, BARE),
    Target("bulk, plain TCP, CPU", "bulk", "cpu", "peernet-plain", 1.2, False, "gevent"),
    Target("idle TLS channel, KiB", "idle", "channel", "peernet-tls", 40.0, False),
    Target("idle TLS channel, X25519, KiB", "idle", "channel", "peernet-tls-x25519", 35.0, False),
    Target("broadcast, last of 500 callbacks, ms", "broadcast", "last", "peernet-tls", 20.0, False),
    Target("peernet-node --version, s", "startup", "wall", "peernet-node", 0.35, False),
)


def judge_all(median: Medians) -> list[dict[str, Any]]:
    return [target.judge(median) for target in TARGETS]


# What peernet may take in instructions on both sides, in parts of the bare echo's (instructions.py). A ratchet: what
# the code reaches today plus 2 %, while runs differ by half a percent; whoever makes it faster lowers it. By CPython,
# since the share of the interpreter is larger in peernet than in the echo; a newer one has the limits of the newest.
# One way, builds with other compiler options differ by 2 %: the dearer one counts.
LIMITS_BY_PYTHON = {
    (3, 10): {"small": 2.31, "rtt": 1.59},
    (3, 11): {"small": 1.9, "rtt": 0.94},
    (3, 12): {"small": 1.9, "rtt": 1.31},
}
INSTRUCTION_LIMITS = LIMITS_BY_PYTHON.get(sys.version_info[:2], LIMITS_BY_PYTHON[3, 12])


def judge_instructions(ratios: Mapping[str, float]) -> list[str]:
    """One sentence for each ratio above its limit."""
    return [
        f"{scenario}: {ratio:.3f} x bare is more than the limit of {INSTRUCTION_LIMITS[scenario]:g}"
        for scenario, ratio in ratios.items()
        if not ratio <= INSTRUCTION_LIMITS[scenario]
    ]
