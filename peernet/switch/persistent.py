"""KeptConnections: peers that a node keeps being connected to."""

from __future__ import annotations

import time
from collections.abc import Callable

import gevent
from gevent.pool import Group

from peernet.channel.channel import PeerChannel
from peernet.connections.dialler import backoff
from peernet.errors import ConnectError, PeerNetError, RefusedByPeerError, SelfConnectionError
from peernet.network import PeerNetwork
from peernet.reasons import Reason
from peernet.runtime.greenlets import spawn

# A connection that lasted this long was a success, and the next pause is short again. Seconds.
HEALTHY_AFTER = 60.0

# Called with the address, what went wrong, and the seconds until the next attempt or None.
Failed = Callable[[str, PeerNetError, "float | None"], None]


class PersistentPeers:
    """Dials addresses, and dials them again for ever when that fails or the connection ends.

    It gives up an address only if it leads back to this node, if the peer asks not to be
    dialled again, or if this node itself closed the channel.
    """

    def __init__(self, network: PeerNetwork, failed: Failed) -> None:
        self._network = network
        self._failed = failed
        self._greenlets = Group()

    def keep(self, address: str) -> None:
        """Dial an address from now on, in the background."""
        self._greenlets.add(spawn(f"keeping {address}", self._keep, address))

    def stop(self) -> None:
        """Dial no more."""
        self._greenlets.kill()

    def _keep(self, address: str) -> None:
        failures = 0
        while True:
            began = time.monotonic()
            try:
                channel = self._network.connect(address, attempts=1)
            except PeerNetError as error:
                pause = self._pause(failures, error)
                self._failed(address, error, pause)
                if pause is None:
                    return
            else:
                channel.wait_closed()
                if _ended_by_user(channel):
                    return
                pause = backoff(self._network.config, failures)
            failures = 0 if time.monotonic() - began >= HEALTHY_AFTER else failures + 1
            gevent.sleep(pause)

    def _pause(self, failures: int, error: PeerNetError) -> float | None:
        """Seconds until the next attempt; ``None`` if there is no point in one."""
        if isinstance(error, SelfConnectionError) or not isinstance(error, ConnectError):
            return None
        if not isinstance(error, RefusedByPeerError):
            return backoff(self._network.config, failures)
        if error.do_not_redial or error.reason == Reason.SELF_CONNECTION:
            return None
        return max(error.retry_after, backoff(self._network.config, failures))


def _ended_by_user(channel: PeerChannel) -> bool:
    """Whether this node's own user ended the channel, and does not want it back."""
    return channel.reason is Reason.CLOSED and not channel.ended_by_peer
