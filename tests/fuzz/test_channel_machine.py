"""Two peers and everything that may happen to the channel between them, in any order."""

from __future__ import annotations

from contextlib import suppress

import gevent
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from peernet.channel.state import ChannelState
from peernet.errors import PeerNetError
from peernet.reasons import Reason
from peernet.runtime.greenlets import let_others_run
from tests.fuzz.machine import Machine
from tests.fuzz.switchboard import settle
from tests.support import wait_until

sides = st.integers(0, 1)
# None of them is a packet, whatever the state.
GARBAGE = st.sampled_from([b"\x00", b"\xff" * 5, b"\x01\xff", b"\x04\xa2\x01\x01\x0a", b"\x80\x80\x80\x80\x7f"])


class ChannelMachine(Machine):
    """Alice has dialled Bob."""

    @initialize()
    def meet(self) -> None:
        self.prepare(2)
        self.connect()

    @rule()
    def connect(self) -> None:
        with suppress(PeerNetError):  # the network is down, or one has blocked the other
            self.nodes[0].network.connect(self.board.address(self.nodes[1]))

    @rule(side=sides, count=st.integers(1, 20))
    def try_send(self, side: int, count: int) -> None:
        for _ in range(count):
            self.number += 1
            self.nodes[side].say(self.nodes[1 - side], self.number)

    @rule(side=sides)
    def send(self, side: int) -> None:
        self.number += 1
        self.nodes[side].say(self.nodes[1 - side], self.number, timeout=0.02)

    @rule(turns=st.integers(1, 10))
    def pass_time(self, turns: int) -> None:
        for _ in range(turns):
            let_others_run()

    @rule(which=st.integers(0, 3), ends=st.integers(1, 3))
    def cut(self, which: int, ends: int) -> None:
        self.board.cut(which, ends)

    @rule(side=sides, ends=st.integers(1, 3), patience=st.sampled_from([0.0, 0.01, 0.03]))
    def cut_under_a_callback(self, side: int, ends: int, patience: float) -> None:
        """What waits behind a callback that waits itself belongs to a connection that is gone when it returns."""
        self.try_send(side, 20)
        self.pass_time(4)
        self.board.cut(0, ends)
        gevent.sleep(patience)

    @rule(down=st.booleans())
    def change_weather(self, down: bool) -> None:
        self.board.down = down

    @rule()
    def rest(self) -> None:
        self.board.down = False
        settle(self.nodes)

    @rule(which=st.integers(0, 3), end=sides, data=GARBAGE)
    def hear_garbage(self, which: int, end: int, data: bytes) -> None:
        self.board.intrude(which, end, data)

    @rule(side=sides, trusted=st.booleans())
    def trust(self, side: int, trusted: bool) -> None:
        network, identifier = self.nodes[side].network, self.nodes[1 - side].identifier
        if identifier in network.policy.blocked_identifiers:
            return
        (network.trust if trusted else network.untrust)(identifier)
        channel = network.channel_to(identifier)
        assert channel is None or channel.trusted is trusted or channel.state is ChannelState.CLOSING

    @rule(side=sides, blocked=st.booleans())
    def block(self, side: int, blocked: bool) -> None:
        network, other = self.nodes[side].network, self.nodes[1 - side].identifier
        network.untrust(other)
        change = network.policy.adding if blocked else network.policy.removing
        network.policy = change(blocked_identifiers=other)
        if blocked:
            wait_until(lambda: network.channel_to(other) is None, what="the end of a channel to a blocked peer")

    @rule(side=sides, patience=st.sampled_from([None, 0]))
    def close(self, side: int, patience: float | None) -> None:
        channel = self.nodes[side].network.channel_to(self.nodes[1 - side].identifier)
        if channel is not None:
            channel.close(Reason.CLOSED, timeout=patience)
            assert channel.state is ChannelState.CLOSED


TestChannel = ChannelMachine.TestCase
# Each example starts and stops real networks, so there are fewer than of others; `make fuzz` has longer ones.
TestChannel.settings = settings(max_examples=min(40, settings().max_examples))
