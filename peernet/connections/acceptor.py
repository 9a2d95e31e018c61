"""Acceptor: from an accepted connection to a peer whose handshake is done, in the order of the gates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import gevent

from peernet.config import NetworkConfig
from peernet.connections.gate import Gate, Runnable
from peernet.connections.handshake import HandshakeResult
from peernet.connections.knocks import Knocks
from peernet.connections.refusal import Refusal
from peernet.connections.slots import GAVE_WAY, HandshakeSlots, Slot
from peernet.errors import (
    HandshakeError,
    IdentityError,
    PeerNetError,
    RefusedByPeerError,
    RemoteProtocolError,
    TransportError,
)
from peernet.peers.address import endpoint
from peernet.peers.peer import GenericPeer
from peernet.reasons import Reason
from peernet.runtime import clock, rng
from peernet.runtime.greenlets import OwnedGroup, spawn
from peernet.runtime.interruptions import is_addressed_here
from peernet.runtime.logs import get_logger
from peernet.runtime.text import printable
from peernet.transport.base import Transport

logger = get_logger(__name__)


# Reasons and rules by which somebody was not wanted, rather than not able to get in.
DECIDED = frozenset({Reason.BLOCKED, Reason.NOT_ALLOWED, Reason.BANNED, "blocked_networks", "allowed_networks"})


class Acceptor:
    """Receives those who connect to us.

    Gates, in this order: the address, a slot for the handshake, TLS and the hellos under one
    absolute deadline (in which the gate is asked for the identity), and then the gate's welcome.
    Who is refused before TLS is hung up on at once, unheard.

    Args:
        config: the limits.
        gate: decides.
        shake_hands: does the handshake; waits as long as it takes.
        counters: one count per reason for which somebody was sent away.

    Attributes:
        slots: of those whose handshake is not done yet.
        strangers: their connections.
        greenlets: one for each of those who have come, for as long as they are here.
    """

    def __init__(
        self,
        config: NetworkConfig,
        gate: Gate,
        shake_hands: Callable[[Transport], HandshakeResult],
        counters: Counter[str],
    ) -> None:
        self._config = config
        self._gate = gate
        self._shake_hands = shake_hands
        self._counters = counters
        self.slots = HandshakeSlots(config)
        self._knocks = Knocks()
        self.strangers: dict[Slot, Transport] = {}
        self.greenlets = OwnedGroup()

    def accepted(self, transport: Transport) -> None:
        """Take over a new connection. Never waits."""
        decision = self._gate.admits_address(GenericPeer("", *transport.remote))
        if decision:
            self._find_slot(transport)
        else:
            self._send_away(transport, decision.rule)

    def not_accepted(self, why: str) -> None:
        """Note under the name of a counter that a connection could not be accepted."""
        self._counters[why] += 1

    def _find_slot(self, transport: Transport) -> None:
        verdict = self.slots.take(transport.remote[0], clock.monotonic(), rng.uniform(0, 1))
        if verdict.gives_way is not None:
            self.strangers.pop(verdict.gives_way).abort()
        if verdict.slot is None:
            self._send_away(transport, verdict.refused)
        else:
            self._begin(verdict.slot, transport)

    def _begin(self, slot: Slot, transport: Transport) -> None:
        self.strangers[slot] = transport
        receiving = spawn(f"inbound {endpoint(*transport.remote)}", self._receive, slot, transport)
        receiving.rawlink(lambda _: self._forget(slot))
        self.greenlets.add(receiving)

    def _forget(self, slot: Slot) -> None:
        """The greenlet of a stranger has ended; if it was killed before it ran, nobody else has cleaned up."""
        transport = self._free(slot)
        if transport is not None:
            transport.close()

    def _free(self, slot: Slot) -> Transport | None:
        self.slots.free(slot)
        return self.strangers.pop(slot, None)

    def _receive(self, slot: Slot, transport: Transport) -> None:
        admitted = self._take_in(slot, transport)
        if admitted is not None:
            admitted.run()

    def _take_in(self, slot: Slot, transport: Transport) -> Runnable | None:
        try:
            result = self._shake_in_time(slot, transport)
        finally:
            self._free(slot)
        if result is None:
            return None
        if result.peer.proven and self._gate.knows(result.peer.identifier):
            self.slots.recognise(slot, result.peer.identifier, clock.monotonic())
        try:
            return self._gate.welcome(result)
        except Refusal as refusal:
            self._note(transport, refusal.reason, str(refusal))
            return None

    def _shake_in_time(self, slot: Slot, transport: Transport) -> HandshakeResult | None:
        result = None
        timer = gevent.Timeout.start_new(self._config.handshake_timeout)
        try:
            result = self._shake_hands(transport)
        except Refusal as refusal:
            self._reject(transport, refusal.reason, f"{refusal} ({refusal.rule})", refusal.culprit)
        except RemoteProtocolError as error:
            self._reject(transport, error.reason, str(error), error.culprit)
        except (HandshakeError, IdentityError) as error:
            self._give_up(slot, transport, error, blame=True)
        except TransportError as error:
            self._give_up(slot, transport, error, blame=False)  # perhaps the other side has lost its network
        except RefusedByPeerError as error:
            self._note(transport, error.reason, str(error))
        except BaseException as error:
            if error is timer:
                self._reject(transport, Reason.HANDSHAKE_TIMEOUT, "it took too long")
            elif is_addressed_here(error):
                raise
            else:  # whatever a policy of the program lets escape
                self._note(transport, Reason.INTERNAL_ERROR, f"{type(error).__name__}: {printable(error)}")
                logger.exception("it could not be decided about %s", endpoint(*transport.remote))
        finally:
            timer.close()
            if result is None:
                transport.close()
        return result

    def _reject(self, transport: Transport, reason: str, text: str, culprit: str = "") -> None:
        self._note(transport, reason, text, culprit)
        self._gate.blame(_stranger(transport, culprit), reason)

    def _give_up(self, slot: Slot, transport: Transport, error: PeerNetError, *, blame: bool) -> None:
        if slot.gave_way:
            self._note(transport, GAVE_WAY, str(error))
        elif blame:
            self._reject(transport, Reason.HANDSHAKE_FAILED, str(error))
        else:
            self._note(transport, Reason.HANDSHAKE_FAILED, str(error))

    def _send_away(self, transport: Transport, rule: str) -> None:
        transport.close()
        self._counters[rule] += 1
        self._gate.blame(_stranger(transport), rule)
        self._tell(transport.remote[0], rule, f"{endpoint(*transport.remote)} not received: {rule}")

    def _note(self, transport: Transport, reason: str, text: str, culprit: str = "") -> None:
        self._counters[reason] += 1
        who = f"{culprit} at {endpoint(*transport.remote)}" if culprit else endpoint(*transport.remote)
        self._tell(culprit or transport.remote[0], reason, f"{who} not let in: {printable(text)}")

    def _tell(self, who: str, reason: str, text: str) -> None:
        """Log it; now and then so that it is seen, if somebody has decided that this one is not wanted."""
        knocks = self._knocks.note(who, clock.monotonic()) if reason in DECIDED else None
        if knocks is None:
            logger.info("%s", text)
        else:
            logger.warning("%s%s", text, f" ({knocks} times)" if knocks > 1 else "")


def _stranger(transport: Transport, identifier: str = "") -> GenericPeer:
    """Who has not got through the handshake, with the identifier if it was proven."""
    return GenericPeer(identifier, *transport.remote, proven=bool(identifier))
