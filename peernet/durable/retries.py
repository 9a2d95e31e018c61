"""Retries: when the packets whose callback has failed at the peer are sent again."""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass

from peernet.config import NetworkConfig
from peernet.connections.retry import backoff_of_packet
from peernet.durable.packet import Setback
from peernet.runtime import clock


@dataclass(frozen=True)
class Retry:
    """A packet that is out of the row.

    Attributes:
        attempts: how often its callback has failed.
        due: when it is sent again, in seconds of :data:`~peernet.runtime.clock.monotonic`.
    """

    attempts: int
    due: float


class Retries:
    """The packets that are out of the row and not set aside, by their peers.

    A packet stays here while it is under way, so that it is due at once if its channel ends first.

    Args:
        config: the limits.
    """

    def __init__(self, config: NetworkConfig) -> None:
        self._config = config
        self._peers: dict[str, dict[int, Retry]] = {}

    def restore(self, found: Iterable[tuple[str, int, int, float]], now: float) -> None:
        """Go on with what another process has left, which may have had another idea of the time.

        Args:
            found: what :meth:`~peernet.durable.store.DurableStore.failing` returns.
            now: Unix seconds.
        """
        for peer, number, attempts, retry_at in found:
            pause = min(max(0.0, retry_at - now), self._config.durable_backoff_cap)
            self.add(peer, number, attempts, pause)

    def judge(self, peer: str, number: int) -> Setback:
        """What becomes of a packet whose callback has failed once more."""
        known = self._peers.get(peer, {}).get(number)
        before = known.attempts if known is not None else 0
        last = before + 1 >= self._config.durable_attempts
        return Setback(number, before + 1, None if last else backoff_of_packet(self._config, before))

    def add(self, peer: str, number: int, attempts: int, pause: float) -> None:
        """Have a packet sent again after a pause in seconds."""
        self._peers.setdefault(peer, {})[number] = Retry(attempts, clock.monotonic() + pause)

    def discard(self, peer: str, numbers: Iterable[int]) -> None:
        """Packets are not to be sent again; those that are not here are no error."""
        retries = self._peers.get(peer, {})
        for number in numbers:
            retries.pop(number, None)
        if not retries:
            self._peers.pop(peer, None)

    def due(self, peer: str, flying: Container[int]) -> list[int]:
        """The packets for a peer whose time has come and that are not under way, in order."""
        retries = self._peers.get(peer)
        if not retries:
            return []
        now = clock.monotonic()
        return sorted(number for number, retry in retries.items() if retry.due <= now and number not in flying)

    def pause(self, peer: str, flying: Container[int]) -> float | None:
        """Seconds until the next packet for a peer is due; ``None`` if none is waiting for that."""
        dues = [retry.due for number, retry in self._peers.get(peer, {}).items() if number not in flying]
        return max(0.0, min(dues) - clock.monotonic()) if dues else None
