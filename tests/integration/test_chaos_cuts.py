"""Two peers whose connection is cut all the time; ``python -m tools.chaos cuts`` is the long form."""

from __future__ import annotations

import random
from functools import partial
from typing import Any

import pytest

from peernet.channel.channel import PeerChannel
from peernet.channel.state import ChannelState
from peernet.config import MIB, NetworkConfig
from peernet.errors import OutboxFullError
from peernet.testing import Direction, FaultProxy, Ledger
from peernet.v1.packet_pb2 import DataTransmissionPacket
from tests.integration.meetings import Networks
from tests.support import scaled, wait_until
from tools.chaos import cuts

pytestmark = pytest.mark.stress

# Redials without long pauses; the long form measures those.
QUICK = NetworkConfig(backoff_base=0.02, backoff_cap=0.2, redial_interval=0.01)


@pytest.mark.parametrize(("seed", "insecure"), [(1, False), (2, True)], ids=["tls", "insecure"])
def test_no_packet_is_lost_doubled_or_swapped_over_cuts_of_every_kind(seed: int, insecure: bool) -> None:
    figures = cuts.run(**cuts.SHORT, seed=seed, config=QUICK, insecure=insecure)
    assert [figure for figure in figures if figure.missed] == []


class Flood:
    """Two peers who answer every packet of the largest size with another one, from their callbacks."""

    def __init__(self, networks: Networks, turns: int) -> None:
        self.turns = turns
        self.bob, self.alice = networks(config=QUICK), networks(config=QUICK, listen=[])
        self.ledger = Ledger()
        self.heard = {self.alice.identifier: 0, self.bob.identifier: 0}
        for network, other in ((self.alice, self.bob), (self.bob, self.alice)):
            network.trust(other.identifier)
            network.handlers["data_transmission"] = self._answer
            self.ledger.watch(network)

    def begin(self, channel: PeerChannel, count: int) -> None:
        for number in range(count):
            self.send(channel, 1000 + number)

    def send(self, channel: PeerChannel, number: int) -> None:
        self.ledger.send(channel, DataTransmissionPacket(data=number.to_bytes(8, "big") + bytes(1 * MIB - 100)))

    def _answer(self, channel: PeerChannel, packet: Any) -> None:
        sender = channel.peer.identifier
        self.heard[sender] += 1
        if self.heard[sender] <= self.turns:
            try:
                self.send(channel, self.heard[sender])
            except OutboxFullError:  # the reserve is used up too
                channel.spawn(self.send, channel, self.heard[sender])

    def has_turned(self, turns: int) -> bool:
        """Whether both sides have heard so many."""
        return min(self.heard.values()) >= turns


def test_flooding_each_other_from_callbacks_goes_on_over_cuts(networks: Networks) -> None:
    flood, rng, first = Flood(networks, turns=60), random.Random(5), 5
    with FaultProxy(flood.bob.addresses[0], seed=5) as proxy:
        channel = flood.alice.connect(proxy.address)
        back = wait_until(lambda: flood.bob.channel_to(flood.alice.identifier))
        for one in (channel, back):
            one.spawn(flood.begin, one, first)
        for goal in range(5, flood.turns, 5):
            wait_until(partial(flood.has_turned, goal), 20, f"{goal} turns; there were {flood.heard}")
            wait_until(lambda: channel.state is back.state is ChannelState.OPEN, 20)
            proxy.cut_after(rng.randrange(3 * MIB), rng.choice(list(Direction)))
        wait_until(lambda: flood.has_turned(flood.turns + first), 20, f"the end; there were {flood.heard}")
        flood.ledger.check(timeout=scaled(10))
    assert proxy.counters["cuts"] > 5
    assert flood.ledger.totals()["acknowledged"] == 2 * (flood.turns + first)
