"""PersistentPeers: peers that a node keeps being connected to."""

from __future__ import annotations

from collections.abc import Callable

import gevent

from peernet.channel.channel import PeerChannel
from peernet.config import NetworkConfig
from peernet.connections.retry import NOT_LET_IN, backoff, judge, judge_end
from peernet.errors import PeerNetError
from peernet.runtime.greenlets import OwnedGroup, spawn

# Called with the address, what went wrong, and the seconds until the next attempt, or None if there is none.
Failed = Callable[[str, PeerNetError, "float | None"], None]


class PersistentPeers:
    """Dials addresses, and dials them again for ever when that fails or the connection ends.

    It gives up an address only if it leads back to this node, if the peer asks not to be
    dialled again, or if this node itself closed the channel.

    Args:
        config: the pauses.
        connect: makes one attempt, and returns the channel to the peer at an address.
        failed: is told of each attempt that has failed.
    """

    def __init__(self, config: NetworkConfig, connect: Callable[[str], PeerChannel], failed: Failed) -> None:
        self._config = config
        self._connect = connect
        self._failed = failed
        self._greenlets = OwnedGroup()

    def keep(self, address: str) -> None:
        """Dial an address from now on, in the background."""
        self._greenlets.add(spawn(f"keeping {address}", self._keep, address))

    def stop(self) -> None:
        """Dial no more."""
        self._greenlets.kill()

    def _keep(self, address: str) -> None:
        failures = 0
        while True:  # ends when there is no point in another dial, or with stop()
            try:
                channel = self._connect(address)
            except PeerNetError as error:
                judgement = judge(error)
                pause = None if judgement.hopeless else backoff(self._config, failures, judgement.retry_after)
                self._failed(address, error, pause)
                if pause is None:
                    return
                failures += 1
            else:
                channel.wait_closed()
                judgement = judge_end(channel)
                if judgement.hopeless:
                    return
                failures = 0 if self._was_healthy(channel) else failures + 1
                pause = backoff(self._config, failures, judgement.retry_after)
            gevent.sleep(pause)

    def _was_healthy(self, channel: PeerChannel) -> bool:
        """Whether the last connection has worked for so long that earlier failures count no more.

        Up to the last sign of life: the channel may have been reconnecting in vain for minutes since. A peer that
        was held and then not let in has not worked at all, however long it was held.
        """
        if channel.ended_by_peer and channel.reason in NOT_LET_IN:
            return False
        return channel.last_received - channel.connected_at >= self._config.healthy_after
