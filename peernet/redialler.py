"""Redialler: brings the peers back whose connections are lost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from gevent.event import Event as Flag
from gevent.lock import BoundedSemaphore
from gevent.pool import Group

from peernet import chance, clock
from peernet.address import PeerAddress
from peernet.channel import PeerChannel
from peernet.channel_state import ChannelState
from peernet.config import NetworkConfig
from peernet.errors import ConnectError, PeerNetError, RefusedByPeerError, RefusedByPolicyError, SelfConnectionError
from peernet.greenlets import spawn
from peernet.logs import get_logger
from peernet.reasons import Reason

logger = get_logger(__name__)

# Refusals that will be the same next time.
FINAL = frozenset(
    {
        Reason.BLOCKED,
        Reason.NOT_ALLOWED,
        Reason.REJECTED,
        Reason.WRONG_NETWORK,
        Reason.WRONG_VERSION,
        Reason.SELF_CONNECTION,
        Reason.BANNED,
    }
)


@dataclass
class _Record:
    """What happened to the dials of one channel.

    ``over`` tells the greenlet that redials it now that it is not needed any more.
    """

    dialled_at: float = float("-inf")
    failures: int = 0
    over: Flag = field(default_factory=Flag)


class Redialler:
    """Dials again for the channels that this side has dialled.

    The first attempt comes after a random moment, so that a hub that was restarted is not
    stormed. The pauses after failures are random up to a length that doubles each time,
    and that is forgotten only when a connection has been healthy for a while; but none is
    longer than the peer has been away, so that a short absence is not made a long one.

    Args:
        config: the limits.
        dial: makes a connection to an address in so many seconds, and hands it to its channel.
    """

    def __init__(self, config: NetworkConfig, dial: Callable[[PeerAddress, float], object]) -> None:
        self._config = config
        self._dial = dial
        self._records: dict[PeerChannel, _Record] = {}
        self._turns = BoundedSemaphore(config.max_redials)
        self._greenlets = Group()

    def restore(self, channel: PeerChannel) -> None:
        """Dial until a channel that is reconnecting is open again, or has ended. Ignores those of the other side."""
        if channel.dialled:
            record = self._records.setdefault(channel, _Record())
            record.over.set()  # if it was lost before, and has come back by itself
            record.over = Flag()
            self._greenlets.add(
                spawn(f"redial {channel.peer.identifier[:8]}", self._redial, channel, record, record.over)
            )

    def forget(self, channel: PeerChannel) -> None:
        """A channel has ended."""
        record = self._records.pop(channel, None)
        if record is not None:
            record.over.set()

    def stop(self) -> None:
        """Dial no more."""
        self._greenlets.kill()
        self._records.clear()

    def _redial(self, channel: PeerChannel, record: _Record, over: Flag) -> None:
        lost_at = clock.monotonic()
        if lost_at - channel.connected_at >= self._config.healthy_after:
            record.failures = 0
        pause = chance.uniform(0, self._config.backoff_base)
        while not _is_set_until(over, self._moment_after(pause, channel, record)):
            with self._turns:
                if over.is_set() or channel.state is not ChannelState.RECONNECTING:
                    return None
                record.dialled_at = clock.monotonic()
                error = self._attempt(channel)
            if error is None or channel.state is not ChannelState.RECONNECTING:
                return None
            reason = _final(error)
            if reason is not None:
                return channel.end(reason, str(error))
            record.failures += 1
            pause = self._pause(record.failures, clock.monotonic() - lost_at, error)
        return None

    def _moment_after(self, pause: float, channel: PeerChannel, record: _Record) -> float:
        """When to dial: late enough after the last connection, whoever made it: a new channel has no record of it."""
        last = max(record.dialled_at, channel.connected_at)
        return max(clock.monotonic() + pause, last + self._config.redial_interval)

    def _attempt(self, channel: PeerChannel) -> PeerNetError | None:
        """Dial once. Returns what went wrong."""
        peer = channel.peer
        try:
            self._dial(PeerAddress(peer.address, peer.port, peer.identifier), self._config.connect_timeout)
        except PeerNetError as error:
            logger.info("= %s is not back: %s", peer.identifier[:8], error)
            return error
        return None

    def _pause(self, failures: int, away: float, error: PeerNetError) -> float:
        config = self._config
        longest = min(
            config.backoff_cap, config.backoff_base * 2.0 ** min(failures, 30), max(config.backoff_base, away)
        )
        asked = error.retry_after if isinstance(error, RefusedByPeerError) else 0.0
        return max(asked, chance.uniform(0, longest))


def _is_set_until(flag: Flag, moment: float) -> bool:
    """Wait until ``moment``, or until the flag is set. Returns whether it is."""
    # Never less: one wait in a busy loop ends early by the time that its round has taken.
    while not flag.is_set() and (left := moment - clock.monotonic()) > 0:
        flag.wait(left)
    return bool(flag.is_set())


def _final(error: PeerNetError) -> Reason | None:
    """With which reason to give up after an error; ``None`` if the next attempt may succeed."""
    if isinstance(error, RefusedByPeerError):
        return error.reason if error.reason in FINAL or error.do_not_redial else None
    if isinstance(error, RefusedByPolicyError) and error.rule not in (Reason.DUPLICATE, Reason.SHUTDOWN):
        return Reason.BLOCKED if error.rule.startswith("blocked") else Reason.NOT_ALLOWED
    if isinstance(error, SelfConnectionError):
        return Reason.SELF_CONNECTION
    return None if isinstance(error, ConnectError) else Reason.SESSION_LOST
