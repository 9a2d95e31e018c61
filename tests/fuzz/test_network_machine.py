"""Three nodes that come, go, dial each other, refuse each other and hear strangers, in any order."""

from __future__ import annotations

import gevent
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule

from peernet.errors import PeerNetError
from peernet.peers.ip_networks import IpNetworks
from peernet.runtime.greenlets import let_others_run
from tests.fuzz.conversations import conversations
from tests.fuzz.machine import Machine
from tests.fuzz.switchboard import Node, settle
from tests.support import wait_until

nodes = st.integers(0, 2)
two_nodes = st.permutations([0, 1, 2]).map(lambda order: order[:2])
strangers = st.one_of(st.sampled_from(conversations()).map(lambda one: one[1:]), st.binary(max_size=99))


class NetworkMachine(Machine):
    """Every node may dial every other."""

    @initialize()
    def begin(self) -> None:
        self.prepare(3)
        for node in self.nodes:
            node.network.bans.exempt_networks = IpNetworks(())  # here everybody is local

    def may_meet(self, one: Node, other: Node) -> bool:
        """Whether nothing speaks against a connection."""
        running = one.network.running and other.network.running
        unwanted = other.identifier in one.network.policy.blocked_identifiers or other.identifier in one.network.bans
        return running and not unwanted

    def dial(self, one: int, other: int) -> None:
        try:
            channel = self.nodes[one].network.connect(self.board.address(self.nodes[other]))
            assert channel.peer.identifier == self.nodes[other].identifier
        except PeerNetError:
            pass  # the rules below tell what must succeed

    @rule(pair=two_nodes)
    def connect(self, pair: list[int]) -> None:
        self.dial(*pair)

    @rule(pair=two_nodes)
    def connect_both_at_once(self, pair: list[int]) -> None:
        gevent.joinall([gevent.spawn(self.dial, *pair), gevent.spawn(self.dial, *pair[::-1])])

    @rule(pair=two_nodes)
    def reach_a_peer_when_all_is_well(self, pair: list[int]) -> None:
        one, other = (self.nodes[number] for number in pair)
        if self.may_meet(one, other) and self.may_meet(other, one):
            settle(self.nodes)
            channel = one.network.connect(self.board.address(other))
            assert channel.ping(timeout=5) > 0

    @rule(pair=two_nodes)
    def disconnect(self, pair: list[int]) -> None:
        one, other = (self.nodes[number] for number in pair)
        one.network.disconnect(other.identifier)

    @rule(pair=two_nodes, count=st.integers(1, 10))
    def send(self, pair: list[int], count: int) -> None:
        one, other = (self.nodes[number] for number in pair)
        for _ in range(count):
            self.number += 1
            one.say(other, self.number)

    @rule(pair=two_nodes, blocked=st.booleans())
    def block(self, pair: list[int], blocked: bool) -> None:
        network, other = self.nodes[pair[0]].network, self.nodes[pair[1]].identifier
        network.untrust(other)
        change = network.policy.adding if blocked else network.policy.removing
        network.policy = change(blocked_identifiers=other)
        if blocked:
            wait_until(lambda: network.channel_to(other) is None, what="the end of a channel to a blocked peer")

    @rule(pair=two_nodes)
    def ban(self, pair: list[int]) -> None:
        network, other = self.nodes[pair[0]].network, self.nodes[pair[1]].identifier
        network.bans.ban(other)
        wait_until(lambda: network.channel_to(other) is None, what="the end of a channel to a banned peer")

    @rule(number=nodes)
    def pardon(self, number: int) -> None:
        bans = self.nodes[number].network.bans
        assert len(bans) == bans.clear()
        assert not list(bans)

    @rule(pair=two_nodes, trusted=st.booleans())
    def trust(self, pair: list[int], trusted: bool) -> None:
        network, other = self.nodes[pair[0]].network, self.nodes[pair[1]].identifier
        if other not in network.policy.blocked_identifiers:
            (network.trust if trusted else network.untrust)(other)

    @rule(which=st.integers(0, 5), ends=st.integers(1, 3))
    def cut(self, which: int, ends: int) -> None:
        self.board.cut(which, ends)

    @rule(number=nodes)
    def stop(self, number: int) -> None:
        self.nodes[number].network.stop(1)
        assert not self.nodes[number].network.active_peer_channels

    @rule(number=nodes)
    def start(self, number: int) -> None:
        self.nodes[number].network.start()

    @rule(number=nodes, data=strangers)
    def hear_a_stranger(self, number: int, data: bytes) -> None:
        if self.nodes[number].network.running:
            self.board.call_as_a_stranger(self.nodes[number], data)

    @rule(turns=st.integers(1, 10))
    def pass_time(self, turns: int) -> None:
        for _ in range(turns):
            let_others_run()

    @invariant()
    def a_node_has_one_channel_to_a_peer(self) -> None:
        for node in getattr(self, "nodes", ()):
            peers = [channel.peer.identifier for channel in node.network.active_peer_channels]
            assert len(peers) == len(set(peers))
            assert node.identifier not in peers


TestNetwork = NetworkMachine.TestCase
# Each example starts and stops real networks, so there are fewer than of others; `make fuzz` has longer ones.
TestNetwork.settings = settings(max_examples=min(40, settings().max_examples))
