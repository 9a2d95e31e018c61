"""A node for the moment: the home's identity, one peer, and goodbye."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from peernet.errors import HomeError
from peernet.network import PeerNetwork
from peernet.node.messaging import ping, say
from peernet.node.node import make_network
from peernet.node.settings import Settings
from peernet.runtime.deadline import Deadline
from peernet.runtime.logs import get_logger
from peernet.state.home import Home
from peernet.switch.stores import PEERS

# What is left for the goodbye when the time is up: enough to write it, not to wait for the peer. Seconds.
LEAST_GOODBYE = 0.1

logger = get_logger(__name__)


def send_once(
    home: Home,
    settings: Settings,
    peer: str,
    message: dict[str, Any],
    timeout: float,
    confirm: bool,
    deadline: Deadline,
) -> dict[str, Any]:
    """Dial a peer, send it one message, say goodbye. The caller has locked the home.

    Raises:
        PeerNetError: it could not be done.
    """
    with momentary_network(home, settings, deadline) as network:
        return say(network, peer, message, timeout, confirm, deadline)


def ping_once(
    home: Home, settings: Settings, peer: str, timeout: float, count: int, deadline: Deadline
) -> list[dict[str, Any]]:
    """Dial a peer, ping it, say goodbye. The caller has locked the home.

    Raises:
        PeerNetError: it could not be done.
    """
    with momentary_network(home, settings, deadline) as network:
        return ping(network, peer, timeout, count, deadline)


@contextmanager
def momentary_network(
    home: Home, settings: Settings, deadline: Deadline, *, delivers_stored: bool = False
) -> Iterator[PeerNetwork]:
    """A network that accepts nobody, stopped at the end; whom it met is remembered."""
    settings = replace(settings, listen=())
    network = make_network(home, settings, changes_lists=False, delivers_stored=delivers_stored)
    network.start()
    try:
        yield network
    finally:
        network.stop(max(LEAST_GOODBYE, deadline.cap(settings.limits.close_timeout)))
        _save_known_peers(home, network)  # also if it failed: a peer that refuses a packet was met


def _save_known_peers(home: Home, network: PeerNetwork) -> None:
    try:
        PEERS.save(home.peers_file, list(network.known_peers))
    except HomeError as error:
        logger.warning("the known peers are not saved: %s", error)
