"""Figures of a running node: what `status` shows."""

from __future__ import annotations

import gc
import os
import time
from collections import deque
from typing import Any

import gevent
import greenlet
import psutil

from peernet._version import __version__
from peernet.channel.state import ChannelState
from peernet.network import PeerNetwork
from peernet.runtime.greenlets import spawn
from peernet.state.home import Home

# The hub's lag is measured this often, and the worst of so many measurements is shown. Seconds.
LAG_INTERVAL = 0.25
LAGS_KEPT = 40
# The greenlets are counted at most this often. Seconds.
COUNT_INTERVAL = 1.0


class LagMeter:
    """Measures how late greenlets are woken because others do not let go."""

    def __init__(self) -> None:
        self._lags: deque[float] = deque([0.0], maxlen=LAGS_KEPT)
        self._greenlet = spawn("lag meter", self._measure)

    @property
    def worst_ms(self) -> float:
        """The worst lag of the last seconds, in milliseconds."""
        return round(1000 * max(self._lags), 2)

    def stop(self) -> None:
        """Measure no more."""
        self._greenlet.kill()

    def _measure(self) -> None:
        while True:
            due = time.monotonic() + LAG_INTERVAL
            gevent.sleep(LAG_INTERVAL)
            self._lags.append(max(0.0, time.monotonic() - due))


class GreenletCount:
    """How many greenlets there are, whoever started them.

    Nobody keeps count: all objects have to be looked at, which stops the hub for tens of milliseconds
    when there are thousands of channels. So whoever asks again soon gets the same answer.
    """

    def __init__(self) -> None:
        self._count = 0
        self._counted_at = float("-inf")

    @property
    def latest(self) -> int:
        """The number now, or that of less than a second ago."""
        now = time.monotonic()
        if now - self._counted_at >= COUNT_INTERVAL:
            self._count = sum(isinstance(thing, greenlet.greenlet) and not thing.dead for thing in gc.get_objects())
            self._counted_at = now
        return self._count


class NodeStatus:
    """What `status` shows of one node. It measures from now on, until :meth:`stop`.

    Args:
        network: the node's.
        home: its home folder.
    """

    def __init__(self, network: PeerNetwork, home: Home) -> None:
        self._network = network
        self._home = home
        self._lag = LagMeter()
        self._greenlets = GreenletCount()
        self._started_at = time.monotonic()

    def stop(self) -> None:
        """Measure no more."""
        self._lag.stop()

    def report(self) -> dict[str, Any]:
        """Everything, as plain values."""
        network = self._network
        channels = network.active_peer_channels
        policy = network.policy
        return {
            "identifier": network.identifier,
            "addresses": network.addresses,
            "network": network.network_name,
            "insecure": network.insecure,
            "placement": policy.incoming_peer_placement.value,
            "home": str(self._home),
            "version": __version__,
            "pid": os.getpid(),
            "uptime": round(time.monotonic() - self._started_at, 1),
            "channels": len(channels),
            "connected": sum(channel.state is ChannelState.OPEN for channel in channels),
            "reconnecting": sum(channel.state is ChannelState.RECONNECTING for channel in channels),
            "trusted": sum(channel.trusted for channel in channels),
            "pending": len(network.inbound_connecting_peers),
            "known_peers": len(network.known_peers),
            "blocked": len(policy.blocked_identifiers) + len(policy.blocked_networks),
            "banned": len(network.bans),
            "queued_bytes": sum(channel.queued_bytes for channel in channels),
            "rss": psutil.Process().memory_info().rss,
            "fds": _descriptors(),
            "greenlets": self._greenlets.latest,
            "hub_lag_ms": self._lag.worst_ms,
            "counters": dict(sorted(network.counters.items())),
        }


def _descriptors() -> int:
    """Open descriptors; 0 on Windows, which has none."""
    process = psutil.Process()
    return process.num_fds() if hasattr(process, "num_fds") else 0
