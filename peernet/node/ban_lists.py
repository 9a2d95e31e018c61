"""Looking at bans, making them and lifting them, with a running node or without one."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from peernet.config import NetworkConfig
from peernet.errors import ConfigurationError
from peernet.node.directory import LEAST_FOR_DECISIONS, Directory
from peernet.node.settings import load_settings
from peernet.node.trust_lists import directory_of_home
from peernet.peers.address import is_identifier
from peernet.runtime import clock
from peernet.runtime.text import short
from peernet.state.home import Home
from peernet.switch.stores import BANS
from peernet.trust.bans import Ban, Bans, ban_key
from peernet.trust.policy import IncomingPeerTrustPolicy


def whom_to_ban(text: str, directory: Directory) -> str:
    """The identifier or the address that is meant.

    Raises:
        ConfigurationError: nobody is meant, it could be several, or it is this node itself.
    """
    return _address_of(text) or directory.identifier(text, LEAST_FOR_DECISIONS)


def whom_to_unban(text: str | None, bans: Iterable[Ban], directory: Directory) -> list[str]:
    """Who of those that are banned is meant; all of them if ``text`` is ``None``.

    Raises:
        ConfigurationError: nobody is meant, or it could be several.
    """
    banned = [ban.who for ban in bans]
    if text is None:
        return banned
    who = _address_of(text) or directory.extended(filter(is_identifier, banned)).identifier(text)
    if who not in banned:
        name = short(who) if is_identifier(who) else who
        raise ConfigurationError(f"{name} is not banned; `peernet-node bans` lists who is")
    return [who]


def bans_of_home(home: Home) -> list[dict[str, Any]]:
    """The bans of a home on which no node runs, as plain values."""
    now = time.time()
    return [ban.to_dict() for ban in BANS.load(home.bans_file, look_only=True) if ban.expires > now]


def ban_home(home: Home, text: str, seconds: float | None) -> dict[str, Any]:
    """Ban somebody for the next node. The caller has locked the home.

    Raises:
        PeerNetError: nobody is meant, the time is none, or the file cannot be written.
    """
    bans = _kept(home, load_settings(home.config_file).limits)
    ban = bans.ban(whom_to_ban(text, directory_of_home(home)), seconds)
    BANS.save(home.bans_file, list(bans))
    return ban.to_dict()


def unban_home(home: Home, who: str | None) -> dict[str, Any]:
    """Lift bans that no running node uses. The caller has locked the home.

    Raises:
        PeerNetError: nobody is meant, or the file cannot be written.
    """
    bans = BANS.load(home.bans_file)
    unbanned = whom_to_unban(who, bans, directory_of_home(home))
    BANS.save(home.bans_file, [ban for ban in bans if ban.who not in unbanned])
    return {"unbanned": unbanned}


def _kept(home: Home, limits: NetworkConfig) -> Bans:
    """The bans of a home, under the rules of a network."""
    bans = Bans(limits, clock.monotonic, time.time, IncomingPeerTrustPolicy, lambda identifier: False)
    for ban in BANS.load(home.bans_file):
        bans.restore(ban)
    return bans


def _address_of(text: str) -> str | None:
    """The address that is meant, as it stands among the bans; ``None`` if the text is none."""
    return None if is_identifier(text) else ban_key(text)
