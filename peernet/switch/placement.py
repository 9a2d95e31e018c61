"""Placement: who is asked about a peer that wants to be let in, and where it waits meanwhile."""

from __future__ import annotations

from collections.abc import Callable

from peernet.config import NetworkConfig
from peernet.reasons import Reason
from peernet.switch.events import NetworkEvents
from peernet.switch.pending import InboundConnectingPeersQueue, IncomingPeerConnectionAttempt
from peernet.trust.policy import IncomingPeerMode, IncomingPeerTrustPolicy


class Placement:
    """Gets the decisions about inbound peers.

    Args:
        config: the limits.
        queue: where peers are held.
        events: two of them tell of attempts.
        policy: the policy in force.
    """

    def __init__(
        self,
        config: NetworkConfig,
        queue: InboundConnectingPeersQueue,
        events: NetworkEvents,
        policy: Callable[[], IncomingPeerTrustPolicy],
    ) -> None:
        self._config = config
        self._queue = queue
        self._events = events
        self._policy = policy

    def place(self, attempt: IncomingPeerConnectionAttempt) -> bool:
        """Whether to let an inbound peer in, after asking whom the policy says to ask."""
        mode = self._policy().incoming_peer_placement
        asks = mode is not IncomingPeerMode.QUEUE_BASED
        if asks and not self._events.incoming_peer_connection_attempt.fire(attempt):
            attempt.reject(reason=Reason.INTERNAL_ERROR)  # a guard that breaks down lets nobody in
        if attempt.verdict is None and mode is IncomingPeerMode.EVENT_BASED and not attempt.deferred:
            attempt.accept()
        if attempt.verdict is None:
            self._hold(attempt)
        return bool(attempt.verdict)

    def _hold(self, attempt: IncomingPeerConnectionAttempt) -> None:
        if attempt.peer.identifier in self._queue:  # two at once have passed the gate
            return attempt.overrule(Reason.DUPLICATE)
        if len(self._queue) >= self._config.max_pending:
            return attempt.overrule(Reason.BUSY)
        self._queue.put(attempt)
        try:
            self._events.peer_pending.fire(attempt)
            attempt.wait(self._config.decision_timeout)
        finally:
            self._queue.remove(attempt)
