"""What peers say and do fills no table without end. Other bounds are tested where the tables are."""

from __future__ import annotations

from typing import cast

import pytest

from peernet import NetworkConfig, PeerNetwork, Reason
from peernet.v1 import packet_pb2 as pb
from peernet.wire.packets import KINDS
from tests.integration import attackers
from tests.integration.meetings import Networks, config
from tests.support import AssemblyOf, wait_until

# Everything that is ever counted: reasons, rules of the policy, and what the code names itself.
COUNTED = {
    *map(str, Reason),
    *("blocked_networks", "allowed_networks"),
    *(
        "refused",
        "unhandled",
        "unknown_kind",
        "callback_failed",
        "handler_failing",
        "durable_refused",
        "durable_aside",
        "buffers_exceeded",
        "closed_for_buffers",
        "reconnecting",
        "resumed",
    ),
}


def hellos() -> list[dict[str, object]]:
    """Ways to be refused, with texts that nobody else uses."""
    return [
        {"network_name": "\u2620" * 20},
        {"identifier": "x" * 300},
        {"agent": "\x1b[31m", "protocol_min": 77, "protocol_max": 78},
        {"listen_addresses": ["x" * 200] * 5, "identifier": "nobody"},
    ]


def goodbye(number: int) -> pb.DisconnectPacket:
    """With a reason that there may not be."""
    return pb.DisconnectPacket(reason=cast("pb.DisconnectReason.ValueType", number), message="because")


@pytest.mark.parametrize("plain", [False, True], ids=["tls", "plain"])
def test_no_text_of_a_peer_becomes_the_name_of_a_counter(networks: Networks, plain: bool) -> None:
    node = networks(insecure=plain)
    for changes in hellos():
        stranger = attackers.dial(node.addresses[0], plain=plain)
        stranger.send_hello(**changes)
        stranger.receive_all()
        stranger.leave()
    for number in (0, 999, 2**31 - 1, -1):
        leaver = attackers.dial(node.addresses[0], plain=plain)
        leaver.send(disconnect=goodbye(number))  # instead of a hello
        leaver.receive_all()
        leaver.leave()
    guest = attackers.dial(node.addresses[0], plain=plain)
    guest.greet()
    for kind in KINDS.values():
        if not kind.control:
            guest.send(**{kind.name: getattr(pb.Packet(), kind.name)})
    guest.send_frame(b"\xfa\x3e\x01x")  # a kind from the future
    guest.send(disconnect=goodbye(12345))
    guest.receive_all()
    guest.leave()
    wait_until(lambda: not node.active_peer_channels)
    assert node.counters["refused"] > 0
    assert set(map(str, node.counters)) <= COUNTED


def full_of_sessions(networks: Networks) -> PeerNetwork:
    """A node with room for three, whose three peers have lost their connections."""
    node = networks(config=config(max_inbound=3))
    for _ in range(3):
        guest = attackers.dial(node.addresses[0])
        guest.greet(session_id=7)
        guest.vanish()
    wait_until(lambda: node.counters["reconnecting"] == 3)
    return node


def test_sessions_that_wait_for_their_peers_count_as_channels_and_give_way(networks: Networks) -> None:
    node = full_of_sessions(networks)
    guests = [attackers.dial(node.addresses[0]) for _ in range(3)]
    for guest in guests:
        guest.greet()
    wait_until(lambda: node.counters["expired"] == 3)
    assert len(node.active_peer_channels) == 3
    late = attackers.dial(node.addresses[0])
    late.send_hello()
    assert late.farewell() == "busy"
    for guest in [*guests, late]:
        guest.leave()


def test_peers_that_come_and_go_leave_nothing_but_entries_of_the_address_book(
    networks: Networks, assembly_of: AssemblyOf
) -> None:
    node = networks(config=NetworkConfig(max_known_peers=16, session_ttl=0))
    for _ in range(20):
        guest = attackers.dial(node.addresses[0])
        guest.greet()
        guest.leave()
    wait_until(lambda: not node.active_peer_channels)
    switch = assembly_of(node).switch
    assert len(node.known_peers) == 1  # all of them from one source
    assert switch.channels.inbound == 0
    assert switch.arbiter.undecided == 0
    assert not len(node.inbound_connecting_peers)
    assert not len(node.bans)
