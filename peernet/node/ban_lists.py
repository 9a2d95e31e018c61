"""Looking at bans and lifting them, with a running node or without one."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from peernet.errors import ConfigurationError
from peernet.node.directory import Directory
from peernet.peers.address import is_identifier
from peernet.state.home import Home
from peernet.switch.stores import BANS
from peernet.trust.bans import Ban, ban_key


def chosen(text: str | None, bans: Iterable[Ban]) -> list[str]:
    """Who of those that are banned is meant; all of them if ``text`` is ``None``.

    Raises:
        ConfigurationError: nobody is meant, or it could be several.
    """
    banned = [ban.who for ban in bans]
    if text is None:
        return banned
    directory = Directory((who, ()) for who in banned if is_identifier(who))
    who = ban_key(text) or directory.identifier(text)
    if who not in banned:
        raise ConfigurationError(f"{text} is not banned; `peernet-node bans` lists who is")
    return [who]


def bans_of_home(home: Home) -> list[dict[str, Any]]:
    """The bans of a home on which no node runs, as plain values."""
    now = time.time()
    return [ban.to_dict() for ban in BANS.load(home.bans_file, look_only=True) if ban.expires > now]


def unban_home(home: Home, who: str | None) -> dict[str, Any]:
    """Lift bans that no running node uses. The caller has locked the home.

    Raises:
        PeerNetError: nobody is meant, or the file cannot be written.
    """
    bans = BANS.load(home.bans_file)
    unbanned = chosen(who, bans)
    BANS.save(home.bans_file, [ban for ban in bans if ban.who not in unbanned])
    return {"unbanned": unbanned}
