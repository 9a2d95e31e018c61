"""PersistentPeers: addresses that a node stays connected to."""

from __future__ import annotations

from collections.abc import Callable

import gevent
from gevent.pool import Group

from peernet.channel.channel import PeerChannel
from peernet.config import NetworkConfig
from peernet.connections.retry import Backoff, Verdict, judge, judge_end
from peernet.errors import PeerNetError
from peernet.runtime.greenlets import spawn

# Called with the address, what went wrong, and the seconds until the next attempt or None.
Failed = Callable[[str, PeerNetError, "float | None"], None]


class PersistentPeers:
    """Dials addresses, and dials them again for ever when that fails or the channel ends.

    It gives up an address only if it leads back to this node, if the peer asks not to be
    dialled again, or if this node itself closed the channel.

    Args:
        config: the limits.
        connect: makes one attempt to connect to an address, and returns the channel.
        failed: told of every attempt that fails.
    """

    def __init__(self, config: NetworkConfig, connect: Callable[[str], PeerChannel], failed: Failed) -> None:
        self._config = config
        self._connect = connect
        self._failed = failed
        self._greenlets = Group()

    def keep(self, address: str) -> None:
        """Dial an address from now on, in the background."""
        self._greenlets.add(spawn(f"keeping {address}", self._keep, address))

    def stop(self) -> None:
        """Dial no more."""
        self._greenlets.kill()

    def _keep(self, address: str) -> None:
        backoff = Backoff(self._config)
        while (pause := self._live(address, backoff)) is not None:
            gevent.sleep(pause)

    def _live(self, address: str, backoff: Backoff) -> float | None:
        """Connect, and stay connected. Returns the seconds until the next attempt; ``None``: make no other."""
        try:
            channel = self._connect(address)
        except PeerNetError as error:
            pause = _pause_after(judge(error), backoff)
            self._failed(address, error, pause)
            return pause
        channel.wait_closed()
        # Up to the last sign of life: a channel may have been reconnecting in vain for minutes since.
        backoff.connected_for(channel.last_received - channel.connected_at)
        return _pause_after(judge_end(channel), backoff)


def _pause_after(verdict: Verdict, backoff: Backoff) -> float | None:
    backoff.fail()
    return None if verdict.hopeless else backoff.pause(verdict.retry_after)
