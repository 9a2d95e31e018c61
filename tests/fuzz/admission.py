"""Admission and token buckets: whoever comes and goes when, each gets what docs/protocol.rst and the limits promise.

Input: a byte that chooses limits, then two bytes for each step: who and when, and what.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from peernet.config import NetworkConfig
from peernet.connections.slots import ACCEPT_RATE, ADDRESS_LIMIT, EARLY_DROP, TOO_MANY_STRANGERS, HandshakeSlots, Slot
from peernet.runtime.token_bucket import TokenBucket

MAX_STEPS = 200

# Hosts, and who they count for.
HOSTS = (
    ("192.0.2.1", "one"),
    ("::ffff:192.0.2.1", "one"),
    ("192.0.2.2", "two"),
    ("2001:db8::1", "site"),
    ("2001:db8:0:ff::9", "site"),
    ("2001:db8:0:100::1", "other site"),
    ("127.0.0.1", "local"),
    ("::1", "local six"),
)
# Powers of two, so that floating point does not round.
SECONDS = (0.0, 0.0, 0.0, 0.125, 0.5, 1.0, 4.0, 1024.0)
LIMITS: tuple[dict[str, Any], ...] = (
    {"max_handshakes": 4, "early_drop_from": 2, "max_handshakes_per_address": 2, "accept_rate": 1.0, "accept_burst": 3},
    {"max_handshakes": 1, "early_drop_from": 5, "max_handshakes_per_address": 4, "accept_rate": 4.0, "accept_burst": 1},
    {"max_handshakes": 6, "early_drop_from": 1, "max_handshakes_per_address": 3, "accept_rate": 0.5, "accept_burst": 9},
    {"max_handshakes": 3, "early_drop_from": 3, "max_handshakes_per_address": 9, "accept_rate": 2.0, "accept_burst": 2},
)
CONFIGS = [
    NetworkConfig(**limits, handshake_grace=0.5, max_accept_sources=sources, allow_loopback_burst=exempt)
    for limits in LIMITS
    for sources in (2, 4096)
    for exempt in (False, True)
]


@dataclass
class Schedule:
    """A rate with a burst, told as a time and not as tokens: when the source would have come if it kept to the rate.

    This is the generic cell rate algorithm (ITU-T I.371).
    """

    rate: float
    burst: int
    due: float

    def take(self, now: float) -> bool:
        due = max(self.due, now)
        if due - now > (self.burst - 1) / self.rate:
            return False
        self.due = due + 1 / self.rate
        return True

    def spend(self, now: float, count: int) -> float:
        self.due = max(self.due, now) + count / self.rate
        return max(0.0, self.due - now - self.burst / self.rate)


@dataclass
class Door:
    """The same door, kept as plain lists."""

    config: NetworkConfig
    inside: list[tuple[Slot, str, float]] = field(default_factory=list)  # oldest first
    schedules: list[tuple[str, Schedule]] = field(default_factory=list)  # the source seen last at the end

    def refuses(self, host: str, source: str, now: float) -> str:
        """Why a source may not come now, whoever else is there."""
        if self.config.allow_loopback_burst and source.startswith("local"):
            return ""
        if not self.schedule(source, now).take(now):
            return ACCEPT_RATE
        there = sum(source == other for _, other, _ in self.inside)
        return ADDRESS_LIMIT if there >= self.config.max_handshakes_per_address else ""

    def schedule(self, source: str, now: float) -> Schedule:
        known = [one for name, one in self.schedules if name == source]
        one = known[0] if known else Schedule(self.config.accept_rate, self.config.accept_burst, now)
        self.schedules = [entry for entry in self.schedules if entry[0] != source] + [(source, one)]
        self.schedules = self.schedules[-self.config.max_accept_sources :]
        return one

    def has_bad_luck(self, chance: float) -> bool:
        """Whether a newcomer finds no free place: from none at ``early_drop_from`` to all when it is full."""
        full = self.config.max_handshakes
        begin = min(self.config.early_drop_from, full)
        return chance * (full - begin + 1) < len(self.inside) - begin + 1

    def is_full(self) -> bool:
        return len(self.inside) >= self.config.max_handshakes


class Bench:
    """A door, and the model of it beside."""

    def __init__(self, config: NetworkConfig) -> None:
        self.config = config
        self.admission = HandshakeSlots(config)
        self.door = Door(config)
        self.gone: list[Slot] = []
        self.now = 0.0
        self.bucket = TokenBucket(config.accept_rate, config.accept_burst, 0.0)
        self.plan = Schedule(config.accept_rate, config.accept_burst, 0.0)

    def admit(self, host: str, source: str, chance: float) -> None:
        verdict = self.admission.take(host, self.now, chance)
        refused, oldest = self.door.refuses(host, source, self.now), None
        if not refused and self.door.has_bad_luck(chance):
            oldest = next((place for place, _, since in self.door.inside if self.now - since >= 0.5), None)
            if oldest is None:
                refused = TOO_MANY_STRANGERS if self.door.is_full() else EARLY_DROP
        assert (verdict.refused, verdict.gives_way) == (refused, oldest)
        assert (verdict.slot is None) is bool(refused)
        if oldest is not None:
            assert oldest.gave_way
            self.forget(oldest)
        if verdict.slot is not None:
            self.door.inside.append((verdict.slot, source, self.now))

    def leave(self, number: int) -> None:
        if self.door.inside:
            place = self.door.inside[number % len(self.door.inside)][0]
            self.admission.free(place)
            self.forget(place)

    def leave_again(self, number: int) -> None:
        if self.gone:
            self.admission.free(self.gone[number % len(self.gone)])

    def forget(self, place: Slot) -> None:
        self.door.inside = [entry for entry in self.door.inside if entry[0] is not place]
        self.gone.append(place)

    def check(self) -> None:
        sources = [source for _, source, _ in self.door.inside]
        assert len(self.admission) == len(sources) <= self.config.max_handshakes
        assert sorted(self.admission.by_source.values()) == sorted(map(sources.count, set(sources)))
        assert len(self.admission.rates) == len(self.door.schedules) <= self.config.max_accept_sources
        assert 0 <= self.admission.drop_probability() <= 1


def fuzz(data: bytes) -> None:
    if not data:
        return
    bench = Bench(CONFIGS[data[0] % len(CONFIGS)])
    for one, two in list(pairwise(data[1:]))[: 2 * MAX_STEPS : 2]:
        step(bench, one, two)
        bench.check()


def step(bench: Bench, one: int, two: int) -> None:
    bench.now += SECONDS[one >> 3 & 7]
    action, number = one >> 6, two
    if action <= 1:
        bench.admit(*HOSTS[one & 7], number / 256)
    elif action == 2:
        (bench.leave_again if one & 1 else bench.leave)(number)
    elif one & 1:
        assert bench.bucket.take(bench.now) is bench.plan.take(bench.now)
    else:
        assert bench.bucket.spend(bench.now, number) == bench.plan.spend(bench.now, number)
