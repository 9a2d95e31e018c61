"""Acceptor: from an accepted connection to a peer that has result itself, in the order of the gates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import gevent
from gevent.pool import Group

from peernet.config import NetworkConfig
from peernet.connections.gate import Gate, Guest
from peernet.connections.handshake import HandshakeResult
from peernet.connections.refusal import Refusal
from peernet.connections.slots import GAVE_WAY, HandshakeSlots, Slot
from peernet.errors import HandshakeError, IdentityError, RefusedByPeerError, RemoteProtocolError, TransportError
from peernet.peers.address import endpoint
from peernet.peers.peer import GenericPeer
from peernet.reasons import Reason
from peernet.runtime import clock, rng
from peernet.runtime.greenlets import spawn
from peernet.runtime.logs import get_logger
from peernet.runtime.text import printable
from peernet.transport.base import Transport

logger = get_logger(__name__)


class Acceptor:
    """Receives those who connect to us.

    Gates, in this order: the address, a slot for the handshake, TLS and the hellos under one
    absolute deadline (in which the gate is asked for the identity), and then the gate's welcome.
    Who is refused before TLS is hung up on at once, unheard.

    Args:
        config: the limits.
        gate: decides.
        take_over: makes a transport of an accepted connection.
        shake_hands: does the handshake; waits as long as it takes.
        counters: one count per reason for which somebody was sent away.

    Attributes:
        strangers: those who have not result themselves yet.
        greenlets: one for each of those who have come, for as long as they are here.
    """

    def __init__(
        self,
        config: NetworkConfig,
        gate: Gate,
        take_over: Callable[[Any, tuple[str, int]], Transport],
        shake_hands: Callable[[Transport], HandshakeResult],
        counters: Counter[str],
    ) -> None:
        self._config = config
        self._gate = gate
        self._take_over = take_over
        self._shake_hands = shake_hands
        self._counters = counters
        self._slots = HandshakeSlots(config)
        self.strangers: dict[Slot, Transport] = {}
        self.greenlets = Group()

    def accepted(self, connection: Any, remote: tuple[str, int]) -> None:
        """Take over a new connection. Never waits."""
        decision = self._gate.admits_address(GenericPeer("", *remote))
        if decision:
            self._find_slot(connection, remote)
        else:
            self._send_away(connection, remote, decision.rule)

    def not_accepted(self, why: str) -> None:
        """Note under the name of a counter that a connection could not be accepted."""
        self._counters[why] += 1

    def _find_slot(self, connection: Any, remote: tuple[str, int]) -> None:
        verdict = self._slots.take(remote[0], clock.monotonic(), rng.uniform(0, 1))
        if verdict.gives_way is not None:
            self.strangers.pop(verdict.gives_way).abort()
        if verdict.slot is None:
            self._send_away(connection, remote, verdict.refused)
            return
        try:
            tcp = self._take_over(connection, remote)
        except BaseException:
            self._slots.free(verdict.slot)
            raise
        self._begin(verdict.slot, tcp)

    def _begin(self, slot: Slot, tcp: Transport) -> None:
        self.strangers[slot] = tcp
        receiving = spawn(f"inbound {endpoint(*tcp.remote)}", self._receive, slot, tcp)
        receiving.rawlink(lambda _: self._forget(slot))
        self.greenlets.add(receiving)

    def _forget(self, slot: Slot) -> None:
        """The greenlet of a stranger has ended; if it was killed before it ran, nobody else has cleared up."""
        tcp = self._free(slot)
        if tcp is not None:
            tcp.close()

    def _free(self, slot: Slot) -> Transport | None:
        self._slots.free(slot)
        return self.strangers.pop(slot, None)

    def _receive(self, slot: Slot, tcp: Transport) -> None:
        guest = self._take_in(slot, tcp)
        if guest is not None:
            guest.run()

    def _take_in(self, slot: Slot, tcp: Transport) -> Guest | None:
        try:
            result = self._introduce(slot, tcp)
        finally:
            self._free(slot)
        if result is None:
            return None
        if result.peer.proven and self._gate.knows(result.peer.identifier):
            self._slots.recognise(slot, result.peer.identifier, clock.monotonic())
        try:
            return self._gate.welcome(result)
        except Refusal as refusal:
            self._note(tcp, refusal.reason, str(refusal))
            return None

    def _introduce(self, slot: Slot, tcp: Transport) -> HandshakeResult | None:
        result = None
        timer = gevent.Timeout.start_new(self._config.handshake_timeout)
        try:
            result = self._shake_hands(tcp)
        except gevent.Timeout as timeout:
            if timeout is not timer:
                raise
            self._note(tcp, Reason.HANDSHAKE_TIMEOUT, "it took too long")
            self._gate.blame(_stranger(tcp), Reason.HANDSHAKE_TIMEOUT)
        except Refusal as refusal:
            self._note(tcp, refusal.reason, f"{refusal} ({refusal.rule})")
            self._gate.blame(_stranger(tcp, refusal.culprit), refusal.reason)
        except RemoteProtocolError as error:
            self._note(tcp, error.reason, str(error))
            self._gate.blame(_stranger(tcp, error.culprit), error.reason)
        except (TransportError, IdentityError) as error:
            self._note(tcp, GAVE_WAY if slot.gave_way else Reason.HANDSHAKE_FAILED, str(error))
            if not slot.gave_way and (not isinstance(error, TransportError) or isinstance(error, HandshakeError)):
                self._gate.blame(_stranger(tcp), Reason.HANDSHAKE_FAILED)  # the others have perhaps lost their network
        except RefusedByPeerError as error:
            self._note(tcp, error.reason, str(error))
        finally:
            timer.close()
            if result is None:
                tcp.close()
        return result

    def _send_away(self, connection: Any, remote: tuple[str, int], rule: str) -> None:
        connection.close()
        self._counters[rule] += 1
        self._gate.blame(GenericPeer("", *remote, proven=False), rule)
        logger.info("= %s not received: %s", endpoint(*remote), rule)

    def _note(self, tcp: Transport, reason: str, text: str) -> None:
        self._counters[reason] += 1
        logger.info("= %s not let in: %s", endpoint(*tcp.remote), printable(text))


def _stranger(tcp: Transport, identifier: str = "") -> GenericPeer:
    """Who has not got through the handshake, with the identifier if it was proven."""
    return GenericPeer(identifier, *tcp.remote, proven=bool(identifier))
