"""Redialler: brings the peers back whose connections are lost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from gevent.event import Event as Flag
from gevent.lock import BoundedSemaphore

from peernet.channel.channel import PeerChannel
from peernet.channel.state import ChannelState
from peernet.config import NetworkConfig
from peernet.connections.dial_history import DialHistory
from peernet.connections.retry import backoff_while_away, judge
from peernet.errors import PeerNetError
from peernet.peers.address import PeerAddress
from peernet.runtime import clock
from peernet.runtime.greenlets import OwnedGroup, spawn
from peernet.runtime.logs import get_logger

logger = get_logger(__name__)

# One peer that is back speaks for the network, and not for the others: it makes them be
# dialled at most this often. Seconds.
HURRY_EVERY = 10.0


class _Pause:
    """The time until a dial, which somebody else may shorten or end."""

    def __init__(self) -> None:
        self._changed = Flag()
        self._ends = 0.0
        self.over = False

    def last_until(self, moment: float) -> bool:
        """Wait. Returns whether to dial; not if :meth:`end` was called."""
        self._ends = moment
        # Never less: one wait in a busy loop ends early by the time that its round has taken.
        while not self.over and (left := self._ends - clock.monotonic()) > 0:
            self._changed.clear()
            self._changed.wait(left)
        return not self.over

    def shorten(self, moment: float) -> None:
        """Let it last no longer than until then."""
        self._ends = min(self._ends, moment)
        self._changed.set()

    def end(self) -> None:
        """There is nothing to dial for any more."""
        self.over = True
        self._changed.set()


@dataclass
class _Record:
    """What happened to the dials of one channel.

    ``not_before`` is the moment that the peer has asked to wait for.
    """

    dialled_at: float = float("-inf")
    not_before: float = float("-inf")
    pause: _Pause = field(default_factory=_Pause)


class Redialler:
    """Dials again for the channels that this side has dialled.

    The first attempt comes after a random moment, so that a hub that was restarted is not
    stormed. The pauses after failures are random up to a length that doubles each time,
    and that is forgotten only when a connection has been healthy for a while; but none is
    longer than the peer has been away, so that a short absence is not made a long one. When
    one peer is back, the others are dialled soon, because it may have been the network.

    Args:
        config: the limits.
        dial: makes a connection to an address in so many seconds, and hands it to its channel.
        turns: bounds how many are dialled at once, by whoever dials on its own.
        history: all dials of the network: failures outlive a channel, and those of others count as well.

    Attributes:
        greenlets: one for each channel whose peer is being brought back.
    """

    def __init__(
        self,
        config: NetworkConfig,
        dial: Callable[[PeerAddress, float], object],
        turns: BoundedSemaphore,
        history: DialHistory,
    ) -> None:
        self._config = config
        self._dial = dial
        self._turns = turns
        self._history = history
        self._records: dict[PeerChannel, _Record] = {}
        self._hurried_at = float("-inf")
        self.greenlets = OwnedGroup()
        self._stopped = True

    def __contains__(self, channel: object) -> bool:
        """Whether something is remembered of a channel."""
        return channel in self._records

    def start(self) -> None:
        """Dial from now on."""
        self._stopped = False

    def restore(self, channel: PeerChannel) -> None:
        """Dial until a channel that is reconnecting is open again, or has ended. Ignores those of the other side."""
        if channel.dialled and not self._stopped:
            record = self._records.setdefault(channel, _Record())
            record.pause.end()  # if it was lost before, and has come back by itself
            record.pause = pause = _Pause()
            self.greenlets.add(spawn(f"redial {channel.peer.identifier[:8]}", self._redial, channel, record, pause))

    def forget(self, channel: PeerChannel) -> None:
        """A channel has ended."""
        record = self._records.pop(channel, None)
        if record is not None:
            record.pause.end()

    def stop(self) -> None:
        """Dial no more, whatever is lost from now on."""
        self._stopped = True
        self.greenlets.kill()
        self._records.clear()

    def _redial(self, channel: PeerChannel, record: _Record, pause: _Pause) -> None:
        where = (channel.peer.address, channel.peer.port)
        lost_at = clock.monotonic()
        counted = min(1, self._history.failures(where))  # the dial of the connection that is lost, if that has not held

        def next_pause() -> float:
            failures = max(0, self._history.failures(where) - counted)
            return backoff_while_away(self._config, failures, clock.monotonic() - lost_at)

        length = next_pause()
        while pause.last_until(self._moment_after(length, channel, record)):
            with self._turns:
                if pause.over or channel.state is not ChannelState.RECONNECTING:
                    return None
                record.dialled_at = clock.monotonic()
                error = self._attempt(channel)
            if error is None:
                return self._hurry()
            if channel.state is not ChannelState.RECONNECTING:
                return None
            judgement = judge(error)
            if judgement.ends_session is not None:
                return channel.close(judgement.ends_session, str(error))
            record.not_before = clock.monotonic() + judgement.retry_after
            length = next_pause()
        return None

    def _hurry(self) -> None:
        """Somebody is back, so let nobody else wait for long; not too often, because it may be gone again."""
        now = clock.monotonic()
        if now - self._hurried_at < HURRY_EVERY:
            return
        self._hurried_at = now
        for channel, record in self._records.items():
            if channel.state is ChannelState.RECONNECTING:
                record.pause.shorten(self._moment_after(self._soon(), channel, record))

    def _soon(self) -> float:
        """A pause before which nothing has failed: those who are dialled at the same time are spread."""
        return backoff_while_away(self._config, failures=0, away=0.0)

    def _moment_after(self, pause: float, channel: PeerChannel, record: _Record) -> float:
        """When to dial: late enough after the last connection, whoever made it: a new channel has no record of it."""
        now, peer = clock.monotonic(), channel.peer
        last = max(record.dialled_at, channel.connected_at)
        turn = now + self._history.time_left((peer.address, peer.port), now)
        return max(now + pause, last + self._config.redial_interval, record.not_before, turn)

    def _attempt(self, channel: PeerChannel) -> PeerNetError | None:
        """Dial once. Returns what went wrong."""
        peer = channel.peer
        try:
            self._dial(PeerAddress(peer.address, peer.port, peer.identifier), self._config.connect_timeout)
        except PeerNetError as error:
            logger.info("%s is not back: %s", peer.identifier[:8], error)
            return error
        return None
