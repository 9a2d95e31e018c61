"""Faults: what a proxy does to the bytes that pass through it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from peernet.errors import ConfigurationError


class Direction(Enum):
    """Which way bytes travel through a proxy."""

    UPSTREAM = "upstream"
    """From the side that has dialled to the proxy's target."""
    DOWNSTREAM = "downstream"
    """From the target to the side that has dialled."""


@dataclass(frozen=True)
class Faults:
    """What happens to the bytes of one direction. Nothing, unless it is said here. Immutable.

    Offsets are counted from the first byte of a connection's direction, beginning with 0.

    Attributes:
        latency: seconds that every byte takes longer; their order stays.
        jitter: up to so many seconds more, at random.
        bandwidth: bytes that pass per second; ``None`` for as many as come.
        dribble: one byte per write, with a pause of so many seconds; ``None`` for as many as come.
        stalled: nothing passes, and the end of the stream does not either: the connection is half-open.
        swallow_fin: the end of the stream, orderly or not, is not passed on.
        cut_at: the connection is reset when so many bytes have passed.
        flip_at: the offset of a byte of which one bit is flipped.
        flip_probability: with which each byte has one bit flipped.

    Raises:
        ConfigurationError: a value that cannot be.
    """

    latency: float = 0.0
    jitter: float = 0.0
    bandwidth: float | None = None
    dribble: float | None = None
    stalled: bool = False
    swallow_fin: bool = False
    cut_at: int | None = None
    flip_at: int | None = None
    flip_probability: float = 0.0

    def __post_init__(self) -> None:
        for name in ("latency", "jitter", "dribble", "cut_at", "flip_at"):
            value = getattr(self, name)
            if value is not None and not value >= 0:
                raise ConfigurationError(f"{name} must be at least 0, not {value!r}")
        if self.bandwidth is not None and not self.bandwidth > 0:
            raise ConfigurationError(
                f"bandwidth must be more than 0, not {self.bandwidth!r}; stalled lets nothing pass"
            )
        if not 0 <= self.flip_probability <= 1:
            raise ConfigurationError(f"flip_probability must be from 0 to 1, not {self.flip_probability!r}")
