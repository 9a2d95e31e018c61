"""Inbound peers whose admission is not decided yet."""

from __future__ import annotations

from collections.abc import Iterator

from gevent.event import Event

from peernet.channel.control import ChannelControl
from peernet.errors import ConfigurationError
from peernet.peers.peer import GenericPeer
from peernet.reasons import Reason
from peernet.runtime.deadline import Deadline
from peernet.runtime.threads import NO_HOME, HomeThread, at_home

# How often a held connection is looked at to see whether its peer is still there.
LOOK_EVERY = 0.5
# How long a rejected peer is asked to stay away: one that is to be kept connected would ask at once again, and who
# is asked is a person. Seconds.
REJECTED_RETRY_AFTER = 5.0


class IncomingPeerConnectionAttempt:
    """A peer that has proven who it is and waits to be let in. It holds its socket.

    Args:
        control: what the network moves its channel with.
        home: the native thread of the network.

    Attributes:
        channel: the channel, pending; nothing can be sent on it yet.
        deferred: whether somebody asked for time to decide.
        verdict: ``None`` while undecided, then whether the peer is accepted.
        reason: what a rejected peer is told.
        message: one sentence more.
    """

    def __init__(self, control: ChannelControl, home: HomeThread = NO_HOME) -> None:
        self._home = home
        self.control = control  # for the network alone
        self.channel = control.channel
        self.deferred = False
        self.verdict: bool | None = None
        self.reason = Reason.REJECTED
        self.message = ""
        self._decided = Event()

    def __repr__(self) -> str:
        verdict = {None: "undecided", True: "accepted", False: f"refused: {self.reason}"}[self.verdict]
        return f"<IncomingPeerConnectionAttempt of {self.channel!r}, {verdict}>"

    @property
    def peer(self) -> GenericPeer:
        """Who it is."""
        return self.channel.peer

    @property
    def retry_after(self) -> float:
        """The seconds that a refused peer is asked to wait before it dials again."""
        return REJECTED_RETRY_AFTER if self.reason is Reason.REJECTED else 0.0

    @at_home
    def accept(self) -> None:
        """Let the peer in. The first decision counts."""
        self._decide(True)

    @at_home
    def reject(self, message: str = "", *, reason: Reason = Reason.REJECTED) -> None:
        """Refuse the peer and tell it why. The first decision counts."""
        if self.verdict is None:
            self.reason, self.message = reason, message
        self._decide(False)

    @at_home
    def overrule(self, reason: Reason) -> None:
        """Refuse the peer although it was accepted, because things have changed since."""
        self.verdict, self.reason = False, reason

    @at_home
    def defer(self) -> None:
        """Hold the peer until :meth:`accept` or :meth:`reject`, or until ``decision_timeout``."""
        self.deferred = True

    @at_home
    def wait(self, timeout: float) -> bool:
        """Wait for the decision. Time that runs out, and a peer that leaves, count as rejected."""
        deadline = Deadline(timeout)
        while self.verdict is None:  # ends: the deadline is a verdict too
            if self.control.lost_while_pending():
                self.reject(reason=Reason.CONNECTION_LOST)
            elif deadline.expired:
                self.reject(reason=Reason.DECISION_TIMEOUT)
            else:
                self._decided.wait(deadline.cap(LOOK_EVERY))
        return self.verdict

    def _decide(self, verdict: bool) -> None:
        if self.verdict is None:
            self.verdict = verdict
            self._decided.set()


class InboundConnectingPeersQueue:
    """The attempts that are held, oldest first, by identifier.

    Args:
        home: the native thread of the network.
    """

    def __init__(self, home: HomeThread = NO_HOME) -> None:
        self._home = home
        self._attempts: dict[str, IncomingPeerConnectionAttempt] = {}

    def __repr__(self) -> str:
        return f"<InboundConnectingPeersQueue: {list(self)}>"

    def __len__(self) -> int:
        return len(self._attempts)

    def __iter__(self) -> Iterator[IncomingPeerConnectionAttempt]:
        return iter(list(self._attempts.values()))

    def __contains__(self, identifier: object) -> bool:
        return identifier in self._attempts

    def __getitem__(self, identifier: str) -> IncomingPeerConnectionAttempt:
        try:
            return self._attempts[identifier]
        except KeyError:
            raise ConfigurationError(f"no pending peer {identifier!r}; it may have been decided or have left") from None

    @at_home
    def accept(self, identifier: str) -> None:
        """Let a pending peer in.

        Raises:
            ConfigurationError: no such peer is pending.
        """
        self[identifier].accept()

    @at_home
    def reject(self, identifier: str, message: str = "") -> None:
        """Refuse a pending peer.

        Raises:
            ConfigurationError: no such peer is pending.
        """
        self[identifier].reject(message)

    @at_home
    def put(self, attempt: IncomingPeerConnectionAttempt) -> None:
        """Hold an attempt; the one who puts it takes it out again."""
        self._attempts[attempt.peer.identifier] = attempt

    @at_home
    def remove(self, attempt: IncomingPeerConnectionAttempt) -> None:
        """No longer hold an attempt."""
        if self._attempts.get(attempt.peer.identifier) is attempt:
            del self._attempts[attempt.peer.identifier]
