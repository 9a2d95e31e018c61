"""The settings of a node: a flag beats the environment (``PEERNET_*``), which beats ``config.toml``."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peernet.config import KEY_EXCHANGES, PROFILES, NetworkConfig, brief, check_network_name, find_mistakes
from peernet.errors import ConfigurationError
from peernet.node.directory import check_listen
from peernet.peers.address import PeerAddress

if TYPE_CHECKING:
    from peernet.trust.policy import IncomingPeerTrustPolicy

TABLES = ("node", "limits")
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
    "profile": "default",
    "allow_loopback_burst": False,
    "key_exchange": "hybrid",
}
# These are limits as well: what stands in [node] beats [limits] and the profile.
AMONG_LIMITS = ("allow_loopback_burst", "key_exchange")

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
# profile = "default"            # limits for a small machine ("tiny") or for thousands of channels ("server")
# allow_loopback_burst = false   # true: programs on this machine may connect as often as they like
# key_exchange = "hybrid"        # "x25519" is smaller, and not safe from later quantum computers

[limits]
# max_inbound = 128              # `peernet-node limits` lists all of them
"""


class SettingsError(ConfigurationError):
    """Settings that cannot work.

    Attributes:
        mistakes: a sentence about each of them; the message is the first.
    """

    def __init__(self, mistakes: list[str]) -> None:
        super().__init__(mistakes[0])
        self.mistakes = mistakes


@dataclass(frozen=True)
class Settings:
    """What a node is run with.

    Attributes:
        sources: where each of the values comes from: flag, environment, file or default.
        limit_sources: the same for each limit; ``profile`` is another place.
    """

    listen: tuple[str, ...]
    connect: tuple[str, ...]
    network: str
    insecure: bool
    placement: str
    allow_default_communication: bool
    allow_enhanced_packet_exchange: bool
    profile: str
    allow_loopback_burst: bool
    key_exchange: str
    limits: NetworkConfig
    sources: Mapping[str, str]
    limit_sources: Mapping[str, str]

    def applied_to(self, policy: IncomingPeerTrustPolicy) -> IncomingPeerTrustPolicy:
        """A policy with the switches and the placement of these settings."""
        from peernet.trust.policy import IncomingPeerMode  # only when needed: it takes half the time of `--version`

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
        SettingsError: values that cannot work; the message says where the first comes from.
    """
    environment = os.environ if environment is None else environment
    file = read_config(config_file)
    mistakes = _unknown_names(file, config_file)
    node, limits = (table if isinstance(table := file.get(name, {}), dict) else {} for name in TABLES)
    values, sources = {}, {}
    for name in DEFAULTS:
        try:
            values[name], sources[name] = _value(name, flags or {}, environment, node, config_file)
        except ConfigurationError as error:
            mistakes.append(str(error))
    profile = values.get("profile", DEFAULTS["profile"])
    mistakes += [f"{config_file}, [limits]: {mistake}" for mistake in find_mistakes(limits, profile)]
    if mistakes:
        raise SettingsError(mistakes)
    limit_sources = dict.fromkeys(PROFILES[profile], "profile") | dict.fromkeys(limits, "file")
    for name in AMONG_LIMITS:
        if sources[name] != "default":
            limits = limits | {name: values[name]}
            limit_sources[name] = sources[name]
    in_force = NetworkConfig.from_mapping(limits, profile)
    for name in AMONG_LIMITS:
        values[name], sources[name] = getattr(in_force, name), limit_sources.get(name, "default")
    return Settings(**values, limits=in_force, sources=sources, limit_sources=limit_sources)


def _value(
    name: str, flags: Mapping[str, Any], environment: Mapping[str, str], node: Mapping[str, Any], config_file: Path
) -> tuple[Any, str]:
    """The value of a setting in force, and where it comes from."""
    variable = variable_of(name)
    if flags.get(name) not in (None, ()):
        return flags[name], "flag"
    if environment.get(variable, "").strip():  # an empty one counts as not set, as for --home and --output
        return _checked(name, _split(name, environment[variable]), variable), "environment"
    if name in node:
        return _checked(name, node[name], str(config_file)), "file"
    return DEFAULTS[name], "default"


def variable_of(name: str) -> str:
    """The environment variable of a setting."""
    return f"PEERNET_{name.upper()}"


def _unknown_names(file: Mapping[str, Any], path: Path) -> list[str]:
    """A sentence for each name that does not belong where it stands."""
    mistakes = []
    for name, value in file.items():
        if name in TABLES:
            if not isinstance(value, dict):
                mistakes.append(f"{path}: {name} is a table; write [{name}] on a line of its own, and its values below")
        elif isinstance(value, dict):
            mistakes.append(f"{path}: there is no table [{name}]; there are [node] and [limits]")
        else:
            mistakes.append(f"{path}: {name} stands in no table; put it below [node] or [limits]")
    node = file.get("node")
    unknown = [name for name in node if name not in DEFAULTS] if isinstance(node, dict) else []
    listed = ", ".join(DEFAULTS)
    return mistakes + [f"{path}: there is no setting {name!r} in [node]; there are {listed}" for name in unknown]


def read_config(path: Path) -> dict[str, Any]:
    """What is in ``config.toml``; nothing if there is no such file.

    Raises:
        ConfigurationError: it cannot be read, or is no TOML.
    """
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
    except ValueError as error:  # the only other one is that of a number that Python does not convert
        raise ConfigurationError(f"{path} is not valid TOML: a number in it has too many digits") from error
    except RecursionError as error:
        raise ConfigurationError(f"{path} is not valid TOML: it is nested too deeply") from error


def _split(name: str, text: str) -> Any:
    if isinstance(DEFAULTS[name], tuple):
        return text.split()
    return text


def _checked(name: str, value: Any, source: str) -> Any:
    try:
        return CHECKS[name](value)
    except ConfigurationError as error:
        raise ConfigurationError(f"{source}: {name}: {error}") from error


def _listen_addresses(value: Any) -> tuple[str, ...]:
    return tuple(map(check_listen, _texts(value)))


def _addresses(value: Any) -> tuple[str, ...]:
    texts = _texts(value)
    for text in texts:
        PeerAddress.parse(text)
    return tuple(texts)


def _texts(value: Any) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
        raise ConfigurationError('it must be a list of texts, such as ["127.0.0.1:7400"]')
    return value


def _network(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ConfigurationError(f"it must be a text, not {brief(value)}")
    try:
        value.encode()
    except UnicodeEncodeError as error:  # from the environment, which may hold any bytes
        raise ConfigurationError("it is not UTF-8 text") from error
    check_network_name(value)
    return value


def _switch(value: Any) -> bool:
    lowered = (value if isinstance(value, str) else brief(value)).lower()
    if lowered not in TRUE | FALSE:
        raise ConfigurationError(f"it must be true or false, not {brief(value)}")
    return lowered in TRUE


def _placement(value: Any) -> str:
    if value not in PLACEMENTS:
        raise ConfigurationError(f"it must be one of {', '.join(PLACEMENTS)}, not {brief(value)}")
    return str(value)


def _profile(value: Any) -> str:
    if value not in PROFILES:
        raise ConfigurationError(f"it must be one of {', '.join(PROFILES)}, not {brief(value)}")
    return str(value)


def _key_exchange(value: Any) -> str:
    if value not in KEY_EXCHANGES:
        raise ConfigurationError(f"it must be one of {', '.join(KEY_EXCHANGES)}, not {brief(value)}")
    return str(value)


CHECKS: dict[str, Callable[[Any], Any]] = {
    "listen": _listen_addresses,
    "connect": _addresses,
    "network": _network,
    "insecure": _switch,
    "placement": _placement,
    "allow_default_communication": _switch,
    "allow_enhanced_packet_exchange": _switch,
    "profile": _profile,
    "allow_loopback_burst": _switch,
    "key_exchange": _key_exchange,
}
