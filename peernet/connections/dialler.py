"""Dialler: makes connections to addresses, again after failures that may pass."""

from __future__ import annotations

from collections.abc import Callable

import gevent
from greenlet import greenlet

from peernet.config import NetworkConfig
from peernet.connections.dial_history import DialHistory
from peernet.connections.handshake import HandshakeResult
from peernet.connections.refusal import Refusal
from peernet.connections.retry import backoff, judge
from peernet.errors import (
    ConnectError,
    ConnectTimeout,
    IdentityError,
    RefusedByPolicyError,
    RemoteProtocolError,
    SelfConnectionError,
    TransportError,
)
from peernet.peers.address import PeerAddress
from peernet.reasons import Reason
from peernet.runtime import clock
from peernet.runtime.deadline import Deadline
from peernet.transport.base import Transport


class _GivenUp(BaseException):
    """Thrown into whoever dials while the network stops."""


class Dialler:
    """Dials addresses for one network.

    Args:
        config: the limits.
        connect: connects to an address, without a handshake; waits as long as it takes.
        shake_hands: does the handshake on a connection; waits as long as it takes.
        history: the dials of this network, which says when an address may be dialled again.
    """

    def __init__(
        self,
        config: NetworkConfig,
        connect: Callable[[PeerAddress], Transport],
        shake_hands: Callable[[Transport, PeerAddress], HandshakeResult],
        history: DialHistory,
    ) -> None:
        self._config = config
        self._history = history
        self._connect = connect
        self._shake_hands = shake_hands
        self._dialling: set[greenlet] = set()

    def stop(self) -> None:
        """Have all that is under way fail soon, with a ConnectError."""
        for one in self._dialling:
            gevent.get_hub().loop.run_callback(self._give_up, one)

    def dial(
        self,
        address: PeerAddress,
        timeout: float,
        attempts: int | None,
        rest: Callable[[float], object] | None = None,
    ) -> HandshakeResult:
        """Connect to a peer and do the handshake.

        Between attempts it waits a random time (full jitter) that may double each time. An address that was dialled
        before, and has held no connection since, is dialled when its turn comes: see
        :class:`~peernet.connections.dial_history.DialHistory`.

        Args:
            address: where.
            timeout: seconds for all attempts and the pauses between them.
            attempts: how often to try, if the failures are of a kind that may pass. ``None`` means
                ``config.connect_attempts``, and that an address at which nobody listens is tried once: a wrong port
                is more likely than a peer that begins to listen a moment later.
            rest: waits for so many seconds at most while it is not the address's turn; what it raises ends the dial.

        Raises:
            ConnectError: or one of its subclasses; of several attempts, the last one's.
        """
        me = gevent.getcurrent()
        self._dialling.add(me)
        try:
            return self._dial(address, Deadline(timeout), attempts, rest or gevent.sleep)
        except _GivenUp:
            raise ConnectError(f"no connection to {address.endpoint}: this node is stopping") from None
        finally:
            self._dialling.discard(me)

    def _give_up(self, one: greenlet) -> None:
        if one in self._dialling:
            one.throw(_GivenUp)

    def _dial(
        self, address: PeerAddress, deadline: Deadline, asked: int | None, rest: Callable[[float], object]
    ) -> HandshakeResult:
        attempts = self._config.connect_attempts if asked is None else asked
        for attempt in range(attempts):
            self._wait_for_turn(address, deadline, rest)
            try:
                return self._attempt(address, deadline)
            except ConnectError as error:
                judgement = judge(error)
                pause = max(backoff(self._config, attempt, judgement.retry_after), self._time_left(address))
                last = attempt + 1 == attempts or (asked is None and judgement.nobody_listens)
                if last or not judgement.passes_soon or pause >= deadline.cap(pause + 1):
                    raise
            gevent.sleep(pause)
        raise ConnectError(f"no attempt was made to reach {address.endpoint}; attempts must be at least 1")

    def _time_left(self, address: PeerAddress) -> float:
        return self._history.time_left((address.host, address.port), clock.monotonic())

    def _wait_for_turn(self, address: PeerAddress, deadline: Deadline, rest: Callable[[float], object]) -> None:
        """Wait until an address may be dialled, and note that it is.

        Raises:
            ConnectTimeout: that takes longer than there is time.
        """
        while left := self._time_left(address):
            if deadline.expired:
                raise ConnectTimeout(
                    f"{address.endpoint} is dialled again in {left:.0f} s at the earliest: it was dialled before, and "
                    "no connection to it has held"
                )
            rest(deadline.cap(left))
        self._history.note_dial((address.host, address.port), clock.monotonic())

    def _attempt(self, address: PeerAddress, deadline: Deadline) -> HandshakeResult:
        transport: Transport | None = None
        done = False
        timer = gevent.Timeout.start_new(deadline.remaining)
        try:
            transport = self._connect(address)
            self._history.note_name((address.host, address.port), transport.remote)
            result = self._shake_hands(transport, address)
            done = True
            return result
        except gevent.Timeout as timeout:
            if timeout is not timer:
                raise
            raise ConnectTimeout(
                f"{address.endpoint} did not complete the handshake in time; it is overloaded, or not peernet"
            ) from None
        except Refusal as refusal:
            raise _refused_here(refusal) from refusal
        except (TransportError, RemoteProtocolError, IdentityError) as error:
            raise ConnectError(f"no connection to {address.endpoint}: {error}") from error
        finally:
            timer.close()
            if transport is not None and not done:
                transport.close()


def _refused_here(refusal: Refusal) -> ConnectError:
    if refusal.reason is Reason.SELF_CONNECTION:
        return SelfConnectionError(
            "the node at this address has the same key as this one: it is this node itself, or another one with a copy "
            "of its key; do not dial it, and give every node a key of its own"
        )
    error = RefusedByPolicyError(f"not connected, by this node's own rule {refusal.rule}: {refusal}", refusal.rule)
    error.identifier = refusal.identifier
    return error
