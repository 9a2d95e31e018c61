from __future__ import annotations

import json
import time
from typing import Any

import pytest

from peernet.config import NetworkConfig
from peernet.peers.address_book import KnownPeer, KnownPeers
from peernet.runtime import clock
from tests.unit.sample_peers import ALICE, BOB, CAROL, peer_at


def book(**limits: Any) -> KnownPeers:
    return KnownPeers(NetworkConfig(**limits))


def test_a_peer_that_was_dialled_is_remembered_with_its_address() -> None:
    peers = book()
    before = time.time()
    known = peers.note(peer_at("192.0.2.1"), dialled=True)
    assert peers.get(ALICE) is known
    assert (known.identifier, known.proven, known.addresses) == (ALICE, True, ["192.0.2.1:4000"])
    assert before <= known.last_seen <= time.time()
    assert (ALICE in peers, len(peers), list(peers)) == (True, 1, [known])


def test_the_port_of_an_inbound_connection_is_no_address() -> None:
    assert book().note(peer_at(), dialled=False).addresses == []


def test_addresses_are_remembered_once_and_newest_first() -> None:
    peers = book()
    for port in (1, 2, 3, 1):
        peers.note(peer_at(port=port), dialled=True)
    known = peers.get(ALICE)
    assert known is not None
    assert known.addresses == ["192.0.2.1:1", "192.0.2.1:3", "192.0.2.1:2"]


def test_the_oldest_address_is_forgotten_when_there_are_too_many() -> None:
    peers = book(max_addresses_per_peer=2)
    for port in (1, 2, 3):
        known = peers.note(peer_at(port=port), dialled=True)
    assert known.addresses == ["192.0.2.1:3", "192.0.2.1:2"]


# One network for each peer, so that none has more than its share.
ELSEWHERE = {ALICE: "192.0.2.1", BOB: "198.51.100.1", CAROL: "203.0.113.1"}


def meet(peers: KnownPeers, *identifiers: str, dialled: bool = False, kept: bool = False) -> None:
    for identifier in identifiers:
        peers.note(peer_at(ELSEWHERE[identifier], identifier), dialled=dialled, kept=kept)


def names(peers: KnownPeers) -> list[str]:
    return [known.identifier for known in peers]


def test_the_peer_not_seen_for_longest_is_forgotten_when_there_are_too_many() -> None:
    peers = book(max_known_peers=2)
    meet(peers, ALICE, BOB, ALICE, CAROL)
    assert names(peers) == [ALICE, CAROL]


def test_many_who_only_came_to_us_do_not_push_out_those_we_can_dial() -> None:
    peers = book(max_known_peers=2)
    meet(peers, ALICE, dialled=True)
    meet(peers, BOB, CAROL)
    assert names(peers) == [ALICE, CAROL]


def test_peers_that_this_node_was_told_to_connect_to_are_forgotten_last() -> None:
    peers = book(max_known_peers=2)
    meet(peers, ALICE, kept=True)
    meet(peers, BOB, CAROL, dialled=True)
    meet(peers, ALICE)
    assert names(peers) == [CAROL, ALICE]
    assert [peers.is_kept(one) for one in (ALICE, CAROL)] == [True, False]
    meet(peers, CAROL, kept=True)
    meet(peers, BOB)
    assert names(peers) == [ALICE, CAROL]  # even the newest goes first


def test_not_even_those_overfill_the_book() -> None:
    peers = book(max_known_peers=20)
    for number in range(100):
        peers.note(peer_at(identifier=identifier(number)), dialled=True, kept=True)
        assert len(peers) <= 20
    assert names(peers) == [identifier(number) for number in range(80, 100)]


def identifier(number: int) -> str:
    return "".join("mnopqrstuvwxyz23"[number >> shift & 15] for shift in (12, 8, 4, 0)) * 13


@pytest.mark.parametrize("dialled", [False, True])
@pytest.mark.parametrize("address", ["198.51.{0}.{1}", "::ffff:198.51.{0}.{1}", "2001:db8:{0}:{1}::1"])
def test_peers_from_one_source_take_no_more_than_a_sixteenth_of_the_book(address: str, dialled: bool) -> None:
    peers = book(max_known_peers=160)
    meet(peers, ALICE)
    for number in range(1000):
        peers.note(peer_at(address.format(number // 250, number % 250), identifier(number)), dialled=dialled)
        assert len(peers) <= 11
    assert names(peers) == [ALICE, *map(identifier, range(990, 1000))]


def test_of_one_source_those_that_can_be_dialled_stay() -> None:
    peers = book(max_known_peers=32)
    peers.note(peer_at(identifier=ALICE), dialled=True)
    for number in range(10):
        peers.note(peer_at(identifier=identifier(number)), dialled=False)
    assert names(peers) == [ALICE, identifier(9)]


def test_visitors_from_everywhere_leave_nothing_behind_but_a_full_book() -> None:
    peers = book(max_known_peers=64)
    for number in range(5000):
        peers.note(peer_at(f"{number % 200}.{number % 7}.0.1", identifier(number)), dialled=number % 2 == 0)
        assert len(peers) <= 64
    for name in names(peers):
        peers.forget(name)
    assert not any(vars(peers)[name] for name in ("_peers", "_visitors", "_reachable", "_kept", "_sources"))


def test_a_peer_that_moves_counts_where_it_is_now() -> None:
    peers = book(max_known_peers=32)
    peers.note(peer_at("192.0.2.1", ALICE), dialled=False)
    peers.note(peer_at("198.51.100.1", ALICE), dialled=False)
    for one in (BOB, CAROL):
        peers.note(peer_at("192.0.2.1", one), dialled=False)
    assert names(peers) == [ALICE, BOB, CAROL]


def test_peers_not_seen_for_long_are_forgotten_but_for_those_to_connect_to(monkeypatch: pytest.MonkeyPatch) -> None:
    peers, now = book(known_peer_ttl=100), 1000.0
    monkeypatch.setattr(clock, "monotonic", lambda: now)
    meet(peers, ALICE, kept=True)
    meet(peers, BOB)
    now = 1101.0
    meet(peers, CAROL)
    assert names(peers) == [ALICE, CAROL]


def test_a_clock_that_is_set_makes_nobody_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    peers = book(known_peer_ttl=100)
    meet(peers, ALICE)
    monkeypatch.setattr(clock, "wall", lambda: 1e10)
    meet(peers, BOB)
    monkeypatch.setattr(clock, "wall", lambda: 5.0)
    meet(peers, CAROL)
    assert names(peers) == [ALICE, BOB, CAROL]


# What an earlier process has remembered.


def entry(identifier: str, last_seen: float = 0.0, source: str = "", kept: bool = False) -> KnownPeer:
    return KnownPeer(identifier, True, [], last_seen, source or ELSEWHERE.get(identifier, ""), kept)


def test_what_is_restored_is_bounded_too() -> None:
    peers = book(max_known_peers=2)
    peers.restore(map(entry, (ALICE, BOB, CAROL)))
    assert names(peers) == [BOB, CAROL]


def test_peers_of_whom_no_source_was_kept_count_as_one_source() -> None:
    peers = book(max_known_peers=160)
    peers.restore(entry(identifier(number)) for number in range(100))
    assert len(peers) == 10


def test_of_a_restored_peer_no_more_addresses_are_kept_than_of_another() -> None:
    peers = book()
    peers.restore([KnownPeer(ALICE, True, [f"192.0.2.1:{port}" for port in range(1, 100)])])
    assert [known.addresses for known in peers] == [[f"192.0.2.1:{port}" for port in range(1, 9)]]


def test_what_was_old_is_not_restored_and_the_youngest_tells_what_is_old() -> None:
    peers = book(known_peer_ttl=100)
    peers.restore([entry(ALICE, 5.0, kept=True), entry(BOB, 6.0), entry(CAROL, 200.0)])
    assert names(peers) == [ALICE, CAROL]


def test_an_entry_from_the_future_does_not_make_the_others_old() -> None:
    peers, now = book(known_peer_ttl=100), time.time()
    peers.restore([entry(ALICE, now - 50), entry(BOB, now + 1e9)])
    assert names(peers) == [ALICE, BOB]


def test_what_is_known_now_is_not_replaced_by_what_was_known_before() -> None:
    peers = book()
    peers.note(peer_at(port=2), dialled=True)
    peers.restore([KnownPeer(ALICE, True, ["192.0.2.1:1"])])
    assert [known.addresses for known in peers] == [["192.0.2.1:2"]]


def test_a_peer_can_be_forgotten_and_forgotten_again() -> None:
    peers = book()
    peers.note(peer_at(), dialled=True)
    peers.forget(ALICE)
    peers.forget(ALICE)
    assert (len(peers), peers.get(ALICE), ALICE in peers) == (0, None, False)


def test_peers_may_be_forgotten_while_the_book_is_read() -> None:
    peers = book()
    for identifier in (ALICE, BOB):
        peers.note(peer_at(identifier=identifier), dialled=False)
    for known in peers:
        peers.forget(known.identifier)
    assert len(peers) == 0


def test_a_known_peer_can_be_told_as_json() -> None:
    assert json.loads(json.dumps(KnownPeer(ALICE, True, ["192.0.2.1:1"], 5.0, "192.0.0.0/16").to_dict())) == {
        "identifier": ALICE,
        "proven": True,
        "addresses": ["192.0.2.1:1"],
        "last_seen": 5.0,
        "source": "192.0.0.0/16",
        "kept": False,
    }
