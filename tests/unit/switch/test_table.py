"""Which channel there is to a peer, and to whoever is at an address."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from peernet.channel.state import ChannelState
from peernet.peers.address import PeerAddress
from peernet.peers.peer import GenericPeer
from peernet.switch.table import ChannelTable
from tests.unit.sample_peers import BOB, CAROL, FakeChannel, peer_at


@dataclass(eq=False)
class FakeControl:
    """As much of a control as the table looks at."""

    channel: FakeChannel
    expires_at: float = 0.0


def control(identifier: str = BOB, *, dialled: bool = True) -> Any:
    return FakeControl(FakeChannel(peer=peer_at(identifier=identifier), dialled=dialled))


def test_a_channel_is_found_by_the_identifier_of_its_peer() -> None:
    table, one = ChannelTable(), control()
    assert table.add(one) is None
    assert (table.get(BOB), table.get(CAROL), len(table), list(table)) == (one, None, 1, [one])
    assert (table.channel_to(BOB), table.channel_to(CAROL)) == (one.channel, None)


def test_the_control_of_a_channel_is_found_while_the_channel_is_the_one_to_its_peer() -> None:
    first, second = control(), control()
    channel = first.channel
    table = ChannelTable()
    assert table.control_of(first.channel) is None
    table.add(first)
    assert table.control_of(first.channel) is first
    table.add(second)
    assert (table.control_of(channel), table.control_of(second.channel)) == (None, second)


def test_a_second_channel_to_a_peer_replaces_the_first() -> None:
    first, second = control(), control()
    channel = first.channel
    table = ChannelTable()
    table.add(first)
    assert table.add(second) is first
    assert list(table) == [second]
    assert not table.remove(channel)
    assert table.remove(second.channel)
    assert not table.remove(second.channel)


def test_inbound_channels_are_counted() -> None:
    table = ChannelTable()
    inbound, dialled = control(BOB, dialled=False), control(CAROL)
    counts = []
    for change in (table.add, lambda one: table.remove(one.channel)):
        for one in (inbound, dialled):
            change(one)
            counts.append(table.inbound)
    assert counts == [1, 1, 0, 0]


def test_replacing_an_inbound_channel_keeps_the_count_right() -> None:
    table = ChannelTable()
    table.add(control(dialled=False))
    table.add(control(dialled=False))
    assert table.inbound == 1
    table.add(control(dialled=True))
    assert table.inbound == 0


# Whose address is asked for -> the channel that is found.


def at(address: str, *, dialled: bool = True, proven: bool = True, claims: str = "", identifier: str = BOB) -> Any:
    peer = GenericPeer(identifier, address, 4000, proven, listen_addresses=(claims,) if claims else ())
    return FakeControl(FakeChannel(peer=peer, dialled=dialled))


def test_the_channel_to_a_peer_whom_an_address_names_is_found_wherever_it_is() -> None:
    table, one = ChannelTable(), at("192.0.2.1", dialled=False)
    table.add(one)
    assert table.find(PeerAddress("198.51.100.1", 1, BOB)) is one.channel
    assert table.find(PeerAddress("192.0.2.1", 4000, CAROL)) is None


def test_of_an_address_that_names_nobody_the_channel_that_was_dialled_there_is_found() -> None:
    table, dialled, inbound = ChannelTable(), at("192.0.2.1"), at("192.0.2.2", dialled=False, identifier=CAROL)
    for one in (dialled, inbound):
        table.add(one)
    assert table.find(PeerAddress("192.0.2.1", 4000)) is dialled.channel
    assert table.find(PeerAddress("192.0.2.1", 4001)) is None
    assert table.find(PeerAddress("192.0.2.2", 4000)) is None


def test_who_only_says_that_it_listens_there_is_found_if_that_will_do_and_nobody_can_prove_anything() -> None:
    where, table = PeerAddress("192.0.2.1", 4000), ChannelTable()
    table.add(at("203.0.113.7", dialled=False, claims=where.endpoint))
    assert table.find(where, claimed=True) is None  # proven: the dial itself would have told
    claimant = at("203.0.113.7", dialled=False, proven=False, claims=where.endpoint)
    table.add(claimant)
    assert table.find(where) is None
    assert table.find(where, claimed=True) is claimant.channel
    dialled = at("192.0.2.1", identifier=CAROL)
    table.add(dialled)
    assert table.find(where, claimed=True) is dialled.channel


def test_those_without_a_connection_give_way_in_the_order_in_which_they_lost_it_and_the_trusted_last() -> None:
    table = ChannelTable()

    def add(identifier: str, expires_at: float, **state: Any) -> Any:
        usual: dict[str, Any] = {"dialled": False, "state": ChannelState.RECONNECTING}
        one: Any = FakeControl(FakeChannel(peer=peer_at(identifier=identifier), **(usual | state)), expires_at)
        table.add(one)
        return one

    friend = add("friend", 1.0, trusted=True)
    later, sooner = add("later", 3.0), add("sooner", 2.0)
    add("open", 0.0, state=ChannelState.OPEN)
    add("dialled", 0.0, dialled=True)
    assert table.detached == [sooner, later, friend]
