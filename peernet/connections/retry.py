"""Retry: what a failed dial means, and how long to wait before the next one. All who dial more than once ask here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from peernet.config import NetworkConfig
from peernet.errors import ConnectError, PeerNetError, RefusedByPeerError, RefusedByPolicyError, SelfConnectionError
from peernet.peers.peer import GenericPeer
from peernet.reasons import Reason
from peernet.runtime import rng
from peernet.wire.disconnect import OUTCOMES, Outcome, Phase, outcome

# With these a peer refuses the next dial of a session as well; only somebody's decision changes that.
FINAL = frozenset(reason for reason in OUTCOMES if outcome(reason, Phase.REDIAL) is Outcome.END)
# Our own rules that say that another connection is there, or that this node is going. All others are decisions.
PASSING_RULES = frozenset({Reason.DUPLICATE, Reason.SHUTDOWN})
# With these this side ends a channel because it is told to, and not because of the peer.
OWN_WISHES = frozenset({Reason.CLOSED, Reason.SHUTDOWN})
# What a peer is told whose admission was decided about, and who was not let in.
NOT_LET_IN = frozenset({Reason.REJECTED, Reason.DECISION_TIMEOUT})

# Of those who lose a hub for some seconds, less than a quarter are back within the same second; with 4, a half.
SPREAD = 10.0


@dataclass(frozen=True)
class Judgement:
    """What a failed dial means.

    Attributes:
        passes_soon: whether the same attempt may succeed a moment later, for whoever waits in ``connect()``.
        ends_session: with which reason a session that waits for a connection ends; ``None`` if it goes on waiting.
        hopeless: whether no dial to this address makes sense, until somebody asks for it again.
        retry_after: the seconds that the peer asks to be left alone.
        nobody_listens: whether the system there says that nobody listens at this address.
    """

    passes_soon: bool = False
    ends_session: Reason | None = None
    hopeless: bool = False
    retry_after: float = 0.0
    nobody_listens: bool = False


def judge(error: PeerNetError) -> Judgement:
    """What a failed dial means.

    Somebody who is refused may be let in later: an operator unblocks, a rule changes. A session does not wait for
    that, because its packets would; whoever wants the peer for ever does.
    """
    if isinstance(error, RefusedByPeerError):
        return _judge_refusal(error)
    if isinstance(error, SelfConnectionError):
        return Judgement(ends_session=Reason.SELF_CONNECTION, hopeless=True)
    if isinstance(error, RefusedByPolicyError) and error.rule not in PASSING_RULES:
        blocked = error.rule.startswith("blocked")
        return Judgement(ends_session=Reason.BLOCKED if blocked else Reason.NOT_ALLOWED)
    if not isinstance(error, ConnectError):  # not a failed dial at all: the address, or this program, is wrong
        return Judgement(ends_session=Reason.SESSION_LOST, hopeless=True)
    nobody_listens = isinstance(error.__cause__, ConnectionRefusedError)
    return Judgement(passes_soon=type(error) is ConnectError, nobody_listens=nobody_listens)


def _judge_refusal(error: RefusedByPeerError) -> Judgement:
    at_first, for_a_session = (
        outcome(error.reason, phase, do_not_redial=error.do_not_redial) for phase in (Phase.HANDSHAKE, Phase.REDIAL)
    )
    return Judgement(
        passes_soon=at_first is Outcome.REDIAL,
        ends_session=error.reason if for_a_session is Outcome.END else None,
        hopeless=error.do_not_redial or error.reason == Reason.SELF_CONNECTION,
        retry_after=error.retry_after,
    )


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


def judge_end(channel: EndedChannel) -> Judgement:
    """What the end of a channel means for whoever wants to have the peer back."""
    closed_here = channel.reason is Reason.CLOSED and not channel.ended_by_peer
    return Judgement(hopeless=closed_here or channel.do_not_redial, retry_after=channel.retry_after)


class EndedConnection(EndedChannel, Protocol):
    """How the last connection of a channel has ended; see :class:`~peernet.channel.channel.PeerChannel`."""

    @property
    def dialled(self) -> bool: ...

    @property
    def peer(self) -> GenericPeer: ...

    @property
    def connected_at(self) -> float: ...

    @property
    def last_received(self) -> float: ...

    @property
    def progressed(self) -> bool: ...


def has_held(connection: EndedConnection, config: NetworkConfig) -> bool:
    """Whether a connection that is over was of use, so that earlier failures to have it count no more.

    It was if packets got through, if it worked for ``healthy_after``, or if this side itself has ended it. It worked up
    to the last sign of life: the channel may have been reconnecting in vain since. A peer that was held and then not
    let in has not worked at all, however long it was held.
    """
    if connection.reason in OWN_WISHES and not connection.ended_by_peer:
        return True
    if connection.ended_by_peer and connection.reason in NOT_LET_IN:
        return False
    return connection.progressed or connection.last_received - connection.connected_at >= config.healthy_after


def backoff(config: NetworkConfig, failures: int, asked: float = 0.0) -> float:
    """How long to wait after so many failures before the one just seen, in seconds.

    Random up to a limit that doubles each time (full jitter), never less than ``backoff_base``, and never less than
    the peer has ``asked`` for.
    """
    return max(asked, rng.uniform(config.backoff_base, _doubled(config, failures + 1, config.backoff_cap)))


def backoff_of_packet(config: NetworkConfig, failures: int) -> float:
    """The same for a packet whose callback has failed so often before the failure just seen.

    The limit is ``durable_backoff_cap``.
    """
    return rng.uniform(config.backoff_base, _doubled(config, failures + 1, config.durable_backoff_cap))


def backoff_while_away(config: NetworkConfig, failures: int, away: float) -> float:
    """The same for a peer that was connected ``away`` seconds ago.

    It may be 0. The first one is short, because it may have been the connection alone; those after a failure are drawn
    from :data:`SPREAD` times ``backoff_base`` or more, so that those who lose the same peer do not all find it back
    in the same second. None is longer than that and than the peer has been away: a short absence must not become a
    long one.
    """
    if not failures:
        return rng.uniform(0, min(config.backoff_base, config.backoff_cap))
    longest = min(_doubled(config, failures, config.backoff_cap), max(config.backoff_base, away))
    return rng.uniform(0, min(config.backoff_cap, max(SPREAD * config.backoff_base, longest)))


def _doubled(config: NetworkConfig, times: int, cap: float) -> float:
    # Larger powers would overflow. With the least base this one is 500 days, which is as good as any cap.
    return min(cap, config.backoff_base * 2.0 ** min(times, 32))
