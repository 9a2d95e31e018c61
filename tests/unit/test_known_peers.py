from __future__ import annotations

import itertools
import json
import time
from typing import Any

import pytest

from peernet.config import NetworkConfig
from peernet.known_peers import ChannelTable, KnownPeer, KnownPeers
from tests.unit.peers import ALICE, BOB, CAROL, FakeChannel, peer_at


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


def test_the_peer_not_seen_for_longest_is_forgotten_when_there_are_too_many() -> None:
    peers = book(max_known_peers=2)
    for identifier in (ALICE, BOB, ALICE, CAROL):
        peers.note(peer_at(identifier=identifier), dialled=False)
    assert [known.identifier for known in peers] == [ALICE, CAROL]


def test_many_who_only_came_to_us_do_not_push_out_those_we_can_dial() -> None:
    peers = book(max_known_peers=2)
    peers.note(peer_at(identifier=ALICE), dialled=True)
    for identifier in (BOB, CAROL):
        peers.note(peer_at(identifier=identifier), dialled=False)
    assert [known.identifier for known in peers] == [ALICE, CAROL]


def test_what_is_restored_is_bounded_too() -> None:
    peers = book(max_known_peers=2)
    for identifier in (ALICE, BOB, CAROL):
        peers.restore(KnownPeer(identifier, True))
    assert [known.identifier for known in peers] == [BOB, CAROL]


def test_what_is_known_now_is_not_replaced_by_what_was_known_before() -> None:
    peers = book()
    peers.note(peer_at(port=2), dialled=True)
    peers.restore(KnownPeer(ALICE, True, ["192.0.2.1:1"]))
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
    assert json.loads(json.dumps(KnownPeer(ALICE, True, ["192.0.2.1:1"], 5.0).to_dict())) == {
        "identifier": ALICE,
        "proven": True,
        "addresses": ["192.0.2.1:1"],
        "last_seen": 5.0,
    }


# Channels.


def channel(identifier: str = BOB, *, dialled: bool = True) -> Any:
    return FakeChannel(peer=peer_at(identifier=identifier), dialled=dialled)


def test_a_channel_is_found_by_the_identifier_of_its_peer() -> None:
    table, one = ChannelTable(ALICE), channel()
    assert table.add(one) is None
    assert (table.get(BOB), table.get(CAROL), len(table), list(table)) == (one, None, 1, [one])


def test_a_second_channel_to_a_peer_replaces_the_first() -> None:
    table, first, second = ChannelTable(ALICE), channel(), channel()
    table.add(first)
    assert table.add(second) is first
    assert list(table) == [second]
    assert not table.remove(first)
    assert table.remove(second)
    assert not table.remove(second)


def test_inbound_channels_are_counted() -> None:
    table = ChannelTable(ALICE)
    inbound, dialled = channel(BOB, dialled=False), channel(CAROL)
    counts = []
    for change in (table.add, table.remove):
        for one in (inbound, dialled):
            change(one)
            counts.append(table.inbound)
    assert counts == [1, 1, 0, 0]


def test_replacing_an_inbound_channel_keeps_the_count_right() -> None:
    table = ChannelTable(ALICE)
    table.add(channel(dialled=False))
    table.add(channel(dialled=False))
    assert table.inbound == 1
    table.add(channel(dialled=True))
    assert table.inbound == 0


def test_the_first_connection_with_a_peer_gives_way_to_nothing() -> None:
    assert not ChannelTable(ALICE).keeps_existing(BOB, dialled=True)


# Me, the peer, who dialled the channel that exists -> whether it stays when the other side's one comes.
@pytest.mark.parametrize(
    ("me", "peer", "dialled", "kept"),
    [(ALICE, BOB, True, True), (ALICE, BOB, False, False), (BOB, ALICE, True, False), (BOB, ALICE, False, True)],
)
def test_of_two_that_were_dialled_crosswise_the_smaller_identifiers_one_is_kept(
    me: str, peer: str, dialled: bool, kept: bool
) -> None:
    table = ChannelTable(me)
    table.add(channel(peer, dialled=dialled))
    assert table.keeps_existing(peer, dialled=not dialled) is kept


@pytest.mark.parametrize("dialled", [True, False])
def test_of_two_that_one_side_dialled_the_older_one_is_kept(dialled: bool) -> None:
    table = ChannelTable(ALICE)
    table.add(channel(BOB, dialled=dialled))
    assert table.keeps_existing(BOB, dialled=dialled)


def test_both_sides_keep_the_same_connection() -> None:
    """Whatever order the two connections come in at either side."""
    for first_at_alice, first_at_bob in itertools.product([ALICE, BOB], repeat=2):
        kept = []
        for me, peer, first in ((ALICE, BOB, first_at_alice), (BOB, ALICE, first_at_bob)):
            table = ChannelTable(me)
            table.add(channel(peer, dialled=first == me))
            second = peer if first == me else me
            kept.append(first if table.keeps_existing(peer, dialled=second == me) else second)
        assert kept == [ALICE, ALICE]
