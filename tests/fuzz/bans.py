"""Bans: whatever is blamed on whom, banned, pardoned and forgotten in whatever order, docs/trust.rst holds.

Input: a byte that chooses limits, then two bytes for each step: what, and to whom.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import pairwise

from peernet.config import NetworkConfig
from peernet.errors import ConfigurationError
from peernet.peers.ip_networks import IpNetworks
from peernet.peers.peer import GenericPeer
from peernet.trust.bans import Ban, Bans
from peernet.trust.policy import IncomingPeerTrustPolicy

MAX_STEPS = 200
ALICE, BOB, CAROL = (letter * 52 for letter in "abc")
STREET, SITE = "203.0.113.7", "2001:db8::/56"
PEERS = (
    GenericPeer(ALICE, STREET, 1),
    GenericPeer(BOB, STREET, 2),
    GenericPeer(CAROL, "2001:db8::1", 3),
    GenericPeer(ALICE, "127.0.0.1", 4),
    GenericPeer(ALICE, STREET, 5, proven=False),  # who only says so, as the next one does
    GenericPeer(CAROL, "2001:db8::1", 6, proven=False),
    GenericPeer("", STREET, 7, proven=False),
    GenericPeer("", "2001:db8:0:ff::2", 8, proven=False),
    GenericPeer("", "127.0.0.1", 9, proven=False),
    GenericPeer("", "somewhere", 10, proven=False),
)
KEYS = {STREET: STREET, "2001:db8::1": SITE, "2001:db8:0:ff::2": SITE, "127.0.0.1": "127.0.0.1", "somewhere": ""}
# What may be banned by name, and under which name it is then.
NAMES = (
    (ALICE, ALICE),
    (BOB, BOB),
    (STREET, STREET),
    (f"::ffff:{STREET}", STREET),
    ("2001:db8:0:7::9", SITE),
    (SITE, SITE),
    ("nobody", ""),
    ("10.0.0.0/8", ""),
)
POINTS = {"bad_packet": 100, "frame_too_big": 100, "handshake_failed": 10, "rate_limited": 10, "connection_lost": 0}
REASONS = tuple(POINTS)
# Whole numbers, so that floating point does not round.
SECONDS = (0, 1, 5, 10, 11, 60, 900, 100_000)
LENGTHS = (None, 1, 10, 1000, 10**9, 0, -1, math.nan, math.inf)
CONFIGS = [
    NetworkConfig(
        ban_score=score, score_decay=decay, ban_time=500, address_ban_time=50, max_bans=bans, max_scores=scores
    )
    for score, decay in ((100, 60), (30, 0), (10, 600))
    for bans in (1, 2, 100)
    for scores in (1, 2, 100)
]


@cache
def policy(lists: int) -> IncomingPeerTrustPolicy:
    """With Alice trusted, Bob allowed, and the street allowed, as three bits say."""
    return IncomingPeerTrustPolicy(
        trusted_identifiers=frozenset([ALICE] if lists & 1 else []),
        allowed_identifiers=frozenset([BOB] if lists & 2 else []),
        allowed_networks=frozenset(["203.0.113.0/24"] if lists & 4 else []),
    )


@dataclass
class Kept:
    """A ban in force."""

    who: str
    ends: float
    manual: bool


@dataclass
class Book:
    """Who is banned and what is counted, kept as plain lists."""

    config: NetworkConfig
    now: float = 0.0
    lists: int = 0
    carol_is_kept: bool = False
    street_is_exempt: bool = False
    bans: list[Kept] = field(default_factory=list)  # the one met with last at the end
    counted: list[tuple[str, float, float]] = field(default_factory=list)  # who, points, when

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.bans = [ban for ban in self.bans if ban.ends > self.now]

    def meet(self, who: str) -> Kept | None:
        found = [ban for ban in self.bans if ban.who == who]
        self.bans = [ban for ban in self.bans if ban.who != who] + found
        return found[0] if found else None

    def put(self, who: str, seconds: float, *, manual: bool) -> None:
        self.bans = [ban for ban in self.bans if ban.who != who] + [Kept(who, self.now + seconds, manual)]
        if len(self.bans) > self.config.max_bans:
            self.bans.remove(([ban for ban in self.bans if not ban.manual] or self.bans)[0])

    def lift(self, who: str) -> None:
        self.bans = [ban for ban in self.bans if ban.who != who]

    def forget(self, who: str) -> None:
        self.counted = [entry for entry in self.counted if entry[0] != who]

    def excuses(self, peer: GenericPeer) -> bool:
        if peer.identifier and peer.proven:
            on_a_list = (peer.identifier == ALICE and self.lists & 1) or (peer.identifier == BOB and self.lists & 2)
            return bool(on_a_list) or (peer.identifier == CAROL and self.carol_is_kept)
        return peer.address == STREET and bool(self.lists & 4)

    def is_exempt(self, peer: GenericPeer) -> bool:
        return peer.address == (STREET if self.street_is_exempt else "127.0.0.1")

    def blame(self, peer: GenericPeer, reason: str, dialled: bool) -> str:
        """Who is banned now, if anybody."""
        if not POINTS[reason] or dialled or self.is_exempt(peer) or self.excuses(peer):
            return ""
        by_name = bool(peer.identifier) and peer.proven
        culprit = peer.identifier if by_name else KEYS[peer.address]
        if not culprit:
            return ""
        if self.count(culprit, POINTS[reason], apart=0 if by_name else 10) < self.config.ban_score:
            return ""
        if self.meet(culprit) is not None:
            return ""
        self.forget(culprit)
        self.put(culprit, self.config.ban_time if by_name else self.config.address_ban_time, manual=False)
        return culprit

    def count(self, culprit: str, points: float, apart: float) -> float:
        """The points of a culprit, from all that was ever counted and not forgotten."""
        last = max((when for who, _, when in self.counted if who == culprit), default=-math.inf)
        if self.now - last >= apart:
            self.counted.append((culprit, points, self.now))
            self.forget_those_not_heard_of()
        score, since = 0.0, 0.0
        for who, more, when in self.counted:
            if who == culprit:
                score = max(0.0, score - (when - since) * self.config.score_decay / 60) + more
                since = when
        return max(0.0, score - (self.now - since) * self.config.score_decay / 60)

    def forget_those_not_heard_of(self) -> None:
        heard_of = list(dict.fromkeys(who for who, _, _ in reversed(self.counted)))
        for who in heard_of[self.config.max_scores :]:
            self.forget(who)


class Bench:
    """Bans, and the model of them beside."""

    def __init__(self, config: NetworkConfig) -> None:
        self.book = Book(config)
        self.ahead = 10.0**9  # of the wall clock
        self.bans = Bans(
            config,
            lambda: self.book.now,
            lambda: self.book.now + self.ahead,
            lambda: policy(self.book.lists),
            lambda who: who == CAROL and self.book.carol_is_kept,
        )
        self.fired: list[Ban] = []
        self.bans.banned.add(self.fired.append)
        self.seen: list[Ban] = []

    def blame(self, peer: GenericPeer, reason: str, dialled: bool) -> None:
        expected = self.book.blame(peer, reason, dialled)
        ban = self.bans.blame(peer, reason, dialled=dialled)
        assert (ban.who if ban is not None else "") == expected
        self.expect_fired(ban)

    def vouch(self, peer: GenericPeer) -> None:
        self.bans.vouch(peer)
        if peer.proven:
            self.book.forget(KEYS[peer.address])

    def ban(self, name: str, key: str, seconds: float | None) -> None:
        length = self.book.config.ban_time if seconds is None else seconds
        try:
            ban = self.bans.ban(name, seconds)
        except ConfigurationError:
            assert not key or not 0 < length <= 10 * 365 * 86_400
            return
        assert ban.who == key
        self.expect_fired(ban)
        self.book.forget(key)
        self.book.put(key, length, manual=True)

    def unban(self, name: str, key: str) -> None:
        assert self.bans.unban(name) is (key in [ban.who for ban in self.book.bans])
        self.book.lift(key)
        self.book.forget(key)

    def clear(self) -> None:
        assert self.bans.clear() == len(self.book.bans)
        for ban in list(self.book.bans):
            self.book.lift(ban.who)
            self.book.forget(ban.who)

    def restore(self, number: int) -> None:
        """Put a ban back that there was once, as a new process does; its times may be any."""
        if not self.seen:
            return
        ban = self.seen[number % len(self.seen)]
        if number & 64:
            ban = replace(ban, expires=(math.nan, 10.0**18, -1.0)[number % 3])
        self.bans.restore(ban)
        left = min(ban.expires - self.book.now - self.ahead, ban.expires - ban.since, 10 * 365 * 86_400)
        if left > 0 and not math.isnan(ban.expires) and self.book.meet(ban.who) is None:
            self.book.put(ban.who, left, manual=ban.manual)

    def ask(self, peer: GenericPeer) -> None:
        ban = self.book.meet(peer.identifier or KEYS[peer.address])
        excused = ban is not None and not ban.manual and self.book.excuses(peer)
        assert self.bans.time_left(peer) == (0 if ban is None or excused else ban.ends - self.book.now)

    def expect_fired(self, ban: Ban | None) -> None:
        assert self.fired == ([] if ban is None else [ban])
        self.seen += self.fired
        self.fired.clear()

    def check(self) -> None:
        book, wall = self.book, self.book.now + self.ahead
        expected = [ban for ban in book.bans if not ban.manual] + [ban for ban in book.bans if ban.manual]
        found = list(self.bans)
        assert [(ban.who, ban.manual) for ban in found] == [(ban.who, ban.manual) for ban in expected]
        for ban, kept in zip(found, expected, strict=True):
            assert abs(ban.expires - wall - (kept.ends - book.now)) < 0.01
        assert len(self.bans) == len(found) <= book.config.max_bans
        assert len(state(self)[0]) <= book.config.max_bans
        assert len(self.bans.scores) == len({who for who, _, _ in book.counted}) <= book.config.max_scores
        assert not self.fired, "told of a ban that there is not"


def fuzz(data: bytes) -> None:
    if not data:
        return
    bench = Bench(CONFIGS[data[0] % len(CONFIGS)])
    for one, two in list(pairwise(data[1:]))[: 2 * MAX_STEPS : 2]:
        before = state(bench)
        step(bench, one, two)
        bench.check()
        assert state(bench) == before or state(bench)[1] != before[1], "a change that nobody can notice"


def state(bench: Bench) -> tuple[frozenset[tuple[str, float]], int]:
    """Who is banned until when, however long ago, and the number of changes."""
    now, bench.book.now = bench.book.now, -1.0  # when no ban had ended
    try:
        return frozenset((ban.who, ban.expires - bench.ahead) for ban in bench.bans), bench.bans.revision
    finally:
        bench.book.now = now


def step(bench: Bench, one: int, two: int) -> None:
    book, peer, name = bench.book, PEERS[two % len(PEERS)], NAMES[two % len(NAMES)]
    action = one & 15
    if action <= 4:
        bench.blame(peer, REASONS[action], dialled=one >= 0xF0)
    elif action <= 6:
        book.pass_time(SECONDS[one >> 4 & 7])
    elif action == 7:
        bench.ask(peer)
    elif action == 8:
        assert (name[0] in bench.bans) is (book.meet(name[1]) is not None)
    elif action == 9:
        bench.vouch(peer)
    elif action == 10:
        bench.ban(*name, LENGTHS[(one >> 4) % len(LENGTHS)])
    elif action == 11:
        bench.unban(*name)
    elif action == 12:
        bench.restore(two)
    elif action == 13:
        book.lists, book.carol_is_kept = two & 7, bool(two & 8)
    elif action == 14:
        book.street_is_exempt = bool(two & 1)
        bench.bans.exempt_networks = IpNetworks(["203.0.113.0/24"] if two & 1 else ["127.0.0.0/8"])
    elif two & 3:
        bench.ahead += (-5000.0, 7.0, 10.0**6)[two % 3]
    else:
        bench.clear()
