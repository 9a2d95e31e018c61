"""Checks of a home folder and its settings, for `doctor`. Looks, and changes nothing."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from peernet.config import NetworkConfig
from peernet.environment import Finding
from peernet.errors import HomeError, PeerNetError
from peernet.node.settings import load_settings
from peernet.peers.identity import KEY_FILE, Identity, key_exposure
from peernet.state.files import DAMAGES
from peernet.state.home import Home
from peernet.switch.stores import BANS, PEERS, TRUST
from peernet.transport.tls import groups_offered


def examine_home(home: Home) -> Iterator[Finding]:
    """Look at the folder, its key, its settings and its state files, and at what the settings mean for TLS."""
    yield _folder(home)
    yield _key_exchange(home)
    if not os.path.isdir(home.folder):
        return
    # Not Path.exists, which itself raises if the folder cannot be searched.
    if os.path.exists(home.folder / KEY_FILE):
        yield _attempt("key", lambda: f"{Identity.load(home.folder).identifier}")
        yield _secrecy(home)
    yield _attempt("settings", lambda: _settings(home))
    files: dict[Path, Callable[[Path], object]] = {
        home.trust_file: TRUST.check,
        home.peers_file: PEERS.check,
        home.bans_file: BANS.check,
    }
    for file, check in files.items():
        if os.path.exists(file):
            yield _state(file, check)


def _good(name: str, message: str) -> Finding:
    return Finding(name, True, "info", message)


def _bad(name: str, message: str) -> Finding:
    return Finding(name, False, "error", message)


def _key_exchange(home: Home) -> Finding:
    """What is offered. Settings that cannot be read are a finding of their own."""
    try:
        wanted = load_settings(home.config_file).key_exchange
    except PeerNetError:
        wanted = NetworkConfig().key_exchange
    offered = ", then ".join(groups_offered(wanted)) or "what this version of OpenSSL chooses"
    return _good("key exchange", f"{wanted}: {offered}")


def _attempt(name: str, look: Callable[[], str]) -> Finding:
    try:
        return _good(name, look())
    except PeerNetError as error:
        return _bad(name, str(error))


def _folder(home: Home) -> Finding:
    try:
        danger = home.danger()
    except FileNotFoundError:
        return _good("home", f"{home} does not exist yet; `peernet-node init` or `run` makes it")
    except OSError as error:
        return _bad("home", str(home.unusable(error)))
    if not os.path.isdir(home.folder):
        return _bad("home", f"{home} is a file, not a folder; choose another with --home")
    if danger:
        return _bad("home", danger)
    if not os.access(home.folder, os.W_OK | os.X_OK):
        return _bad("home", f"{home} cannot be written; change its permissions, or choose another with --home")
    return _good("home", str(home))


def _secrecy(home: Home) -> Finding:
    exposure = key_exposure(home.folder)
    return _bad("key permissions", exposure) if exposure else _good("key permissions", "only the owner can read it")


def _settings(home: Home) -> str:
    load_settings(home.config_file)
    return f"{home.config_file} is valid" if os.path.exists(home.config_file) else "defaults"


def _state(file: Path, check: Callable[[Path], object]) -> Finding:
    try:
        check(file)
    except (OSError, HomeError) as error:
        return _bad(file.name, str(error))
    except DAMAGES as error:
        return _bad(file.name, f"{file} cannot be read ({error}); the next run sets it aside and starts without it")
    return _good(file.name, "can be read")
