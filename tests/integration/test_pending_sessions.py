"""Peers whose connection dies while nobody has decided yet whether to let them in."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from peernet import IncomingPeerMode, IncomingPeerTrustPolicy, PeerNetwork, Reason
from peernet.channel.receipts import Receipt
from peernet.config import NetworkConfig
from peernet.errors import DeliveryFailed
from peernet.switch.pending import IncomingPeerConnectionAttempt
from peernet.testing import FaultProxy
from tests.integration.meetings import text
from tests.support import Recorder, record, scaled, wait_until

QUICK = NetworkConfig(backoff_base=0.02, backoff_cap=0.2, redial_interval=0.01)


class Doorstep:
    """Alice has connected to bob through a proxy and sent him a packet; bob's operator has not decided yet."""

    def __init__(self, networks: Callable[..., PeerNetwork]) -> None:
        policy = IncomingPeerTrustPolicy(incoming_peer_placement=IncomingPeerMode.QUEUE_BASED)
        self.bob, self.alice = networks(policy=policy, config=QUICK), networks(listen=[], config=QUICK)
        self.heard = self.bob.handlers["pure_message"] = Recorder()
        self.pending = record(self.bob.peer_pending)
        self.proxy = FaultProxy(self.bob.addresses[0])
        self.channel = self.alice.connect(self.proxy.address)
        self.receipt: Receipt = self.channel.send(text("let me in"))
        self.attempt(1)

    def attempt(self, number: int) -> IncomingPeerConnectionAttempt:
        """How alice waits to be let in, for the first time or again."""
        waiting: IncomingPeerConnectionAttempt = self.pending.wait_for(number)[number - 1][0]
        return waiting


@pytest.fixture
def doorstep(networks: Callable[..., PeerNetwork]) -> Iterator[Doorstep]:
    made = Doorstep(networks)
    yield made
    made.proxy.stop()


def test_a_packet_that_waited_for_the_decision_is_told_to_be_lost(doorstep: Doorstep) -> None:
    doorstep.proxy.refuses = True
    doorstep.proxy.reset()
    wait_until(lambda: doorstep.attempt(1).reason is Reason.CONNECTION_LOST)
    doorstep.proxy.refuses = False
    doorstep.attempt(2).accept()
    with pytest.raises(DeliveryFailed) as caught:
        doorstep.receipt.wait(scaled(5))
    assert caught.value.reason is Reason.SESSION_LOST
    again = wait_until(lambda: doorstep.alice.channel_to(doorstep.bob.identifier))
    assert again.send(text("again")).wait(scaled(5))
    assert [packet.pure_message.message for packet in doorstep.heard.packets] == ["again"]


def test_a_peer_that_is_let_in_just_after_its_connection_died_resumes(doorstep: Doorstep) -> None:
    doorstep.proxy.reset()
    doorstep.attempt(1).accept()
    assert doorstep.receipt.wait(scaled(5))
    assert doorstep.alice.active_peer_channels == [doorstep.channel]
