"""The ledger on real networks."""

from __future__ import annotations

import gevent
import pytest

from peernet.errors import ConfigurationError, OutboxFullError, PeerNetError
from peernet.network import PeerNetwork
from peernet.reasons import Reason
from peernet.testing import FaultProxy, Ledger, LedgerError, Rule
from peernet.v1.packet_pb2 import DataTransmissionPacket
from tests.integration.meetings import Networks, config, meet, text
from tests.support import scaled


def watched(*networks: PeerNetwork) -> Ledger:
    ledger = Ledger()
    for network in networks:
        network.handlers["pure_message"] = lambda channel, packet: None
        ledger.watch(network)
    return ledger


def test_a_conversation_balances(networks: Networks) -> None:
    met = meet(networks)
    ledger = watched(met.alice, met.bob)
    for number in range(100):
        ledger.send(met.to_bob, text(f"to bob {number}"))
        ledger.send(met.to_alice, text(f"to alice {number}"))
    ledger.check(timeout=scaled(5))
    assert ledger.totals() == {"accepted": 200, "acknowledged": 200, "failed": 0, "pending": 0, "delivered": 200}


def test_it_records_what_callbacks_get_whenever_they_are_set(networks: Networks) -> None:
    met = meet(networks)
    ledger = watched(met.alice, met.bob)
    met.bob.trust(met.alice.identifier)
    unhandled = ledger.send(met.to_bob, DataTransmissionPacket(data=b"unhandled"))
    with pytest.raises(PeerNetError):
        unhandled.wait(scaled(5))
    assert ledger.totals()["delivered"] == 0
    met.to_alice.handlers["data_transmission"] = lambda channel, packet: None
    assert ledger.send(met.to_bob, DataTransmissionPacket(data=b"handled")).wait(scaled(5))
    assert ledger.totals()["delivered"] == ledger.totals()["failed"] == 1
    ledger.check()


def test_packets_sent_behind_its_back_are_found(networks: Networks) -> None:
    met = meet(networks)
    ledger = watched(met.alice, met.bob)
    met.to_bob.send(text("unknown")).wait(scaled(5))
    with pytest.raises(LedgerError) as caught:
        ledger.check()
    assert [violation.rule for violation in caught.value.violations] == [Rule.ACCEPTED]


def test_a_message_that_arrives_changed_is_found(networks: Networks) -> None:
    met = meet(networks)
    ledger = watched(met.alice, met.bob)
    met.bob.packet_received.listeners = (
        lambda channel, packet: setattr(packet.pure_message, "message", "changed"),
        *met.bob.packet_received.listeners,
    )
    ledger.send(met.to_bob, text("original")).wait(scaled(5))
    assert [violation.rule for violation in ledger.violations()] == [Rule.ACCEPTED, Rule.KEPT]


def test_what_was_not_accepted_is_not_recorded(networks: Networks) -> None:
    met = meet(networks, config=config(session_packets=1))
    ledger = watched(met.alice, met.bob)
    go_on = gevent.event.Event()
    met.bob.handlers["pure_message"] = lambda channel, packet: go_on.wait(scaled(10))
    ledger.send(met.to_bob, text("first"))
    with pytest.raises(OutboxFullError):
        ledger.send(met.to_bob, text("second"), timeout=0)
    go_on.set()
    ledger.check(timeout=scaled(5))
    assert ledger.totals()["accepted"] == 1


def test_a_lost_session_fails_what_was_open_and_balances(networks: Networks) -> None:
    alice, bob = networks(listen=[], config=config(session_ttl=0.2)), networks(config=config(session_ttl=0.2))
    with FaultProxy(bob.addresses[0]) as proxy:
        ledger = watched(alice, bob)
        channel = alice.connect(proxy.address)
        proxy.refuses = True
        proxy.freeze()
        receipt = ledger.send(channel, text("lost"))
        proxy.reset()
        assert channel.wait_closed(scaled(10))
    assert receipt.reason is Reason.EXPIRED
    ledger.check()
    assert ledger.totals()["failed"] == 1


def test_a_channel_of_a_network_that_is_not_watched_is_refused(networks: Networks) -> None:
    met = meet(networks)
    with pytest.raises(ConfigurationError, match="watches"):
        watched(met.bob).send(met.to_bob, text("hello"))
