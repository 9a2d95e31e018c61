"""IpNetworks: a set of networks of IP addresses, which answers quickly whether an address is in it."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv6Address, ip_network

from peernet.errors import ConfigurationError
from peernet.peers.address import parse_ip


class IpNetworks:
    """A set of IP networks. A look-up costs one set look-up per prefix length in use.

    Args:
        cidrs: networks such as ``10.0.0.0/8``, or single addresses.

    Raises:
        ConfigurationError: one of them is not a network.
    """

    def __init__(self, cidrs: Iterable[str]) -> None:
        self._networks: dict[tuple[int, int], set[int]] = {}
        for cidr in cidrs:
            version, bits, shift = _parse_network(cidr)
            self._networks.setdefault((version, shift), set()).add(bits)

    def __bool__(self) -> bool:
        return bool(self._networks)

    def __contains__(self, host: str) -> bool:
        version, bits = _parse_host(host)
        return any(
            version == known and bits >> shift in prefixes for (known, shift), prefixes in self._networks.items()
        )


def _parse_network(cidr: str) -> tuple[int, int, int]:
    """Version and leading bits of a network, and how many bits follow; IPv4-mapped IPv6 counts as IPv4."""
    try:
        network = ip_network(str(cidr))  # of a number it would make an address
    except ValueError as error:
        raise ConfigurationError(f"{cidr!r} is not a network: {error}; write 10.0.0.0/8 or 2001:db8::/32") from error
    shift = network.max_prefixlen - network.prefixlen
    first = network.network_address
    if isinstance(first, IPv6Address) and first.ipv4_mapped is not None and shift <= 32:
        first = first.ipv4_mapped
    return first.version, int(first) >> shift, shift


def _parse_host(host: str) -> tuple[int, int]:
    """Version and bits of an address; zeros for a name, which is in no network."""
    address = parse_ip(host)
    return (0, 0) if address is None else (address.version, int(address))
