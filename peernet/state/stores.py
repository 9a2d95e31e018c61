"""What a node remembers from one run to the next: whom it trusts, whom it knows, and who is banned."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any

from peernet.errors import ConfigurationError
from peernet.peers.address import PeerAddress, is_identifier
from peernet.peers.address_book import KnownPeer
from peernet.runtime.text import printable
from peernet.state.files import load, read, save
from peernet.trust.bans import Ban, ban_key
from peernet.trust.policy import IncomingPeerTrustPolicy

LISTS = tuple(field.name for field in fields(IncomingPeerTrustPolicy) if isinstance(field.default, frozenset))


def load_trust(path: Path, *, look_only: bool = False) -> IncomingPeerTrustPolicy:
    """The policy with the lists kept in ``path``; the default policy if there is no such file.

    Args:
        path: the file.
        look_only: leave a damaged file where it is.
    """
    return load(path, check_trust, IncomingPeerTrustPolicy(), look_only)


def save_trust(path: Path, policy: IncomingPeerTrustPolicy) -> None:
    """Keep the lists of a policy.

    Raises:
        HomeError: the file cannot be written.
    """
    save(path, {name: sorted(getattr(policy, name)) for name in LISTS})


def load_peers(path: Path, *, look_only: bool = False) -> list[KnownPeer]:
    """The known peers kept in ``path``, the one not seen for longest first; none if there is no such file.

    Args:
        path: the file.
        look_only: leave a damaged file where it is.
    """
    return load(path, check_peers, [], look_only)


def save_peers(path: Path, peers: Iterable[KnownPeer]) -> None:
    """Keep the known peers.

    Raises:
        HomeError: the file cannot be written.
    """
    save(path, {"peers": [peer.to_dict() for peer in peers]})


def load_bans(path: Path, *, look_only: bool = False) -> list[Ban]:
    """The bans kept in ``path``; none if there is no such file.

    Args:
        path: the file.
        look_only: leave a damaged file where it is.
    """
    return load(path, check_bans, [], look_only)


def save_bans(path: Path, bans: Iterable[Ban]) -> None:
    """Keep bans.

    Raises:
        HomeError: the file cannot be written.
    """
    save(path, {"bans": [ban.to_dict() for ban in bans]})


def check_trust(path: Path) -> IncomingPeerTrustPolicy:
    """What is in a file of lists.

    Raises:
        HomeError: a newer peernet has written it.
        OSError: it cannot be read.
        ValueError: or another of :data:`~peernet.state.files.DAMAGES`: it is damaged.
    """
    content = read(path, LISTS)
    lists: dict[str, Any] = {name: frozenset(content.get(name, ())) for name in LISTS}
    return IncomingPeerTrustPolicy(**lists)


def check_peers(path: Path) -> list[KnownPeer]:
    """What is in a file of known peers; raises as :func:`check_trust`."""
    return [_parse_peer(entry) for entry in read(path, ["peers"])["peers"]]


def check_bans(path: Path) -> list[Ban]:
    """What is in a file of bans; raises as :func:`check_trust`."""
    return [_parse_ban(entry) for entry in read(path, ["bans"])["bans"]]


def _parse_peer(entry: dict[str, Any]) -> KnownPeer:
    if not is_identifier(entry["identifier"]):
        raise ConfigurationError(f"{entry['identifier']!r} is not an identifier")
    return KnownPeer(
        entry["identifier"],
        bool(entry["proven"]),
        [PeerAddress.parse(address).endpoint for address in entry["addresses"]],
        _number(entry["last_seen"]),
        printable(entry.get("source", "")),  # these two came with the second version
        bool(entry.get("kept", False)),
    )


def _parse_ban(entry: dict[str, Any]) -> Ban:
    if ban_key(entry["who"]) != entry["who"]:
        raise ConfigurationError(f"{entry['who']!r} is nothing that can be banned")
    score, since, expires = (_number(entry[name]) for name in ("score", "since", "expires"))
    return Ban(entry["who"], printable(entry["reason"]), score, since, expires, bool(entry["manual"]))


def _number(value: object) -> float:
    """
    Raises:
        ValueError, TypeError, OverflowError: it is none, or not one that can be counted with.
    """
    number = float(value)  # type: ignore[arg-type]  # then it raises
    if not math.isfinite(number):
        raise ValueError(f"{value!r} is no time")
    return number
