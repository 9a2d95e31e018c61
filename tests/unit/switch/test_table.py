"""Which channel there is to a peer, and which of two is kept."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import pytest

from peernet.switch.table import ChannelTable
from tests.unit.sample_peers import ALICE, BOB, CAROL, FakeChannel, peer_at


@dataclass(eq=False)
class FakeControl:
    """As much of a control as the table looks at."""

    channel: FakeChannel


def control(identifier: str = BOB, *, dialled: bool = True) -> Any:
    return FakeControl(FakeChannel(peer=peer_at(identifier=identifier), dialled=dialled))


def test_a_channel_is_found_by_the_identifier_of_its_peer() -> None:
    table, one = ChannelTable(ALICE), control()
    assert table.add(one) is None
    assert (table.get(BOB), table.get(CAROL), len(table), list(table)) == (one, None, 1, [one])
    assert (table.channel_to(BOB), table.channel_to(CAROL)) == (one.channel, None)


def test_the_control_of_a_channel_is_found_while_the_channel_is_the_one_to_its_peer() -> None:
    first, second = control(), control()
    channel = first.channel
    table = ChannelTable(ALICE)
    assert table.control_of(first.channel) is None
    table.add(first)
    assert table.control_of(first.channel) is first
    table.add(second)
    assert (table.control_of(channel), table.control_of(second.channel)) == (None, second)


def test_a_second_channel_to_a_peer_replaces_the_first() -> None:
    first, second = control(), control()
    channel = first.channel
    table = ChannelTable(ALICE)
    table.add(first)
    assert table.add(second) is first
    assert list(table) == [second]
    assert not table.remove(channel)
    assert table.remove(second.channel)
    assert not table.remove(second.channel)


def test_inbound_channels_are_counted() -> None:
    table = ChannelTable(ALICE)
    inbound, dialled = control(BOB, dialled=False), control(CAROL)
    counts = []
    for change in (table.add, lambda one: table.remove(one.channel)):
        for one in (inbound, dialled):
            change(one)
            counts.append(table.inbound)
    assert counts == [1, 1, 0, 0]


def test_replacing_an_inbound_channel_keeps_the_count_right() -> None:
    table = ChannelTable(ALICE)
    table.add(control(dialled=False))
    table.add(control(dialled=False))
    assert table.inbound == 1
    table.add(control(dialled=True))
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
    table.add(control(peer, dialled=dialled))
    assert table.keeps_existing(peer, dialled=not dialled) is kept


@pytest.mark.parametrize("dialled", [True, False])
def test_of_two_that_one_side_dialled_the_older_one_is_kept(dialled: bool) -> None:
    table = ChannelTable(ALICE)
    table.add(control(BOB, dialled=dialled))
    assert table.keeps_existing(BOB, dialled=dialled)


def test_both_sides_keep_the_same_connection() -> None:
    """Whatever order the two connections come in at either side."""
    for first_at_alice, first_at_bob in itertools.product([ALICE, BOB], repeat=2):
        kept = []
        for me, peer, first in ((ALICE, BOB, first_at_alice), (BOB, ALICE, first_at_bob)):
            table = ChannelTable(me)
            table.add(control(peer, dialled=first == me))
            second = peer if first == me else me
            kept.append(first if table.keeps_existing(peer, dialled=second == me) else second)
        assert kept == [ALICE, ALICE]
