"""The settings of a node: a flag beats the environment (``PEERNET_*``), which beats ``config.toml``."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peernet.address import PeerAddress
from peernet.config import NetworkConfig
from peernet.errors import ConfigurationError

if TYPE_CHECKING:
    from peernet.trust import IncomingPeerTrustPolicy

PLACEMENTS = ("event", "queue", "both")
TRUE = frozenset({"1", "true", "yes", "on"})
FALSE = frozenset({"0", "false", "no", "off"})

# Reachable from this machine only, until somebody decides otherwise.
DEFAULTS: dict[str, Any] = {
    "listen": ("127.0.0.1:0",),
    "connect": (),
    "network": "peernet",
    "insecure": False,
    "placement": "event",
    "allow_default_communication": True,
    "allow_enhanced_packet_exchange": False,
}

TEMPLATE = """\
# Settings of this node. A flag beats the environment (PEERNET_*), which beats this file.
# `peernet-node config validate` checks it, `peernet-node config show` tells what is in force.

[node]
# listen = ["0.0.0.0:7400"]      # where to accept connections; port 0 lets the system choose
# connect = []                   # peers to keep connected to: "peer://<identifier>@host:port"
# network = "peernet"            # only peers that give the same name are talked to
# insecure = false               # true: plain TCP, where nobody can prove who they are
# placement = "event"            # inbound peers: "event" lets them in, "queue" and "both" hold them
# allow_default_communication = true       # untrusted peers may send text messages
# allow_enhanced_packet_exchange = false   # untrusted peers may send everything else too

[limits]
# max_inbound = 128              # `peernet-node limits` lists all of them
"""


@dataclass(frozen=True)
class Settings:
    """What a node is run with.

    Attributes:
        sources: where each of the values comes from: flag, environment, file or default.
    """

    listen: tuple[str, ...]
    connect: tuple[str, ...]
    network: str
    insecure: bool
    placement: str
    allow_default_communication: bool
    allow_enhanced_packet_exchange: bool
    limits: NetworkConfig
    sources: Mapping[str, str]

    def applied_to(self, policy: IncomingPeerTrustPolicy) -> IncomingPeerTrustPolicy:
        """A policy with the switches and the placement of these settings."""
        from peernet.trust import IncomingPeerMode  # only when needed: it takes half the time of `--version`

        return replace(
            policy,
            incoming_peer_placement=IncomingPeerMode(self.placement),
            allow_default_communication=self.allow_default_communication,
            allow_enhanced_packet_exchange=self.allow_enhanced_packet_exchange,
        )


def load_settings(
    config_file: Path, flags: Mapping[str, Any] | None = None, environment: Mapping[str, str] | None = None
) -> Settings:
    """The settings in force.

    Args:
        config_file: it need not exist.
        flags: values from the command line; ``None`` and ``()`` mean not given.
        environment: ``os.environ`` if not given.

    Raises:
        ConfigurationError: a value that cannot work; the message says where it comes from.
    """
    file = read_config(config_file)
    environment = os.environ if environment is None else environment
    values, sources = {}, {}
    for name, default in DEFAULTS.items():
        variable = variable_of(name)
        if flags and flags.get(name) not in (None, ()):
            values[name], sources[name] = flags[name], "flag"
        elif variable in environment:
            values[name], sources[name] = _checked(name, _split(name, environment[variable]), variable), "environment"
        elif name in file["node"]:
            values[name], sources[name] = _checked(name, file["node"][name], str(config_file)), "file"
        else:
            values[name], sources[name] = default, "default"
    return Settings(**values, limits=_limits(file["limits"], config_file), sources=sources)


def variable_of(name: str) -> str:
    """The environment variable of a setting."""
    return f"PEERNET_{name.upper()}"


def read_config(path: Path) -> dict[str, dict[str, Any]]:
    """The tables of ``config.toml``, both of which may be empty.

    Raises:
        ConfigurationError: it cannot be read, is no TOML, or has tables or settings that do not exist.
    """
    content = _parse_toml(path)
    for table, value in content.items():
        if table not in ("node", "limits") or not isinstance(value, dict):
            raise ConfigurationError(f"{path}: there is no table [{table}]; there are [node] and [limits]")
    for name in content.get("node", ()):
        if name not in DEFAULTS:
            raise ConfigurationError(f"{path}: there is no setting {name!r} in [node]; there are {', '.join(DEFAULTS)}")
    return {"node": content.get("node", {}), "limits": content.get("limits", {})}


def _parse_toml(path: Path) -> dict[str, Any]:
    try:
        text = path.read_bytes().decode()
    except (FileNotFoundError, NotADirectoryError):
        return {}  # if the folder is no folder, whoever needs it says so
    except OSError as error:
        raise ConfigurationError(f"cannot read {path} ({error.strerror}); check its permissions") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path} is not UTF-8 text; save it as such") from error
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path} is not valid TOML: {error}") from error


def _limits(values: dict[str, Any], path: Path) -> NetworkConfig:
    try:
        return NetworkConfig.from_mapping(values)
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}, [limits]: {error}") from error


def _split(name: str, text: str) -> Any:
    if isinstance(DEFAULTS[name], tuple):
        return text.split()
    return text


def _checked(name: str, value: Any, source: str) -> Any:
    try:
        return CHECKS[name](value)
    except ConfigurationError as error:
        raise ConfigurationError(f"{source}: {name}: {error}") from error


def _addresses(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
        raise ConfigurationError('it must be a list of texts, such as ["127.0.0.1:7400"]')
    for entry in value:
        PeerAddress.parse(entry)
    return tuple(value)


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ConfigurationError(f"it must be a text, not {value!r}")
    try:
        value.encode()
    except UnicodeEncodeError as error:  # from the environment, which may hold any bytes
        raise ConfigurationError("it is not UTF-8 text") from error
    return value


def _switch(value: Any) -> bool:
    lowered = str(value).lower()
    if lowered not in TRUE | FALSE:
        raise ConfigurationError(f"it must be true or false, not {value!r}")
    return lowered in TRUE


def _placement(value: Any) -> str:
    if value not in PLACEMENTS:
        raise ConfigurationError(f"it must be one of {', '.join(PLACEMENTS)}, not {value!r}")
    return str(value)


CHECKS: dict[str, Callable[[Any], Any]] = {
    "listen": _addresses,
    "connect": _addresses,
    "network": _text,
    "insecure": _switch,
    "placement": _placement,
    "allow_default_communication": _switch,
    "allow_enhanced_packet_exchange": _switch,
}
