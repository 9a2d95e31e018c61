"""The scenarios: what is measured, in which unit, for how long."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

SMALL_BYTES = 50
BULK_BYTES = 256 * 1024

Result = dict[str, Any]


@dataclass(frozen=True)
class Metric:
    name: str
    unit: str
    digits: int
    higher_is_better: bool
    of: Callable[[Result], float]
    spread: bool = True  # whether the smallest and the largest are shown


@dataclass(frozen=True)
class Scenario:
    name: str
    title: str
    metrics: tuple[Metric, ...]
    params: dict[str, Any]
    quick: dict[str, Any]
    # How long a pair may take before it is ended and reported as failed.
    timeout: float
    rounds: int = 5
    quick_rounds: int = 3
    # Whom the others are compared with, and who takes part if not the registered systems.
    reference: str = "peernet-tls"
    # How many messages with results a pair sends: where one side cannot know the other's CPU time, each tells its own.
    results: int = 1
    systems: tuple[str, ...] = ()


def _field(name: str) -> Callable[[Result], float]:
    return lambda result: float(result[name])


def _rate(result: Result) -> float:
    return float(result["count"] / result["seconds"])


def _megabytes(result: Result) -> float:
    return float(result["count"] * BULK_BYTES / 1e6 / result["seconds"])


def _cpu(result: Result) -> float:
    return float(result["listen_cpu_us"] + result["dial_cpu_us"])


# User and system, of all threads of each process, per message or round trip.
CPU = (
    Metric("listening", "CPU us", 2, False, _field("listen_cpu_us"), spread=False),
    Metric("dialling", "CPU us", 2, False, _field("dial_cpu_us"), spread=False),
    Metric("cpu", "CPU us", 2, False, _cpu),
)


def _broadcast(result: Result) -> float:
    return float(median(result["ms"]))


_ALL = (
    Scenario(
        "small",
        "one way, 50-byte text messages: parsed and counted by the receiver's callback",
        (Metric("rate", "msgs/s", 0, True, _rate), *CPU),
        {"warmup": 0.3, "seconds": 1.0},
        {"warmup": 0.2, "seconds": 0.4},
        timeout=30,
        results=2,
    ),
    Scenario(
        "rtt",
        "round trip of one 50-byte text message, parsed and built anew on both sides",
        (
            Metric("p50", "us", 1, False, _field("p50_us")),
            Metric("p99", "us", 1, False, _field("p99_us")),
            *CPU,
        ),
        {"warmup": 0.2, "seconds": 0.8},
        {"warmup": 0.1, "seconds": 0.3},
        timeout=20,
    ),
    Scenario(
        "bulk",
        "one way, 256 KiB data_transmission packets: parsed and read by the receiver's callback",
        (Metric("throughput", "MB/s", 0, True, _megabytes), *CPU),
        {"warmup": 0.2, "seconds": 0.8},
        {"warmup": 0.1, "seconds": 0.3},
        timeout=30,
        results=2,
    ),
    Scenario(
        "idle",
        "resident memory of a node for each idle channel",
        (
            Metric("channel", "KiB", 1, False, _field("kib_per_channel")),
            Metric("node", "MiB", 0, False, _field("rss_mib")),
        ),
        {"channels": 2000},
        {"channels": 500},
        timeout=90,
        quick_rounds=1,
    ),
    Scenario(
        "broadcast",
        "one message to 500 channels, until the last of 500 callbacks ran in the clients' process",
        (Metric("last", "ms", 1, False, _broadcast),),
        {"channels": 500, "broadcasts": 7},
        {"channels": 500, "broadcasts": 5},
        timeout=60,
        quick_rounds=1,
    ),
    Scenario(
        "startup",
        "peernet-node --version, from start to end of the process",
        (Metric("wall", "s", 3, False, _field("seconds")),),
        {},
        {},
        timeout=30,
        rounds=11,
        quick_rounds=5,
        reference="peernet-node",
        systems=("peernet-node", "python"),
    ),
)

SCENARIOS = {scenario.name: scenario for scenario in _ALL}
