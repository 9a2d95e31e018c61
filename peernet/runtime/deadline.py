"""One time budget that several waits share."""

from __future__ import annotations

from peernet.runtime import clock


class Deadline:
    """A point on the monotonic clock, or never.

    Args:
        timeout: seconds from now; ``None`` means never.
    """

    __slots__ = ("_at",)

    def __init__(self, timeout: float | None) -> None:
        self._at = None if timeout is None else clock.monotonic() + timeout

    @property
    def remaining(self) -> float | None:
        """Seconds left, never negative; ``None`` if the deadline is never."""
        return None if self._at is None else max(0.0, self._at - clock.monotonic())

    @property
    def expired(self) -> bool:
        """Whether the time is up."""
        return self._at is not None and clock.monotonic() >= self._at

    def cap(self, seconds: float) -> float:
        """``seconds``, or what is left of the budget if that is less."""
        remaining = self.remaining
        return seconds if remaining is None else min(seconds, remaining)
