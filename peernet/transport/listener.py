"""Listener: accepts connections for ever, and never waits for the one who connects."""

from __future__ import annotations

import errno
from collections.abc import Callable

import gevent
from gevent import socket

from peernet.peers.address import PeerAddress, endpoint
from peernet.runtime.greenlets import let_others_run, spawn
from peernet.runtime.logs import get_logger
from peernet.transport import descriptors
from peernet.transport.tcp import describe, host_and_port, listen

logger = get_logger(__name__)

# Without descriptors or memory accept() fails at once and for ever; a loop that only
# tried again did it 550,000 times a second and starved everybody else. The longest
# pause leaves time to be back within a second.
MIN_BACKOFF = 0.01
MAX_BACKOFF = 0.64
# Errors of one connection and not of the listening socket: accept(2) says to go on.
PASSING = frozenset({errno.ECONNABORTED, errno.EPROTO, errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTUNREACH})
# So many connections are accepted before others get their turn.
PER_TURN = 64

# Why a connection was not accepted: the names of counters.
ACCEPT_FAILED = "accept_failed"
NO_DESCRIPTORS = "refused_no_descriptors"


class Listener:
    """One listening socket and the greenlet that accepts from it.

    Args:
        address: where to listen; port 0 lets the system choose.
        accepted: called with each new socket and the host and port of its other end.
            It takes over the socket and must not wait.
        failed: called with :data:`ACCEPT_FAILED` when the system could not accept a connection, and with
            :data:`NO_DESCRIPTORS` when one was hung up on because descriptors run out.
        descriptor_reserve: how many descriptors are kept free for other things than connections.

    Raises:
        ListenError: the address cannot be listened on.
    """

    def __init__(
        self,
        address: PeerAddress,
        accepted: Callable[[socket.socket, tuple[str, int]], None],
        failed: Callable[[str], None] = lambda why: None,
        descriptor_reserve: int = 0,
    ) -> None:
        self._accepted = accepted
        self._failed = failed
        self._descriptor_reserve = descriptor_reserve
        self._socket = listen(address)
        self.address = PeerAddress(*host_and_port(self._socket.getsockname()))
        self._greenlet = spawn(f"listener {self.address.endpoint}", self._accept_for_ever)

    def stop(self) -> None:
        """Stop listening. Idempotent."""
        self._greenlet.kill()
        self._socket.close()

    def _accept_for_ever(self) -> None:
        backoff, in_a_row = MIN_BACKOFF, 0
        while True:  # ends with stop(), which kills this greenlet
            try:
                sock, remote = self._socket.accept()
            except OSError as error:
                backoff = self._wait_after(error, backoff)
                continue
            sock.settimeout(None)  # the program's default is for its own sockets
            backoff, in_a_row = MIN_BACKOFF, in_a_row + 1
            if descriptors.are_scarce(sock.fileno(), self._descriptor_reserve):
                self._hang_up(sock, host_and_port(remote))
            else:
                self._hand_over(sock, host_and_port(remote))
            # accept() does not wait while connections are queued: a flood of them must not keep all others waiting.
            if in_a_row % PER_TURN == 0:
                let_others_run()

    def _wait_after(self, error: OSError, backoff: float) -> float:
        """Wait for as long as an error takes to pass. Returns how long to wait if there is another one."""
        self._failed(ACCEPT_FAILED)
        if error.errno in PASSING:
            let_others_run()
            return backoff
        logger.warning("cannot accept on %s: %s", self.address.endpoint, describe(error))
        gevent.sleep(backoff)
        return min(2 * backoff, MAX_BACKOFF)

    def _hang_up(self, sock: socket.socket, remote: tuple[str, int]) -> None:
        sock.close()
        self._failed(NO_DESCRIPTORS)
        logger.info("%s not received: %s", endpoint(*remote), NO_DESCRIPTORS)

    def _hand_over(self, sock: socket.socket, remote: tuple[str, int]) -> None:
        try:
            self._accepted(sock, remote)
        except OSError as error:  # the other end was gone before anybody looked
            logger.debug("a connection from %s broke at once: %s", endpoint(*remote), describe(error))
            sock.close()
        except Exception:
            logger.exception("a connection from %s could not be taken over", endpoint(*remote))
            sock.close()
