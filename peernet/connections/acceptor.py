"""Reception: from an accepted socket to an introduced peer, in the order of the gates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import gevent
from gevent.pool import Group

from peernet.channel.channel import PeerChannel
from peernet.config import NetworkConfig
from peernet.connections import descriptors
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
from peernet.trust.policy import Decision

logger = get_logger(__name__)

NO_DESCRIPTORS = "refused_no_descriptors"
ACCEPT_FAILED = "accept_failed"


class Acceptor:
    """Receives those who connect to us.

    Gates, in this order: address, descriptors, a place for a handshake, TLS and hello
    under one absolute deadline (in which the network's own gate on the identity is asked),
    then whatever ``welcome`` does. Who is refused before TLS is hung up on at once, unheard.

    Args:
        config: the limits.
        counters: one count per reason for which somebody was sent away.
        admits: the gate on the address.
        take_over: makes a transport of an accepted connection.
        shake_hands: does the handshake; waits as long as it takes.
        welcome: decides about the introduced peer; returns its channel if it is to run.
        blame: told who was sent away for which reason, with the identifier if that was proven.
        is_known: whether somebody with an identifier was here before.
    """

    def __init__(
        self,
        config: NetworkConfig,
        counters: Counter[str],
        admits: Callable[[GenericPeer], Decision],
        take_over: Callable[[Any, tuple[str, int]], Transport],
        shake_hands: Callable[[Transport], HandshakeResult],
        welcome: Callable[[HandshakeResult], PeerChannel | None],
        blame: Callable[[GenericPeer, str], object],
        is_known: Callable[[str], bool],
    ) -> None:
        self._config = config
        self._counters = counters
        self._admits = admits
        self._take_over = take_over
        self._shake_hands = shake_hands
        self._welcome = welcome
        self._blame = blame
        self._is_known = is_known
        self._admission = HandshakeSlots(config)
        self._strangers: dict[Slot, Transport] = {}  # in their handshake
        self.greenlets = Group()

    def accepted(self, sock: Any, remote: tuple[str, int]) -> None:
        """Take over a new socket. Never waits."""
        decision = self._admits(GenericPeer("", *remote))
        if not decision:
            self._send_away(sock, remote, decision.rule)
        elif descriptors.are_scarce(sock.fileno(), self._config.descriptor_reserve):
            self._send_away(sock, remote, NO_DESCRIPTORS)
        else:
            self._find_place(sock, remote)

    def not_accepted(self) -> None:
        """Note that the system could not accept a connection."""
        self._counters[ACCEPT_FAILED] += 1

    def _find_place(self, sock: Any, remote: tuple[str, int]) -> None:
        verdict = self._admission.admit(remote[0], clock.monotonic(), rng.uniform(0, 1))
        if verdict.gives_way is not None:
            self._strangers.pop(verdict.gives_way).abort()
        if verdict.place is None:
            self._send_away(sock, remote, verdict.refused)
            return
        try:
            tcp = self._take_over(sock, remote)
        except BaseException:
            self._admission.leave(verdict.place)
            raise
        self._begin(verdict.place, tcp)

    def _begin(self, place: Slot, tcp: Transport) -> None:
        self._strangers[place] = tcp
        receiving = spawn(f"inbound {endpoint(*tcp.remote)}", self._receive, place, tcp)
        receiving.rawlink(lambda _: self._forget(place))
        self.greenlets.add(receiving)

    def _forget(self, place: Slot) -> None:
        """The greenlet of a stranger has ended; if it was killed before it ran, nobody else has cleared up."""
        tcp = self._leave(place)
        if tcp is not None:
            tcp.close()

    def _leave(self, place: Slot) -> Transport | None:
        self._admission.leave(place)
        return self._strangers.pop(place, None)

    def _receive(self, place: Slot, tcp: Transport) -> None:
        channel = self._take_in(place, tcp)
        if channel is not None:
            channel.run()

    def _take_in(self, place: Slot, tcp: Transport) -> PeerChannel | None:
        try:
            introduced = self._get_acquainted(place, tcp)
        finally:
            self._leave(place)
        if introduced is None:
            return None
        if introduced.peer.proven and self._is_known(introduced.peer.identifier):
            self._admission.recognise(place, introduced.peer.identifier, clock.monotonic())
        try:
            return self._welcome(introduced)
        except Refusal as refusal:
            self._note(tcp, refusal.reason, str(refusal))
            return None

    def _get_acquainted(self, place: Slot, tcp: Transport) -> HandshakeResult | None:
        introduced = None
        timer = gevent.Timeout.start_new(self._config.handshake_timeout)
        try:
            introduced = self._shake_hands(tcp)
        except gevent.Timeout as timeout:
            if timeout is not timer:
                raise
            self._note(tcp, Reason.HANDSHAKE_TIMEOUT, "it took too long")
            self._blame(_stranger(tcp), Reason.HANDSHAKE_TIMEOUT)
        except Refusal as refusal:
            self._note(tcp, refusal.reason, f"{refusal} ({refusal.rule})")
            self._blame(_stranger(tcp, refusal.culprit), refusal.reason)
        except RemoteProtocolError as error:
            self._note(tcp, error.reason, str(error))
            self._blame(_stranger(tcp, error.culprit), error.reason)
        except (TransportError, IdentityError) as error:
            self._note(tcp, GAVE_WAY if place.gave_way else Reason.HANDSHAKE_FAILED, str(error))
            if not place.gave_way and (not isinstance(error, TransportError) or isinstance(error, HandshakeError)):
                self._blame(_stranger(tcp), Reason.HANDSHAKE_FAILED)  # the others have perhaps lost their network
        except RefusedByPeerError as error:
            self._note(tcp, error.reason, str(error))
        finally:
            timer.close()
            if introduced is None:
                tcp.close()
        return introduced

    def _send_away(self, sock: Any, remote: tuple[str, int], rule: str) -> None:
        sock.close()
        self._counters[rule] += 1
        self._blame(GenericPeer("", *remote, proven=False), rule)
        logger.info("= %s not received: %s", endpoint(*remote), rule)

    def _note(self, tcp: Transport, reason: str, text: str) -> None:
        self._counters[reason] += 1
        logger.info("= %s not let in: %s", endpoint(*tcp.remote), printable(text))


def _stranger(tcp: Transport, identifier: str = "") -> GenericPeer:
    """Who has not got through the handshake, with the identifier if it was proven."""
    return GenericPeer(identifier, *tcp.remote, proven=bool(identifier))
