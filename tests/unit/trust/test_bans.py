from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from peernet.config import NetworkConfig
from peernet.errors import ConfigurationError
from peernet.peers.ip_networks import IpNetworks
from peernet.reasons import Reason
from peernet.trust.bans import Ban, Bans
from peernet.trust.policy import IncomingPeerTrustPolicy
from tests.support import record
from tests.unit.sample_peers import ALICE, BOB, CAROL, peer_at

DAY, QUARTER = 86_400.0, 900.0
WALL = 1_000_000_000.0
STRANGER = peer_at("203.0.113.7", "", proven=False)


class Bench:
    """Bans with clocks that only the test moves."""

    def __init__(self, **limits: Any) -> None:
        self.now = 50.0
        self.wall = WALL
        self.policy = IncomingPeerTrustPolicy()
        self.kept: set[str] = set()
        self.bans = Bans(
            NetworkConfig(**limits), lambda: self.now, lambda: self.wall, lambda: self.policy, self.kept.__contains__
        )

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.wall += seconds

    def who(self) -> list[str]:
        return [ban.who for ban in self.bans]


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_at_first_nobody_is_banned(bench: Bench) -> None:
    assert (list(bench.bans), len(bench.bans), ALICE in bench.bans) == ([], 0, False)
    assert bench.bans.time_left(peer_at()) == bench.bans.time_left(STRANGER) == 0


@pytest.mark.parametrize("reason", ["bad_packet", "frame_too_big", "unexpected_packet", "origin_mismatch"])
def test_a_proven_peer_that_sends_nonsense_is_banned_for_a_day(bench: Bench, reason: str) -> None:
    told = record(bench.bans.banned)
    ban = bench.bans.blame(peer_at(), reason)
    assert ban == Ban(ALICE, reason, 100.0, WALL, WALL + DAY)
    assert told.calls == [(ban,)]
    assert (list(bench.bans), ALICE in bench.bans) == ([ban], True)
    bench.pass_time(DAY - 1)
    assert bench.bans.time_left(peer_at("198.51.100.1")) == pytest.approx(1)  # wherever it comes from
    bench.pass_time(1)
    assert bench.bans.time_left(peer_at()) == 0
    assert (len(bench.bans), list(bench.bans), ALICE in bench.bans) == (0, [], False)


def test_the_address_of_a_proven_peer_is_not_banned_with_it(bench: Bench) -> None:
    bench.bans.blame(peer_at("203.0.113.7"), Reason.BAD_PACKET)
    assert bench.bans.time_left(STRANGER) == 0
    assert bench.bans.time_left(peer_at("203.0.113.7", BOB)) == 0


def test_a_mere_claim_bans_the_address_for_less_time_and_not_the_one_who_is_named(bench: Bench) -> None:
    ban = bench.bans.blame(peer_at("203.0.113.7", ALICE, proven=False), Reason.BAD_PACKET)
    assert ban is not None
    assert (ban.who, ban.expires - ban.since) == ("203.0.113.7", QUARTER)
    assert bench.bans.time_left(peer_at("203.0.113.7", ALICE)) == 0
    assert bench.bans.time_left(STRANGER) == QUARTER


def test_what_is_too_much_ten_times_bans_a_proven_peer(bench: Bench) -> None:
    bans = [bench.bans.blame(peer_at(), Reason.RATE_LIMITED) for _ in range(10)]
    assert bans[:9] == [None] * 9
    assert bans[9] is not None
    assert bans[9].reason == "rate_limited"


def test_what_is_too_much_now_and_then_bans_nobody(bench: Bench) -> None:
    for _ in range(1000):
        assert bench.bans.blame(peer_at(), Reason.RATE_LIMITED) is None
        bench.pass_time(600)


def test_a_storm_from_one_address_counts_little_and_a_siege_bans_it(bench: Bench) -> None:
    for _ in range(500):  # many behind one address, who all come back at once
        assert bench.bans.blame(STRANGER, Reason.HANDSHAKE_TIMEOUT) is None
        bench.pass_time(0.03)
    for _ in range(20):
        bench.pass_time(10)
        bench.bans.blame(STRANGER, Reason.HANDSHAKE_FAILED)
    assert bench.bans.time_left(STRANGER) > 0


def test_an_address_from_which_somebody_proves_who_he_is_starts_again(bench: Bench) -> None:
    for _ in range(100):
        bench.pass_time(10)
        assert bench.bans.blame(STRANGER, Reason.HANDSHAKE_FAILED) is None
        bench.bans.vouch(peer_at(STRANGER.address))
    for _ in range(20):
        bench.pass_time(10)
        bench.bans.blame(STRANGER, Reason.HANDSHAKE_FAILED)
        bench.bans.vouch(peer_at(STRANGER.address, proven=False))  # anybody can claim anything
    assert bench.bans.time_left(STRANGER) > 0


def test_all_addresses_of_one_customer_are_banned_together(bench: Bench) -> None:
    bench.bans.blame(peer_at("2001:db8:0:101::1", "", proven=False), Reason.BAD_PACKET)
    assert bench.bans.time_left(peer_at("2001:db8:0:1ff::2", "", proven=False)) == QUARTER
    assert bench.bans.time_left(peer_at("2001:db8:0:200::1", "", proven=False)) == 0


@pytest.mark.parametrize("reason", ["connection_lost", "timeout", "slow_peer", "busy", "closed", "banned", "duplicate"])
def test_other_ends_are_nobodys_fault(bench: Bench, reason: str) -> None:
    for _ in range(100):
        assert bench.bans.blame(peer_at(), reason) is None


# Who is never banned for misbehaviour.


@pytest.mark.parametrize("address", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"])
@pytest.mark.parametrize("proven", [True, False])
def test_local_peers_are_exempt(bench: Bench, address: str, proven: bool) -> None:
    assert bench.bans.blame(peer_at(address, proven=proven), Reason.BAD_PACKET) is None


def test_nobody_is_exempt_if_no_network_is(bench: Bench) -> None:
    bench.bans.exempt_networks = IpNetworks([])
    assert bench.bans.blame(peer_at("127.0.0.1"), Reason.BAD_PACKET) is not None


def test_a_peer_that_this_side_has_dialled_is_exempt(bench: Bench) -> None:
    assert bench.bans.blame(peer_at(), Reason.BAD_PACKET, dialled=True) is None
    bench.kept.add(BOB)  # dialled once, and now it dials us
    assert bench.bans.blame(peer_at(identifier=BOB), Reason.BAD_PACKET) is None


@pytest.mark.parametrize("name", ["trusted_identifiers", "allowed_identifiers"])
def test_a_peer_on_a_list_is_exempt_and_one_that_only_claims_to_be_it_is_not(bench: Bench, name: str) -> None:
    bench.policy = IncomingPeerTrustPolicy().adding(**{name: ALICE})
    assert bench.bans.blame(peer_at(), Reason.BAD_PACKET) is None
    ban = bench.bans.blame(peer_at("203.0.113.7", proven=False), Reason.BAD_PACKET)
    assert ban is not None
    assert ban.who == "203.0.113.7"


def test_a_peer_that_only_claims_to_be_a_wanted_one_is_not_exempt(bench: Bench) -> None:
    bench.kept.add(ALICE)
    assert bench.bans.blame(peer_at(proven=False), Reason.BAD_PACKET) is not None


def test_an_allowed_network_exempts_addresses_and_not_the_peers_that_prove_who_they_are(bench: Bench) -> None:
    bench.policy = IncomingPeerTrustPolicy(allowed_networks=frozenset({"203.0.113.0/24"}))
    assert bench.bans.blame(STRANGER, Reason.BAD_PACKET) is None
    assert bench.bans.blame(peer_at("203.0.113.7"), Reason.BAD_PACKET) is not None


def test_a_peer_that_is_put_on_a_list_is_let_in_again(bench: Bench) -> None:
    bench.bans.blame(peer_at(), Reason.BAD_PACKET)
    bench.bans.blame(STRANGER, Reason.BAD_PACKET)
    bench.policy = IncomingPeerTrustPolicy(
        trusted_identifiers=frozenset({ALICE}), allowed_networks=frozenset({"203.0.113.0/24"})
    )
    assert bench.bans.time_left(peer_at()) == bench.bans.time_left(STRANGER) == 0


def test_a_host_name_is_no_culprit(bench: Bench) -> None:
    assert bench.bans.blame(peer_at("example.org", "", proven=False), Reason.BAD_PACKET) is None


# What the operator does.


@pytest.mark.parametrize(
    ("text", "who"),
    [
        (ALICE, ALICE),
        ("203.0.113.7", "203.0.113.7"),
        ("203.0.113.7/32", "203.0.113.7"),
        ("2001:DB8::1", "2001:db8::/56"),
        ("2001:db8::1/128", "2001:db8::/56"),
        ("2001:db8::/56", "2001:db8::/56"),
    ],
)
def test_the_operator_bans_and_unbans_peers_and_addresses(bench: Bench, text: str, who: str) -> None:
    assert bench.bans.ban(text, 60, "noise") == Ban(who, "noise", 0.0, WALL, WALL + 60, manual=True)
    assert text in bench.bans
    assert bench.bans.unban(text)
    assert not bench.bans.unban(text)
    assert text not in bench.bans


@pytest.mark.parametrize("who", ["", "alice", "10.0.0.0/8", "2001:db8::/32", "1.2.3.4:80", "x" * 52 + "1"])
def test_nobody_else_can_be_banned(bench: Bench, who: str) -> None:
    with pytest.raises(ConfigurationError, match="neither an identifier nor an IP address"):
        bench.bans.ban(who)
    assert not bench.bans.unban(who)


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf")])
def test_a_ban_lasts_a_time_that_there_is(bench: Bench, seconds: float) -> None:
    with pytest.raises(ConfigurationError, match="a ban lasts"):
        bench.bans.ban(ALICE, seconds)


def test_what_the_operator_bans_is_banned_whoever_it_is(bench: Bench) -> None:
    bench.policy = IncomingPeerTrustPolicy(trusted_identifiers=frozenset({ALICE}))
    bench.bans.ban(ALICE)
    assert bench.bans.time_left(peer_at("127.0.0.1")) == DAY
    assert bench.bans.time_left(peer_at("127.0.0.1", proven=False)) == DAY  # to claim it helps nobody


def test_misbehaviour_does_not_shorten_what_the_operator_has_said(bench: Bench) -> None:
    bench.bans.ban(ALICE, 10 * DAY)
    assert bench.bans.blame(peer_at(), Reason.BAD_PACKET) is None
    assert bench.bans.time_left(peer_at()) == 10 * DAY


def test_whoever_is_unbanned_starts_again_without_points(bench: Bench) -> None:
    for _ in range(9):
        bench.bans.blame(peer_at(), Reason.RATE_LIMITED)
    bench.bans.ban(ALICE)
    bench.bans.unban(ALICE)
    assert bench.bans.blame(peer_at(), Reason.RATE_LIMITED) is None


def test_all_bans_can_be_lifted_at_once(bench: Bench) -> None:
    for who in (ALICE, "203.0.113.7"):
        bench.bans.ban(who)
    bench.bans.blame(peer_at(identifier=BOB), Reason.BAD_PACKET)
    assert (bench.bans.clear(), bench.bans.clear(), bench.who()) == (3, 0, [])


# Bounds.


def test_no_more_bans_are_kept_than_there_is_room_for_and_the_one_not_met_with_goes_first() -> None:
    bench = Bench(max_bans=2)
    for who in (ALICE, BOB):
        bench.bans.blame(peer_at(identifier=who), Reason.BAD_PACKET)
    assert bench.bans.time_left(peer_at()) > 0  # met with again
    bench.bans.blame(peer_at(identifier=CAROL), Reason.BAD_PACKET)
    assert sorted(bench.who()) == [ALICE, CAROL]


def test_a_flood_of_bans_lifts_none_of_the_operators() -> None:
    bench = Bench(max_bans=10)
    bench.bans.ban(ALICE)
    for number in range(1000):
        bench.bans.blame(peer_at(f"198.51.{number // 250}.{number % 250}", "", proven=False), Reason.BAD_PACKET)
        assert len(bench.bans) <= 10
    assert ALICE in bench.bans


def test_the_operator_cannot_overfill_the_table_either() -> None:
    bench = Bench(max_bans=10)
    for number in range(100):
        bench.bans.ban(f"198.51.100.{number}")
    assert bench.who() == [f"198.51.100.{number}" for number in range(90, 100)]


def test_bans_that_are_over_take_no_room_from_those_in_force() -> None:
    bench = Bench(max_bans=3)
    bench.bans.blame(peer_at(identifier=BOB), Reason.BAD_PACKET)
    for number in range(2):
        bench.bans.ban(f"198.51.100.{number}", 10)
    bench.pass_time(10)
    for who in (ALICE, CAROL):
        assert bench.bans.blame(peer_at(identifier=who), Reason.BAD_PACKET)
    assert bench.who() == [BOB, ALICE, CAROL]


# From one run to the next.


def again(bench: Bench, **limits: Any) -> Bench:
    """Another process, with what the first has kept."""
    other = Bench(**limits)
    other.now, other.wall = 7.0, bench.wall  # another monotonic clock
    for ban in bench.bans:
        other.bans.restore(ban)
    return other


def test_bans_are_restored_with_the_time_that_is_left(bench: Bench) -> None:
    bench.bans.blame(peer_at(), Reason.BAD_PACKET)
    bench.bans.ban("203.0.113.7", 60)
    bench.pass_time(20)
    other = again(bench)
    assert list(other.bans) == list(bench.bans)
    assert other.bans.time_left(peer_at()) == pytest.approx(DAY - 20)
    other.pass_time(40)
    assert other.who() == [ALICE]


def test_a_ban_that_has_expired_is_not_restored(bench: Bench) -> None:
    bench.bans.restore(Ban(ALICE, "bad_packet", 100, WALL - 2, WALL))
    assert bench.who() == []


@pytest.mark.parametrize("jump", [-1e9, -3600.0, 3600.0, 1e9])
def test_a_clock_that_is_set_changes_nothing_while_the_node_runs(bench: Bench, jump: float) -> None:
    bench.bans.blame(peer_at(), Reason.BAD_PACKET)
    bench.wall += jump
    assert bench.bans.time_left(peer_at()) == DAY
    assert [ban.expires for ban in bench.bans] == [bench.wall + DAY]  # as the clock is now
    assert again(bench).bans.time_left(peer_at()) == pytest.approx(DAY, abs=1)


def test_a_clock_that_is_set_back_between_two_runs_makes_no_ban_longer(bench: Bench) -> None:
    ban = bench.bans.ban(ALICE, 60)
    bench.bans.unban(ALICE)
    bench.wall -= 1e6
    bench.bans.restore(ban)
    assert bench.bans.time_left(peer_at()) == 60


def test_what_is_restored_is_bounded_and_replaces_nothing() -> None:
    bench = Bench(max_bans=3)
    bench.bans.ban(ALICE, 60)
    for number in range(100):
        bench.bans.restore(Ban(f"198.51.100.{number}", "bad_packet", 100, WALL, WALL + 1))
    bench.bans.restore(Ban(ALICE, "bad_packet", 100, WALL, WALL + 1))
    assert bench.who() == ["198.51.100.98", "198.51.100.99", ALICE]
    assert bench.bans.time_left(peer_at()) == 60


def test_every_change_is_noticed_and_looking_is_none(bench: Bench) -> None:
    seen = [bench.bans.revision]

    def changed() -> bool:
        seen.append(bench.bans.revision)
        return seen[-1] != seen[-2]

    bench.bans.blame(peer_at(), Reason.RATE_LIMITED)
    assert not changed()
    bench.bans.blame(peer_at(), Reason.BAD_PACKET)
    assert changed()
    bench.bans.time_left(peer_at())
    assert not changed()
    bench.bans.unban(ALICE)
    assert changed()


def test_a_ban_can_be_told_as_json() -> None:
    ban = Ban(ALICE, "bad_packet", 100.0, 1.0, 2.0)
    assert Ban(**json.loads(json.dumps(ban.to_dict()))) == ban
    assert replace(ban, manual=True).to_dict()["manual"]
