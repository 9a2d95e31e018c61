"""Caller: dials the peers for whom something is stored."""

from __future__ import annotations

from collections.abc import Callable

import gevent
from gevent.lock import BoundedSemaphore

from peernet.channel.channel import PeerChannel
from peernet.config import NetworkConfig
from peernet.connections.dial_history import DialHistory
from peernet.connections.retry import backoff, judge, judge_end
from peernet.errors import PeerNetError
from peernet.runtime.greenlets import OwnedGroup, spawn
from peernet.runtime.logs import get_logger

logger = get_logger(__name__)


class Caller:
    """Dials a peer, with growing pauses, for as long as it is wanted and has an address that is known.

    It gives up a peer that asks not to be dialled again, or whose address leads back to this node,
    until somebody calls for it again.

    Args:
        config: the limits.
        dial: dials an address of a peer.
        addresses: the ``host:port`` texts that are known of a peer.
        wanted: whether a channel to a peer is wanted and not there.
        turns: bounds how many are dialled at once, by whoever dials on its own.
        history: all dials of the network: failures outlive a channel.

    Attributes:
        peers: those who are being called.
    """

    def __init__(
        self,
        config: NetworkConfig,
        dial: Callable[[str, str], object],
        addresses: Callable[[str], list[str]],
        wanted: Callable[[str], bool],
        turns: BoundedSemaphore,
        history: DialHistory,
    ) -> None:
        self._config = config
        self._dial = dial
        self._addresses = addresses
        self._wanted = wanted
        self._turns = turns
        self._history = history
        self.peers: set[str] = set()
        self._greenlets = OwnedGroup()
        self._stopped = True

    def start(self) -> None:
        """Dial from now on."""
        self._stopped = False

    def call(self, peer: str, pause: float = 0.0) -> None:
        """Dial a peer, after a pause in seconds, if it is wanted and not being called already."""
        if not self._stopped and peer not in self.peers and self._wanted(peer) and self._addresses(peer):
            self.peers.add(peer)
            self._greenlets.add(spawn(f"calling {peer[:8]}", self._call, peer, pause))

    def call_again(self, channel: PeerChannel) -> None:
        """Dial the peer whose channel has ended, unless one of the two does not want that."""
        judgement = judge_end(channel)
        if not judgement.hopeless:
            # The dial of the channel that has ended is one of them, unless that has held.
            failures = max(0, self._history.failures((channel.peer.address, channel.peer.port)) - 1)
            self.call(channel.peer.identifier, backoff(self._config, failures, judgement.retry_after))

    def stop(self) -> None:
        """Dial no more."""
        self._stopped = True
        self._greenlets.kill()

    def _call(self, peer: str, pause: float) -> None:
        failures = 0
        try:
            while True:  # ends when the peer is reached or not wanted any more, or has said that it is hopeless
                gevent.sleep(pause)
                addresses = self._addresses(peer)
                if not addresses or not self._wanted(peer):
                    return
                error = self._try_all(peer, addresses)
                if error is None or (judgement := judge(error)).hopeless:
                    return
                pause = backoff(self._config, failures, judgement.retry_after)
                failures += 1
        finally:
            self.peers.discard(peer)

    def _try_all(self, peer: str, addresses: list[str]) -> PeerNetError | None:
        """Dial one address after the other. Returns the last one's error, if none has answered."""
        error: PeerNetError | None = None
        for address in addresses:
            try:
                with self._turns:
                    self._dial(peer, address)
            except PeerNetError as failure:
                logger.info("%s, for whom packets are stored, is not at %s: %s", peer[:8], address, failure)
                error = failure
            else:
                return None
        return error
