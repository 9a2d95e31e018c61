"""What a node remembers from one run to the next: whom it trusts, and whom it knows."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from peernet.address import PeerAddress, is_identifier
from peernet.errors import ConfigurationError, HomeError
from peernet.known_peers import KnownPeer
from peernet.logs import get_logger
from peernet.trust import IncomingPeerTrustPolicy

logger = get_logger(__name__)

VERSION = 1
# Many times what the largest address book takes; a file beyond it is not ours.
MAX_FILE = 64 * 1024 * 1024
# What reading a file raises that somebody has changed by hand, or that is another one altogether.
DAMAGES = (ValueError, TypeError, KeyError, AttributeError, RecursionError)
LISTS = tuple(field.name for field in fields(IncomingPeerTrustPolicy) if isinstance(field.default, frozenset))

Content = TypeVar("Content")


def load_trust(path: Path, *, look_only: bool = False) -> IncomingPeerTrustPolicy:
    """The policy with the lists kept in ``path``; the default policy if there is no such file.

    Args:
        path: the file.
        look_only: leave a damaged file where it is.
    """
    return _load(path, check_trust, IncomingPeerTrustPolicy(), look_only)


def save_trust(path: Path, policy: IncomingPeerTrustPolicy) -> None:
    """Keep the lists of a policy.

    Raises:
        HomeError: the file cannot be written.
    """
    _save(path, {name: sorted(getattr(policy, name)) for name in LISTS})


def load_peers(path: Path, *, look_only: bool = False) -> list[KnownPeer]:
    """The known peers kept in ``path``, the one not seen for longest first; none if there is no such file.

    Args:
        path: the file.
        look_only: leave a damaged file where it is.
    """
    return _load(path, check_peers, [], look_only)


def save_peers(path: Path, peers: Iterable[KnownPeer]) -> None:
    """Keep the known peers.

    Raises:
        HomeError: the file cannot be written.
    """
    _save(path, {"peers": [peer.to_dict() for peer in peers]})


def write_atomically(path: Path, content: bytes) -> None:
    """Replace a file, so that whatever happens either the old or the new content is there.

    Raises:
        HomeError: it cannot be written.
    """
    try:
        # A name that nobody has or can foresee: no other save writes there, and no link waits there.
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            _fill(descriptor, content)
            os.replace(temporary, path)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(temporary)
        _sync_folder(path.parent)
    except OSError as error:
        raise HomeError(f"cannot write {path} ({error.strerror}); make room, or choose another --home") from error


def _fill(descriptor: int, content: bytes) -> None:
    with open(descriptor, "wb") as file:
        if hasattr(os, "fchmod"):
            os.fchmod(descriptor, 0o600)  # whatever the umask takes away or leaves
        file.write(content)
        file.flush()
        os.fsync(descriptor)


def _sync_folder(folder: Path) -> None:
    """Have the new name on the disk too; without it, a power cut may bring the old content back."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _save(path: Path, content: dict[str, Any]) -> None:
    write_atomically(path, json.dumps({"version": VERSION, **content}, indent=1).encode() + b"\n")


def _load(path: Path, parse: Callable[[Path], Content], default: Content, look_only: bool) -> Content:
    try:
        return parse(path)
    except FileNotFoundError:
        return default
    except OSError as error:
        raise HomeError(f"cannot read {path} ({error.strerror}); check its permissions") from error
    except DAMAGES as error:
        if look_only:
            logger.warning("%s is damaged (%s); going on as if it were empty, as the next `run` will", path, error)
        else:
            _set_aside(path, error)
        return default


def _read(path: Path) -> dict[str, Any]:
    if path.stat().st_size > MAX_FILE:
        raise ValueError(f"it is larger than {MAX_FILE} bytes")
    content = json.loads(path.read_bytes())
    version = content["version"]
    if type(version) is not int or version < 1:
        raise ValueError(f"there is no version {version!r} of it")
    if version > VERSION:
        raise HomeError(f"{path} was written by a newer peernet; update this one")
    return dict(content)


def _set_aside(path: Path, error: Exception) -> None:
    """Keep a damaged file where nothing overwrites it, and say so."""
    kept = path.with_name(f"{path.name}.damaged-{int(time.time())}")
    try:
        path.replace(kept)
    except OSError as failure:
        raise HomeError(f"{path} is damaged and cannot be moved away ({failure.strerror}); remove it") from failure
    logger.warning(
        "%s is damaged (%s) and was set aside as %s; going on as if it were empty: repair it and move it back "
        "while no node is running",
        path,
        error,
        kept.name,
    )


def check_trust(path: Path) -> IncomingPeerTrustPolicy:
    """What is in a file of lists.

    Raises:
        HomeError: a newer peernet has written it.
        OSError: it cannot be read.
        ValueError: or another of :data:`DAMAGES`: it is damaged.
    """
    content = _read(path)
    unknown = sorted(set(content) - {"version", *LISTS})
    if unknown:
        raise ValueError(f"there is no list {unknown[0]!r}")
    lists: dict[str, Any] = {name: frozenset(content.get(name, ())) for name in LISTS}
    return IncomingPeerTrustPolicy(**lists)


def check_peers(path: Path) -> list[KnownPeer]:
    """What is in a file of known peers; raises as :func:`check_trust`."""
    return [_parse_peer(entry) for entry in _read(path)["peers"]]


def _parse_peer(entry: dict[str, Any]) -> KnownPeer:
    if not is_identifier(entry["identifier"]):
        raise ConfigurationError(f"{entry['identifier']!r} is not an identifier")
    addresses = [PeerAddress.parse(address).endpoint for address in entry["addresses"]]
    return KnownPeer(entry["identifier"], bool(entry["proven"]), addresses, float(entry["last_seen"]))
