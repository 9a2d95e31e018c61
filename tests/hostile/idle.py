"""Very many channels on which nothing happens."""

from __future__ import annotations

import math
import resource
import time
from typing import Any

from tests.hostile.honest import SOURCES, Figures
from tests.hostile.node import Load, Victim, in_ms
from tests.hostile.raw import Peer
from tests.hostile.watching import watching
from tests.hostile.wire import HEARTBEAT, body, heartbeat, hello, number, session

LOOKED_AT_EVERY = 2  # seconds: the node looks for those that are due once a second, when it finds the time
SPARE = 200  # descriptors for everything else, here and there


def limits_for(channels: int, **others: float) -> dict[str, Any]:
    """Limits with which a node lets so many in."""
    return {"max_inbound": channels + 10, **others}


def raise_limit(channels: int) -> str:
    """Have enough descriptors for so many channels, here and in what is started from now on.

    Returns:
        What is missing; nothing if there are enough.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = channels + SPARE
    if hard not in (resource.RLIM_INFINITY,) and hard < wanted:
        return f"{wanted} descriptors are needed, and the hard limit is {hard}: raise it with `ulimit -Hn {wanted}`"
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    return ""


def idle(victim: Victim, *, channels: int = 5000, seconds: float = 50, interval: float = 15) -> Figures:
    """Peers that send what they must, and nothing else.

    Args:
        victim: with room for them.
        channels: how many.
        seconds: for how long.
        interval: how often each side must send a heartbeat; seconds.
    """
    promise = number(7, math.ceil(1000 * interval))
    with victim.read_by_somebody(), watching(victim, 0.05) as watch:
        before, began = victim.memory, time.monotonic()
        peers = [
            Peer(victim.port, next(SOURCES), None, hello("peernet", promise, session(one + 1)))
            for one in range(channels)
        ]
        connected = time.monotonic() - began
        each = (victim.memory - before) / channels
        watch.asking.took.clear()
        load = Load(victim)
        late = _keep_alive(peers, seconds, interval)
        share, figures = load.share, watch.figures
        heard = [_heartbeats(peer) for peer in peers]
    for peer in peers:
        peer.close()
    return {
        **figures,
        "channels": channels,
        "kib_each": round(each / 1024, 1),
        "connected_s": round(connected, 1),
        "cpu": round(share, 3),
        "fewest_heartbeats": min(heard),
        "due_heartbeats": int(seconds // (interval + LOOKED_AT_EVERY)),
        "our_heartbeats_late_ms": in_ms(late),
        "timeouts": victim.status["counters"].get("timeout", 0),
    }


def _keep_alive(peers: list[Peer], seconds: float, interval: float) -> list[float]:
    """Send a heartbeat from each, all of them spread over two thirds of the interval. Returns how late some were."""
    began, late, turn = time.monotonic(), [], 0
    while time.monotonic() - began < seconds:
        for index, peer in enumerate(peers):
            due = began + 2 / 3 * interval * (turn + index / len(peers))
            time.sleep(max(0.0, due - time.monotonic()))
            late.append(time.monotonic() - due)
            peer.send(heartbeat())
            if due - began > seconds:
                break
        turn += 1
    return late


def _heartbeats(peer: Peer) -> int:
    """How many heartbeats have come."""
    return sum(body(packet)[0] == HEARTBEAT for packet in peer.pending())
