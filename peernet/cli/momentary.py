"""A node for the moment: the home's identity, one peer, and goodbye."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from peernet.cli.home import Home
from peernet.cli.node import make_network
from peernet.cli.reach import ping, say
from peernet.cli.settings import Settings
from peernet.cli.state import save_peers
from peernet.deadline import Deadline
from peernet.errors import HomeError
from peernet.logs import get_logger
from peernet.network import PeerNetwork

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
    try:
        save_peers(home.peers_file, network.known_peers)
    except HomeError as error:
        logger.warning("the known peers are not saved: %s", error)
