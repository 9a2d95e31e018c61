"""HandshakeSlots: which of the strangers may begin a handshake. It only counts; time is passed in.

A stranger is a connection that has not proven an identity yet. Slots are few, so that strangers cannot use
up memory, descriptors and time; few of them go to one source, so that one source cannot take them all; and one
who takes long gives way, so that those who stay silent do not shut out those who mean it.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from ipaddress import IPv4Address

from peernet.config import NetworkConfig
from peernet.peers.address import parse_ip
from peernet.runtime.token_bucket import TokenBuckets

ACCEPT_RATE = "refused_accept_rate"
ADDRESS_LIMIT = "refused_address_limit"
EARLY_DROP = "refused_early_drop"
TOO_MANY_STRANGERS = "refused_too_many_strangers"
GAVE_WAY = "handshake_gave_way"

# Of an IPv6 address. A customer of a provider has a /56 or more (RFC 6177), in which a single machine can choose
# any address; libp2p counts the same.
SITE_BITS = 56


# How many times the rate of strangers those who are known may come from one source. Each costs the
# time of a handshake, so this is a share of the processor: about a fifth of a core.
KNOWN_SHARE = 5


class Slot:
    """The slot of one stranger.

    Attributes:
        source: who it counts for; see :func:`source_of`.
        since: when it was taken.
        gave_way: whether somebody else has got it meanwhile.
    """

    __slots__ = ("gave_way", "since", "source")

    def __init__(self, source: Hashable, since: float) -> None:
        self.source = source
        self.since = since
        self.gave_way = False


@dataclass(frozen=True)
class Verdict:
    """What becomes of a new connection.

    Attributes:
        slot: what it has got, if it may go on.
        refused: the counter to note it under, if it is not.
        gives_way: the slot that was taken away for it, whose connection is to be cut.
    """

    slot: Slot | None = None
    refused: str = ""
    gives_way: Slot | None = None


class HandshakeSlots:
    """Counts the strangers of one node.

    Args:
        config: the limits.

    Attributes:
        by_source: how many slots each source has.
        rates: how often each source came lately.
    """

    def __init__(self, config: NetworkConfig) -> None:
        self._config = config
        self._taken: OrderedDict[Slot, None] = OrderedDict()  # oldest first
        self.by_source: Counter[Hashable] = Counter()
        self.rates = TokenBuckets(config.accept_rate, config.accept_burst, config.max_accept_sources)
        self._acquaintances = TokenBuckets(config.accept_rate, config.accept_burst, config.max_accept_sources)
        self._given_back = TokenBuckets(
            KNOWN_SHARE * config.accept_rate, KNOWN_SHARE * config.accept_burst, config.max_accept_sources
        )

    def __len__(self) -> int:
        return len(self._taken)

    def take(self, host: str, now: float, chance: float) -> Verdict:
        """Give a new connection a slot, or refuse it. Costs the same however many there are.

        Args:
            host: the IP address that it comes from.
            now: seconds of a monotonic clock.
            chance: a random number, at least 0 and less than 1.
        """
        source = source_of(host)
        refused = "" if self._is_exempt(host) else self._over_its_share(source, now)
        if refused:
            return Verdict(refused=refused)
        gives_way = None
        if chance < self.drop_probability():
            gives_way = self._slowest(now)
            if gives_way is None:
                return Verdict(refused=TOO_MANY_STRANGERS if self._is_full() else EARLY_DROP)
            gives_way.gave_way = True
            self.free(gives_way)
        slot = Slot(source, now)
        self._taken[slot] = None
        self.by_source[source] += 1
        return Verdict(slot, gives_way=gives_way)

    def free(self, slot: Slot) -> None:
        """Give a slot back: the handshake is over, however it went. Idempotent."""
        if slot not in self._taken:
            return
        del self._taken[slot]
        self.by_source[slot.source] -= 1
        if not self.by_source[slot.source]:
            del self.by_source[slot.source]

    def recognise(self, slot: Slot, identifier: str, now: float) -> None:
        """A stranger has proven to be somebody who was here before: that counts for him, and not for his address.

        So those who share an address do not keep each other out, as long as none of them comes too often,
        and they are not too many.
        """
        if self._acquaintances.take(identifier, now) and self._given_back.take(slot.source, now):
            self.rates.give_back(slot.source, now)

    def drop_probability(self) -> float:
        """How likely a newcomer finds no free slot: rising from ``early_drop_from`` on, and 1 when all are taken.

        The method of sshd's ``MaxStartups``: who fills the slots cannot do it quickly, and others have a chance
        before they are full.
        """
        full = self._config.max_handshakes
        begin = min(self._config.early_drop_from, full)
        return min(1.0, max(0.0, (len(self._taken) - begin + 1) / (full - begin + 1)))

    def _is_exempt(self, host: str) -> bool:
        address = parse_ip(host)
        return self._config.allow_loopback_burst and address is not None and address.is_loopback

    def _over_its_share(self, source: Hashable, now: float) -> str:
        if not self.rates.take(source, now):
            return ACCEPT_RATE
        return ADDRESS_LIMIT if self.by_source[source] >= self._config.max_handshakes_per_address else ""

    def _slowest(self, now: float) -> Slot | None:
        """The slot taken for longest, if that is long enough to have been done."""
        oldest = next(iter(self._taken), None)
        return oldest if oldest is not None and now - oldest.since >= self._config.handshake_grace else None

    def _is_full(self) -> bool:
        return len(self._taken) >= self._config.max_handshakes


def source_of(host: str) -> Hashable:
    """What counts as one source of connections: an IPv4 address, or the /56 of an IPv6 address.

    IPv4 within IPv6 is IPv4, and a scope id does not count. All link-local addresses share one prefix, so each
    of them is a source of its own.
    """
    address = parse_ip(host)
    if address is None:
        return host
    if isinstance(address, IPv4Address) or address.is_link_local:
        return address.version, int(address)
    return SITE_BITS, int(address) >> (128 - SITE_BITS)
