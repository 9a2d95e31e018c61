"""The project's promises on speed and size, and whether the measured medians keep them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

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
    Target("small messages, TLS", "small", "rate", "peernet-tls", 1.0, True, "pyzmq"),
    Target("small messages, TLS", "small", "rate", "peernet-tls", 15.0, True, "grpcio"),
    Target("small messages, with sessions", "small", "rate", "peernet-tls", 0.85, True, "peernet-tls-unsure"),
    Target("round trip p50, callback answers", "rtt", "p50", "peernet-tls", 1.5, False, "gevent-pyopenssl"),
    Target("round trip p50, caller waits", "rtt", "p50", "peernet-tls-wait", 1.5, False, "gevent-pyopenssl"),
    Target("bulk, TLS", "bulk", "throughput", "peernet-tls", 0.7, True, "pyopenssl"),
    Target("bulk, plain TCP", "bulk", "throughput", "peernet-plain", 0.5, True, "sockets"),
    Target("idle TLS channel, KiB", "idle", "channel", "peernet-tls", 45.0, False),
    Target("broadcast, last of 500 callbacks, ms", "broadcast", "last", "peernet-tls", 60.0, False),
    Target("peernet-node --version, s", "startup", "wall", "peernet-node", 0.35, False),
)


def judge_all(median: Medians) -> list[dict[str, Any]]:
    return [target.judge(median) for target in TARGETS]
