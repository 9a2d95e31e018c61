"""Bans: who is kept out for a while, because of misbehaviour or because the operator says so.

A ban is on what was proven: the identifier if TLS has proven it, otherwise, and for less
time, the address, so that nobody can have another one banned by using its name.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from itertools import chain
from typing import Any

from peernet.config import NetworkConfig
from peernet.errors import ConfigurationError
from peernet.peers.address import is_identifier
from peernet.peers.ip_networks import IpNetworks
from peernet.peers.peer import IPeer
from peernet.runtime.clock import moment_of
from peernet.runtime.events import Event
from peernet.runtime.text import printable
from peernet.runtime.threads import NO_HOME, HomeThread, at_home
from peernet.trust.policy import IncomingPeerTrustPolicy
from peernet.trust.scores import POINTS, Scores, address_key

LOOPBACK = ("127.0.0.0/8", "::1/128")
# Many may share an address, and all of them fail when its network does: of what happens there
# before anybody is known, no more than this often something counts. Seconds.
ADDRESS_INTERVAL = 10.0
# What is no mistake in the number of seconds.
MAX_SECONDS = 10 * 365 * 86_400.0

Clock = Callable[[], float]


@dataclass(frozen=True)
class Ban:
    """One ban.

    Attributes:
        who: an identifier, an IPv4 address, or an IPv6 network.
        reason: the :class:`~peernet.Reason` for which the points were given, or what the operator wrote.
        score: the points that led to it; 0 if the operator did.
        since: when it began, in Unix seconds.
        expires: when it ends, in Unix seconds.
        manual: whether the operator made it.
    """

    who: str
    reason: str
    score: float
    since: float
    expires: float
    manual: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, entry: dict[str, Any]) -> Ban:
        """What :meth:`to_dict` has described.

        Raises:
            ConfigurationError, LookupError, TypeError, ValueError, OverflowError: it is damaged.
        """
        if ban_key(entry["who"]) != entry["who"]:
            raise ConfigurationError(f"{entry['who']!r} is nothing that can be banned")
        score, since, expires = (moment_of(entry[name]) for name in ("score", "since", "expires"))
        return cls(entry["who"], printable(entry["reason"]), score, since, expires, bool(entry["manual"]))


@dataclass(frozen=True)
class _Entry:
    ban: Ban
    ends: float  # monotonic, so that a clock that is set neither lifts nor prolongs it


class Bans:
    """The bans of one network, and the scores that lead to them.

    Nobody is banned for misbehaviour who comes from :attr:`exempt_networks`, whom this side
    has dialled, or who is on a list of the policy: its connection ends, and it may come again.
    What the operator bans is banned in any case. When there are too many bans, the one that
    was met with least recently is lifted, the operator's after all others.

    Args:
        config: the limits.
        clock: monotonic seconds.
        wall_clock: Unix seconds.
        policy: the policy in force.
        is_kept: whether the operator has asked for a peer, by identifier.
        home: the native thread of the network.

    Attributes:
        banned: event, ``listener(ban)``.
        scores: of those who are not banned.
        revision: another number after every change.
    """

    def __init__(
        self,
        config: NetworkConfig,
        clock: Clock,
        wall_clock: Clock,
        policy: Callable[[], IncomingPeerTrustPolicy],
        is_kept: Callable[[str], bool],
        home: HomeThread = NO_HOME,
    ) -> None:
        self._home = home
        self._config = config
        self._clock = clock
        self._wall_clock = wall_clock
        self._policy = policy
        self._is_kept = is_kept
        self.scores = Scores(config.max_scores, config.score_decay)
        self._automatic: OrderedDict[str, _Entry] = OrderedDict()
        self._manual: OrderedDict[str, _Entry] = OrderedDict()
        self.banned: Event[[Ban]] = Event("peer_banned", ["ban"], home)
        self._exempt_networks = IpNetworks(LOOPBACK)
        self.revision = 0

    def __repr__(self) -> str:
        manual = sum(ban.manual for ban in self)
        return f"<Bans: {len(self)}, of which {manual} by the operator>"

    def __iter__(self) -> Iterator[Ban]:
        """The bans in force, the one met with least recently first, the operator's at the end."""
        now = self._clock()
        entries = chain(self._automatic.values(), self._manual.values())
        return iter([self._as_clocks_are_now(entry) for entry in entries if entry.ends > now])

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, who: object) -> bool:
        return isinstance(who, str) and self._find(ban_key(who)) is not None

    @property
    def exempt_networks(self) -> IpNetworks:
        """Whose misbehaviour does not count; loopback by default."""
        return self._exempt_networks

    @exempt_networks.setter
    @at_home
    def exempt_networks(self, networks: IpNetworks) -> None:
        self._exempt_networks = networks

    # Asked for every connection from outside.

    @at_home
    def time_left(self, peer: IPeer) -> float:
        """Seconds for which a peer is still banned; 0 if it is not.

        Ask with an empty identifier before the handshake: then the address decides, and after
        it the identifier alone.
        """
        entry = self._find(peer.identifier or address_key(peer.address))
        if entry is None or (not entry.ban.manual and self._excuses(peer)):
            return 0.0
        return entry.ends - self._clock()

    # Misbehaviour.

    @at_home
    def blame(self, peer: IPeer, reason: str, *, dialled: bool = False) -> Ban | None:
        """Count how a connection with a peer has ended. Returns the ban, if that was too much.

        Args:
            peer: who it was; without a proven identifier the address is blamed.
            reason: how it has ended; see :data:`~peernet.trust.scores.POINTS`.
            dialled: whether this side has made the connection.
        """
        points = POINTS.get(reason, 0)
        if not points or dialled or peer.address in self.exempt_networks or self._excuses(peer):
            return None
        if peer.identifier and peer.proven:
            return self._count(peer.identifier, points, reason, self._config.ban_time)
        key = address_key(peer.address)
        if key is None:
            return None
        return self._count(key, points, reason, self._config.address_ban_time, apart=ADDRESS_INTERVAL)

    @at_home
    def vouch(self, peer: IPeer) -> None:
        """A peer has proven who it is: its address is not one from which only trouble comes."""
        key = address_key(peer.address)
        if peer.proven and key is not None:
            self.scores.forget(key)

    def _count(self, who: str, points: float, reason: str, seconds: float, apart: float = 0.0) -> Ban | None:
        now = self._clock()
        score = self.scores.add(who, points, now, apart=apart)
        if score < self._config.ban_score or self._find(who) is not None:
            return None
        return self._ban(who, seconds, reason, score, manual=False)

    def _excuses(self, peer: IPeer) -> bool:
        """Whether a peer is on a list, or wanted by the operator; a mere claim to be such a peer is no excuse."""
        known = peer.proven and self._is_kept(peer.identifier)
        return known or self._policy().lists(peer)

    # What the operator does.

    @at_home
    def ban(self, who: str, seconds: float | None = None, reason: str = "banned by the operator") -> Ban:
        """Keep a peer or an address out for a while; a peer's channel ends. It replaces an earlier ban.

        Args:
            who: an identifier or an IP address; of IPv6, the whole /56 is meant.
            seconds: how long; ``None`` means ``config.ban_time``.
            reason: a few words for whoever asks later.

        Raises:
            ConfigurationError: nobody can be meant by that, or the time is none.
        """
        seconds = self._config.ban_time if seconds is None else seconds
        if not 0 < seconds <= MAX_SECONDS:
            raise ConfigurationError(f"a ban lasts from 0 to {MAX_SECONDS:.0f} seconds, not {seconds!r}")
        key = ban_key(who)
        if key is None:
            raise ConfigurationError(f"{who!r} is neither an identifier nor an IP address; block a network instead")
        return self._ban(key, seconds, printable(reason), 0.0, manual=True)

    @at_home
    def unban(self, who: str) -> bool:
        """Lift a ban, and forget the points. Returns whether there was one."""
        key = ban_key(who) or ""
        found = self._find(key) is not None
        self._remove(key)
        self.scores.forget(key)
        return found

    @at_home
    def clear(self) -> int:
        """Lift all bans. Returns how many there were."""
        return sum(self.unban(ban.who) for ban in self)

    @at_home
    def restore(self, ban: Ban) -> None:
        """Put back what an earlier process remembered, unless it has expired.

        While nothing ran only the wall clock counted, and it may have been set: a ban lasts no
        longer from now than it did in the beginning.
        """
        wall_now = self._wall_clock()
        left = min(ban.expires - wall_now, ban.expires - ban.since, MAX_SECONDS)
        if left > 0 and math.isfinite(left) and self._find(ban.who) is None:
            self._put(ban, left)

    # The table.

    def _ban(self, who: str, seconds: float, reason: str, score: float, *, manual: bool) -> Ban:
        since = self._wall_clock()
        ban = Ban(who, str(reason), round(score, 1), since, since + seconds, manual)
        self.scores.forget(who)
        self._put(ban, seconds)
        self.banned.fire(ban)
        return ban

    def _put(self, ban: Ban, seconds: float) -> None:
        self._remove(ban.who)
        table = self._manual if ban.manual else self._automatic
        table[ban.who] = _Entry(ban, self._clock() + seconds)
        self.revision += 1
        if self._is_over_full():
            self._remove_ended()
        if self._is_over_full():
            (self._automatic or self._manual).popitem(last=False)

    def _is_over_full(self) -> bool:
        return len(self._automatic) + len(self._manual) > self._config.max_bans

    def _remove_ended(self) -> None:
        """Forget the bans that are over, so that none of them holds a place of one in force."""
        now = self._clock()
        for table in (self._automatic, self._manual):
            for who in [who for who, entry in table.items() if entry.ends <= now]:
                del table[who]

    def _remove(self, who: str) -> None:
        for table in (self._automatic, self._manual):
            if table.pop(who, None) is not None:
                self.revision += 1

    def _as_clocks_are_now(self, entry: _Entry) -> Ban:
        """A ban with times that are right even if the wall clock was set since it was made."""
        expires = self._wall_clock() + entry.ends - self._clock()
        since = entry.ban.since + expires - entry.ban.expires
        return replace(entry.ban, since=round(since, 3), expires=round(expires, 3))

    def _find(self, who: str | None) -> _Entry | None:
        for table in (self._automatic, self._manual):
            entry = table.get(who or "")
            if entry is not None and entry.ends > self._clock():
                table.move_to_end(entry.ban.who)
                return entry
        return None


def ban_key(who: str) -> str | None:
    """Under what a peer or an address stands in the table; ``None`` if it can be neither."""
    if is_identifier(who):
        return who
    host, _, length = who.partition("/")
    lengths = ("", "56", "128") if ":" in host else ("", "32")
    return address_key(host) if length in lengths else None
