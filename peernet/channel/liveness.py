"""Liveness: what the silence of a peer means, and when to break our own."""

from __future__ import annotations

import gevent

from peernet.channel.link import Link
from peernet.config import NetworkConfig
from peernet.reasons import Reason
from peernet.runtime.deadline import Deadline
from peernet.v1 import packet_pb2 as pb
from peernet.wire.packets import encode_envelope
from peernet.wire.session import Session

# A peer may promise heartbeats so rare that it counts as dead only after this many
# times our own limit; more would let it hide its death.
MAX_PATIENCE = 10
# The request that nobody waits for: it asks for any sign of life. The largest number that every language can
# hold in a number, and that questions counted from 1 never reach.
PROBE = 2**53 - 1
# A heartbeat leaves so many looks before the interval that the hello promises is over: one, because the next look
# would come too late, and a half for a process that is late itself.
LOOKS_EARLY = 1.5
# How often to look for a sign of life that was asked for. Seconds.
LOOK_EVERY = 0.02


class Liveness:
    """The judgement on the peer of one channel.

    Args:
        config: the limits.

    Attributes:
        promised: seconds after which the peer breaks its silence at the latest, as it says.
    """

    __slots__ = ("_config", "_full_at", "promised")

    def __init__(self, config: NetworkConfig) -> None:
        self._config = config
        self._full_at: tuple[int, float] | None = None  # what was acknowledged then
        self.promised = 0.0

    @property
    def patience(self) -> float:
        """Seconds of silence after which the peer counts as dead, at least twice what it promised to keep."""
        promised = min(self.promised, MAX_PATIENCE * self._config.dead_after)
        return max(self._config.dead_after, 2 * promised)

    def take_hello(self, hello: pb.HelloPacket) -> None:
        """Hold the peer to what it says."""
        self.promised = hello.heartbeat_interval_ms / 1000

    def examine(self, link: Link, session: Session | None, now: float) -> Reason | None:
        """Why a link must be given up now, if it must. Else sends a heartbeat when it is time for one."""
        link.look_for_news(now)
        if link.broken is not None:
            return Reason.CONNECTION_LOST
        full = self._full_for(session, now)
        if full > self._config.write_timeout and not link.silent_for(full, now):
            return Reason.SLOW_PEER  # it lives, and acknowledges nothing of what the session keeps for it
        if max(full, link.outbox.stalled_for) > self._config.write_timeout:
            return Reason.TIMEOUT  # of the connection: the session goes on with another one
        if now - link.last_received > self.patience and not link.crowded:
            return Reason.TIMEOUT
        if link.dribbles(now):
            return Reason.FRAME_TIMEOUT
        if self._is_time_to_speak(link, now):
            link.put_control(pb.HeartbeatPacket())
        return None

    def start_again(self) -> None:
        """The link has changed, and what was seen of the old one does not count."""
        self._full_at = None

    def _is_time_to_speak(self, link: Link, now: float) -> bool:
        quiet_for = now - link.outbox.last_progress
        return not link.outbox.bytes and (
            quiet_for >= self._config.heartbeat_interval - LOOKS_EARLY * self._config.tick_interval
            or (quiet_for >= self._config.write_timeout / 4 and link.behind(now))
        )

    def _full_for(self, session: Session | None, now: float) -> float:
        """Seconds in which as much as may be was kept, and nothing of it acknowledged."""
        if session is None or not session.full:
            self._full_at = None
            return 0.0
        if self._full_at is None or self._full_at[0] != session.acknowledged:
            self._full_at = (session.acknowledged, now)
        return now - self._full_at[1]


def shows_life(link: Link, timeout: float) -> bool:
    """Whether anything comes over a link within ``timeout`` seconds, if it is asked for an answer."""
    deadline = Deadline(timeout)
    # Bytes, and not the time when some came last, which moves by itself when this process was late.
    heard, unread = link.received_bytes, link.unread
    link.put_control(pb.HeartbeatPacket(), encode_envelope(request_id=PROBE))
    while link.alive and not deadline.expired:  # each turn waits, so the deadline comes nearer
        if link.received_bytes > heard or link.unread > unread:
            return True
        gevent.sleep(deadline.cap(LOOK_EVERY))
    return False
