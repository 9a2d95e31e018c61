"""Retry: what a failed dial means, and how long to wait before the next one.

Whoever dials more than once asks here: the dialler within one ``connect()``, the redialler for lost channels, the
durable outbox for peers with stored packets, and persistent peers. They differ in patience only: each goes on
up to another :class:`Outlook`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

from gevent.lock import BoundedSemaphore

from peernet.config import NetworkConfig
from peernet.errors import ConnectError, PeerNetError, RefusedByPeerError, RefusedByPolicyError, SelfConnectionError
from peernet.reasons import Reason
from peernet.runtime import rng

# Beyond so many doublings every pause is longer than any limit, and at last than a float can say.
MOST_DOUBLINGS = 32


class Outlook(IntEnum):
    """When another dial may succeed, from soon to never."""

    SOON = 1  # in seconds: the same ``connect()`` tries again, if it may
    LATER = 2  # in minutes: a lost channel is still worth a dial
    CHANGED = 3  # when somebody has changed a policy or a setting: whoever dials for ever goes on
    NEVER = 4


@dataclass(frozen=True)
class Verdict:
    """What a failed dial, or the end of a channel, means for whoever wants to have the peer.

    Attributes:
        outlook: when another dial may succeed.
        reason: why a channel ends that nobody dials for any more.
        retry_after: seconds that the peer has asked to wait; 0 if it has not.
    """

    outlook: Outlook
    reason: Reason
    retry_after: float = 0.0

    @property
    def may_pass(self) -> bool:
        """Whether the same attempt may succeed a little later."""
        return self.outlook is Outlook.SOON

    @property
    def final(self) -> bool:
        """Whether it will be the same as long as nobody changes a policy or a setting."""
        return self.outlook >= Outlook.CHANGED

    @property
    def hopeless(self) -> bool:
        """Whether nobody should dial again, whatever is changed."""
        return self.outlook is Outlook.NEVER


# What a peer says when it refuses; every other reason passes by itself.
REFUSALS = {
    Reason.BUSY: Outlook.SOON,
    Reason.BLOCKED: Outlook.CHANGED,
    Reason.NOT_ALLOWED: Outlook.CHANGED,
    Reason.REJECTED: Outlook.CHANGED,
    Reason.WRONG_NETWORK: Outlook.CHANGED,
    Reason.WRONG_VERSION: Outlook.CHANGED,
    Reason.BANNED: Outlook.CHANGED,
    Reason.SELF_CONNECTION: Outlook.NEVER,
}
# This node's own rules that pass by themselves; every other one is a policy.
PASSING_RULES = frozenset({Reason.DUPLICATE.value, Reason.SHUTDOWN.value})


class EndedChannel(Protocol):
    """How a channel has ended; see :class:`~peernet.channel.channel.PeerChannel`."""

    @property
    def reason(self) -> Reason | None: ...

    @property
    def ended_by_peer(self) -> bool: ...

    @property
    def retry_after(self) -> float: ...

    @property
    def do_not_redial(self) -> bool: ...


def judge(error: PeerNetError) -> Verdict:
    """What a failed dial means."""
    if isinstance(error, RefusedByPeerError):
        outlook = Outlook.NEVER if error.do_not_redial else REFUSALS.get(error.reason, Outlook.LATER)
        return Verdict(outlook, error.reason, error.retry_after)
    if isinstance(error, RefusedByPolicyError):
        reason = Reason.BLOCKED if error.rule.startswith("blocked") else Reason.NOT_ALLOWED
        return Verdict(Outlook.LATER if error.rule in PASSING_RULES else Outlook.CHANGED, reason)
    if isinstance(error, SelfConnectionError):
        return Verdict(Outlook.NEVER, Reason.SELF_CONNECTION)
    if type(error) is ConnectError:
        return Verdict(Outlook.SOON, Reason.SESSION_LOST)
    # What is left of connections: a timeout, or somebody else at the address. All else is a mistake of the caller.
    return Verdict(Outlook.LATER if isinstance(error, ConnectError) else Outlook.NEVER, Reason.SESSION_LOST)


def judge_end(channel: EndedChannel) -> Verdict:
    """What the end of a channel means for whoever wants to have the peer back."""
    closed_here = channel.reason is Reason.CLOSED and not channel.ended_by_peer
    outlook = Outlook.NEVER if closed_here or channel.do_not_redial else Outlook.LATER
    return Verdict(outlook, channel.reason or Reason.CONNECTION_LOST, channel.retry_after)


class Backoff:
    """The pauses between the dials of one peer, which grow with its failures.

    Args:
        config: the limits.

    Attributes:
        failures: how many there were since the peer was last connected for ``healthy_after`` seconds.
    """

    __slots__ = ("_config", "failures")

    def __init__(self, config: NetworkConfig) -> None:
        self._config = config
        self.failures = 0

    def fail(self) -> None:
        """Count a failed dial, or a connection that is gone."""
        self.failures += 1

    def connected_for(self, seconds: float) -> None:
        """Forget the failures if a connection was healthy for so long. The time that a failure takes is no health."""
        if seconds >= self._config.healthy_after:
            self.failures = 0

    def pause(self, asked: float = 0.0) -> float:
        """Seconds until the next dial: random (full jitter), from ``backoff_base`` to a length that doubles each time.

        Args:
            asked: seconds that the peer has asked to wait; it is never less.
        """
        return max(asked, rng.uniform(self._config.backoff_base, self._longest))

    def pause_of_lost(self, away: float) -> float:
        """The same for a peer whose connection was lost: it may be back at once.

        Args:
            away: seconds since the loss; a short absence is not made a long one.
        """
        return rng.uniform(0, min(self._longest, max(self._config.backoff_base, away)))

    @property
    def _longest(self) -> float:
        return min(self._config.backoff_cap, self._config.backoff_base * 2.0 ** min(self.failures, MOST_DOUBLINGS))


class DialTurns(BoundedSemaphore):
    """Turns to dial for which no caller waits: ``max_redials`` at once, whoever dials. Use it in ``with``.

    Args:
        config: the limits.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__(config.max_redials)
