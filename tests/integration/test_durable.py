"""The durable outbox between two networks: what waits, what is delivered, and what becomes of it."""

from __future__ import annotations

import logging
import sqlite3
import threading
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent.event import Event as Flag
from gevent.pool import Pool

from peernet import DurableOutbox, IncomingPeerTrustPolicy, PacketHandleProtocol, PeerChannel, PeerNetwork, Reason
from peernet.durable import outbox as outbox_module
from peernet.durable.receipt import DurableReceipt
from peernet.durable.store import DurableStore
from peernet.errors import (
    AddressError,
    ConfigurationError,
    ConnectError,
    DeliveryFailed,
    LocalProtocolError,
    OutboxFullError,
    PacketTooBigError,
    PeerNetError,
    SelfWaitError,
    StorageError,
)
from peernet.v1.packet_pb2 import CollectionSharePacket, DataTransmissionPacket, HeartbeatPacket, PeerEntry
from tests.integration.meetings import Networks, config, text
from tests.support import Recorder, known, scaled, wait_until

SOMEBODY = "s" * 52
TRUSTING = IncomingPeerTrustPolicy(allow_enhanced_packet_exchange=True)


class Pair:
    """Alice, who has a durable outbox, and Bob, who comes and goes at the same address."""

    def __init__(self, networks: Networks, path: Path) -> None:
        self._networks = networks
        self.path = path
        self.got = Recorder()
        self.bob = networks(config=config())
        self.address = self.bob.addresses[0]
        self.bob.stop()
        self.alice = self.make_alice()

    def make_alice(self, **limits: Any) -> PeerNetwork:
        return self._networks(listen=[], durable_outbox=self.path, config=config(**limits))

    def renew_alice(self, **limits: Any) -> PeerNetwork:
        """Another network with the same file and identity, as after a restart."""
        self.alice.stop()
        self.alice = self._networks(
            identity=self.alice.identity, listen=[], durable_outbox=self.path, config=config(**limits)
        )
        return self.alice

    def bring_bob(self, *, callback: Any = None, limits: dict[str, Any] | None = None, **options: Any) -> PeerNetwork:
        handlers = PacketHandleProtocol()
        handlers["pure_message"] = callback or self.got
        where = [self.address.partition("@")[2]]
        self.bob = self._networks(
            identity=self.bob.identity, listen=where, handlers=handlers, config=config(**(limits or {})), **options
        )
        return self.bob

    def send(self, message: str, **options: Any) -> DurableReceipt:
        return self.alice.send(self.address, text(message), durable=True, **options)

    @property
    def messages(self) -> list[str]:
        return [packet.pure_message.message for packet in self.got.packets]

    @property
    def stored(self) -> int:
        """How many packets are in the file."""
        assert self.alice.durable_outbox is not None
        return len(self.alice.durable_outbox.describe(each=True))

    def is_empty(self) -> None:
        """Wait until nothing is in the file, and nothing is counted."""
        wait_until(lambda: self.stored == 0, what="the file to be empty")
        outbox = self.alice.durable_outbox
        assert outbox is not None
        wait_until(lambda: (outbox.packets, outbox.bytes, outbox.peers) == (0, 0, []))
        wait_until(lambda: outbox.idle, what="nothing to be kept in mind")


@pytest.fixture
def pair(networks: Networks, tmp_path: Path) -> Pair:
    return Pair(networks, tmp_path / "outbox.db")


# Delivery.


def test_a_connected_peer_gets_a_packet_with_its_id_at_once(pair: Pair) -> None:
    pair.bring_bob()
    pair.alice.connect(pair.address)
    receipt = pair.alice.send(pair.bob.identifier, text("hello"), durable=True)
    assert receipt.wait(5)
    (packet,) = pair.got.packets
    assert (packet.pure_message.message, packet.packet_id) == ("hello", receipt.packet_id)
    pair.is_empty()


def test_a_packet_whose_callback_failed_stays_stored_and_comes_again(pair: Pair) -> None:
    fails = True

    def callback(channel: PeerChannel, packet: Any) -> None:
        if fails and packet.pure_message.message == "poison":
            raise ValueError("oops")
        pair.got(channel, packet)

    bob = pair.bring_bob(callback=callback)
    pair.alice.connect(pair.address)
    receipt = pair.send("poison")
    wait_until(lambda: bob.counters["callback_failed"] == 1)
    assert pair.send("behind").wait(5)  # which is not kept from its delivery
    assert pair.messages == ["behind"]
    assert not receipt.done
    fails = False
    assert pair.send("another").wait(5)  # and makes the first one be tried again
    assert receipt.wait(5)
    assert sorted(pair.messages) == ["another", "behind", "poison"]
    pair.is_empty()


# Callbacks that keep failing.


class Poisoned:
    """A callback that raises on the packet "poison" so many times, and takes everything else."""

    def __init__(self, pair: Pair, failures: int = 10**6) -> None:
        self._pair = pair
        self.failures = failures
        self.ids: list[bytes] = []  # of each call for the packet

    def __call__(self, channel: PeerChannel, packet: Any) -> None:
        if packet.pure_message.message == "poison":
            self.ids.append(packet.packet_id)
            if len(self.ids) <= self.failures:
                raise ValueError("oops")
        self._pair.got(channel, packet)


def outbox_of(network: PeerNetwork) -> DurableOutbox:
    assert network.durable_outbox is not None
    return network.durable_outbox


def row_of(pair: Pair) -> tuple[int, bool, str | None]:
    """What the file says of its only packet."""
    (row,) = outbox_of(pair.alice).describe(each=True)
    return row["attempts"], row["aside"], row["reason"]


def wait_until_aside(pair: Pair, receipt: DurableReceipt) -> None:
    with pytest.raises(DeliveryFailed, match="is set aside") as caught:
        receipt.wait(5)
    assert (caught.value.reason, receipt.stored) == (Reason.HANDLER_FAILED, True)
    outbox = outbox_of(pair.alice)
    assert (outbox.packets, outbox.aside, outbox.peers) == (1, 1, [pair.bob.identifier])
    wait_until(lambda: outbox.idle, what="nothing to be under way")


def test_a_packet_whose_callback_fails_three_times_is_delivered_by_the_fourth_call(pair: Pair) -> None:
    callback = Poisoned(pair, failures=3)
    bob = pair.bring_bob(callback=callback)
    receipt = pair.send("poison")
    assert receipt.wait(5)  # though no other packet is sent, and no channel is made anew
    assert callback.ids == [receipt.packet_id] * 4
    assert bob.counters["callback_failed"] == 3
    assert pair.messages == ["poison"]
    pair.is_empty()


def test_those_behind_a_packet_that_fails_are_delivered_in_order(pair: Pair) -> None:
    callback = Poisoned(pair, failures=3)
    receipts = [pair.send(message) for message in ("0", "poison", *map(str, range(1, 30)))]
    pair.bring_bob(callback=callback)
    assert all(receipt.wait(5) for receipt in receipts)
    others = [message for message in pair.messages if message != "poison"]
    assert others == list(map(str, range(30)))
    assert pair.messages.count("poison") == 1
    pair.is_empty()


def test_a_packet_waits_longer_than_those_behind_it_and_stopping_does_not_wait_for_it(pair: Pair) -> None:
    pair.renew_alice(backoff_base=30.0, backoff_cap=30.0)
    callback = Poisoned(pair)
    pair.bring_bob(callback=callback)
    pair.alice.connect(pair.address)
    receipt = pair.send("poison")
    wait_until(lambda: row_of(pair) == (1, False, "handler_failed"))
    assert pair.send("behind").wait(5)
    assert (len(callback.ids), receipt.done) == (1, False)
    with gevent.Timeout(3):
        pair.alice.stop()
    assert (receipt.reason, receipt.stored) == (Reason.SHUTDOWN, True)


def test_after_so_many_attempts_a_packet_is_set_aside_and_told_of_once(
    pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    pair.renew_alice(durable_attempts=3)
    told: list[tuple[str, bytes, int]] = []

    @pair.alice.packet_set_aside.add
    def listen(peer: str, packet_id: bytes, attempts: int) -> None:
        told.append((peer, packet_id, attempts))

    callback = Poisoned(pair)
    pair.bring_bob(callback=callback)
    receipt = pair.send("poison")
    wait_until_aside(pair, receipt)
    assert pair.send("behind").wait(5)
    assert callback.ids == [receipt.packet_id] * 3
    assert row_of(pair) == (3, True, "handler_failed")
    assert told == [(pair.bob.identifier, receipt.packet_id, 3)]
    assert pair.alice.counters["durable_aside"] == 1
    assert caplog.text.count("set aside, because its callback failed 3 times") == 1


def test_attempts_and_what_is_set_aside_outlive_their_network(pair: Pair) -> None:
    pair.renew_alice(durable_attempts=4)
    callback = Poisoned(pair)
    bob = pair.bring_bob(callback=callback)

    def callback_and_leave(channel: PeerChannel, packet: Any) -> None:
        if len(callback.ids) == 2:
            Flag().wait()  # this call is cut, so it does not count
        callback(channel, packet)

    bob.handlers["pure_message"] = callback_and_leave
    receipt = pair.send("poison")
    wait_until(lambda: row_of(pair) == (2, False, "handler_failed"))
    pair.renew_alice(durable_attempts=4)
    assert row_of(pair) == (2, False, "handler_failed")
    bob.handlers["pure_message"] = callback
    wait_until(lambda: outbox_of(pair.alice).aside == 1)
    assert callback.ids == [receipt.packet_id] * 4
    pair.renew_alice(durable_attempts=4)
    assert (outbox_of(pair.alice).aside, row_of(pair)) == (1, (4, True, "handler_failed"))
    assert outbox_of(pair.alice).idle  # nobody is dialled for it


def test_what_is_set_aside_is_sent_again_when_somebody_says_so_and_its_attempts_begin_anew(pair: Pair) -> None:
    pair.renew_alice(durable_attempts=2)
    callback = Poisoned(pair, failures=5)
    pair.bring_bob(callback=callback)
    outbox = outbox_of(pair.alice)
    receipt = pair.send("poison")
    for calls in (2, 4):
        wait_until(lambda: outbox.aside == 1)
        assert len(callback.ids) == calls
        assert outbox.retry(SOMEBODY) == 0
        assert outbox.retry(pair.bob.identifier if calls == 2 else None) == 1
    pair.is_empty()
    assert callback.ids == [receipt.packet_id] * 6
    assert (pair.messages, outbox.aside) == (["poison"], 0)
    assert receipt.reason is Reason.HANDLER_FAILED  # it has said so, and stays with it


def test_a_peer_that_is_away_is_dialled_when_what_is_set_aside_is_sent_again(pair: Pair) -> None:
    pair.renew_alice(durable_attempts=1)
    pair.bring_bob(callback=Poisoned(pair))
    wait_until_aside(pair, pair.send("poison"))
    pair.bob.stop()
    wait_until(lambda: pair.alice.channel_to(pair.bob.identifier) is None)
    outbox = outbox_of(pair.alice)
    assert outbox.retry() == 1
    pair.bring_bob()
    pair.got.wait_for(1)
    pair.is_empty()


def test_what_is_set_aside_counts_for_the_limits_and_can_be_dropped(pair: Pair) -> None:
    pair.renew_alice(durable_attempts=1, durable_packets_per_peer=1)
    pair.bring_bob(callback=Poisoned(pair))
    wait_until_aside(pair, pair.send("poison"))
    with pytest.raises(OutboxFullError):
        pair.send("more")
    outbox = outbox_of(pair.alice)
    assert outbox.drop([pair.bob.identifier]) == 1
    assert (outbox.packets, outbox.bytes, outbox.aside, outbox.retry()) == (0, 0, 0, 0)
    assert pair.send("more").wait(5)


@pytest.mark.parametrize("act", ["retry", "drop"])
def test_what_is_done_to_packets_is_done_though_whoever_asked_for_it_waits_no_longer(pair: Pair, act: str) -> None:
    pair.renew_alice(durable_attempts=1)
    callback = Poisoned(pair)
    pair.bring_bob(callback=callback)
    wait_until_aside(pair, pair.send("poison"))
    callback.failures = 0
    outbox = outbox_of(pair.alice)
    with pytest.raises(gevent.Timeout), gevent.Timeout(0):
        outbox.retry() if act == "retry" else outbox.drop([pair.bob.identifier])
    wait_until(lambda: outbox.packets == outbox.aside == pair.stored == 0)
    assert outbox.bytes == 0
    assert len(callback.ids) == (2 if act == "retry" else 1)


def test_a_receipt_of_a_dropped_packet_is_settled_though_nobody_waits_for_the_dropping(pair: Pair) -> None:
    receipt = pair.send("hello")
    with pytest.raises(gevent.Timeout), gevent.Timeout(0):
        outbox_of(pair.alice).drop([pair.bob.identifier])
    with pytest.raises(DeliveryFailed) as caught:
        receipt.wait(scaled(5))
    assert caught.value.reason is Reason.DROPPED


def test_one_identifier_is_no_list_of_identifiers(pair: Pair) -> None:
    pair.send("hello")
    with pytest.raises(ConfigurationError, match="drop takes a list of identifiers"):
        outbox_of(pair.alice).drop(pair.bob.identifier)
    assert pair.stored == 1


def test_a_packet_that_is_dropped_while_it_fails_is_not_set_aside(pair: Pair) -> None:
    pair.renew_alice(durable_attempts=2, backoff_base=0.2, backoff_cap=0.2)
    callback = Poisoned(pair)
    pair.bring_bob(callback=callback)
    receipt = pair.send("poison")
    wait_until(lambda: row_of(pair)[0] == 1)
    outbox_of(pair.alice).drop([pair.bob.identifier])
    assert receipt.reason is Reason.DROPPED
    assert pair.send("later").wait(5)
    pair.is_empty()
    assert (outbox_of(pair.alice).aside, len(callback.ids)) == (0, 1)


def test_what_is_acknowledged_is_neither_counted_nor_in_the_file(pair: Pair) -> None:
    pair.bring_bob()
    outbox, receipt = pair.alice.durable_outbox, pair.send("hello")
    assert outbox is not None
    assert receipt.wait(5)
    assert (receipt.stored, outbox.packets, outbox.bytes, outbox.peers) == (False, 0, 0, [])
    assert pair.stored == 0


def test_what_is_acknowledged_but_cannot_be_removed_stays_stored_and_is_settled_later(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(DurableStore, "remove", fail)
    first = pair.bring_bob()
    receipt = pair.send("hello")
    wait_until(lambda: "stays so; it goes on in 5.0 s: the durable outbox" in caplog.text)
    outbox = pair.alice.durable_outbox
    assert outbox is not None
    assert (receipt.done, receipt.stored, outbox.packets) == (False, True, 1)
    first.stop()
    wait_until(lambda: "stays so until it connects again" in caplog.text)
    assert (receipt.done, receipt.stored, outbox.packets) == (False, True, 1)
    monkeypatch.undo()
    pair.bring_bob()
    assert receipt.wait(5)
    assert outbox.packets == 0


@pytest.mark.parametrize("method", ["remove", "load"])
@pytest.mark.parametrize("woken", [True, False])
def test_when_the_file_works_again_delivery_goes_on_and_nothing_comes_twice_through_one_channel(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, method: str, woken: bool
) -> None:
    def fail(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(outbox_module, "FILE_PAUSE", scaled(60) if woken else 0.01)
    with monkeypatch.context() as patched:
        patched.setattr(DurableStore, method, fail)
        pair.bring_bob()
        receipts = [pair.send("one"), pair.send("two")]
        wait_until(lambda: "stays so; it goes on in" in caplog.text)
    if woken:
        receipts.append(pair.send("three"))
    assert all(receipt.wait(5) for receipt in receipts)
    assert pair.messages == ["one", "two", "three"][: len(receipts)]
    pair.is_empty()


def test_packets_wait_for_a_peer_that_is_away_and_arrive_in_order(pair: Pair) -> None:
    receipts = [pair.send(str(number)) for number in range(20)]
    assert pair.stored == 20
    assert not any(receipt.done for receipt in receipts)
    pair.bring_bob()  # and Alice dials him
    assert all(receipt.wait(5) for receipt in receipts)
    assert pair.messages == [str(number) for number in range(20)]
    pair.is_empty()


def test_packets_wait_for_a_peer_that_cannot_be_dialled_and_leave_when_it_dials(networks: Networks, pair: Pair) -> None:
    pair.bob = networks(identity=pair.bob.identity, listen=[])
    pair.bob.handlers["pure_message"] = pair.got
    alice = networks(durable_outbox=pair.path.with_name("other.db"), config=config())
    receipt = alice.send(pair.bob.identifier, text("hello"), durable=True)
    gevent.sleep(0.05)
    assert not receipt.done
    pair.bob.connect(alice.addresses[0])
    assert receipt.wait(5)


def test_packets_outlive_their_network_and_leave_with_the_next_one_to_the_address_they_came_with(pair: Pair) -> None:
    receipt = pair.send("hello")
    pair.renew_alice()
    assert (receipt.reason, receipt.stored) == (Reason.SHUTDOWN, True)
    with pytest.raises(DeliveryFailed, match="stays stored"):
        receipt.wait()
    pair.bring_bob()
    pair.got.wait_for(1)
    assert pair.got.packets[0].packet_id == receipt.packet_id
    pair.is_empty()


def test_a_network_that_is_started_again_goes_on(pair: Pair) -> None:
    pair.send("hello")
    pair.alice.stop()
    pair.alice.start()
    pair.bring_bob()
    pair.got.wait_for(1)
    pair.is_empty()


def test_many_more_packets_than_fit_into_the_window_arrive_once_and_in_order(pair: Pair) -> None:
    pair.renew_alice(durable_window=8)
    pair.bring_bob()
    senders = Pool(50)
    for number in range(200):
        senders.spawn(pair.send, str(number))
    senders.join()
    pair.got.wait_for(200, 20)
    assert pair.messages == [str(number) for number in range(200)]
    pair.is_empty()


def test_no_more_than_the_window_is_under_way(pair: Pair) -> None:
    pair.renew_alice(durable_window=8)
    go = Flag()

    def wait(channel: PeerChannel, packet: Any) -> None:
        pair.got(channel, packet)
        go.wait()

    for number in range(30):
        pair.send(str(number))
    pair.bring_bob(callback=wait)
    pair.got.wait_for(1)
    channel = wait_until(lambda: pair.alice.channel_to(pair.bob.identifier))
    wait_until(lambda: known(channel.session).sent == 8)
    gevent.sleep(0.05)
    assert known(channel.session).sent == 8
    go.set()
    pair.got.wait_for(30)
    pair.is_empty()


def test_large_packets_are_read_as_they_can_be_sent(pair: Pair) -> None:
    body = DataTransmissionPacket(data=bytes(700_000))
    for _ in range(8):
        pair.alice.send(pair.address, body, durable=True)
    pair.bring_bob(policy=TRUSTING).handlers["data_transmission"] = pair.got
    pair.got.wait_for(8, 20)
    pair.is_empty()


# What ends a session, and what ends a packet.


def test_what_a_peer_had_not_handled_when_it_ended_is_sent_again_under_the_same_id(pair: Pair) -> None:
    hanging = Recorder()

    def hang(channel: PeerChannel, packet: Any) -> None:
        hanging(channel, packet)
        if len(hanging) == 2:
            Flag().wait()

    first = pair.bring_bob(callback=hang)
    receipts = [pair.send(str(number)) for number in range(3)]
    hanging.wait_for(2)
    first.stop(0.1)
    pair.bring_bob()
    assert all(receipt.wait(10) for receipt in receipts)
    assert pair.messages in (["1", "2"], ["0", "1", "2"])  # whether 0 was acknowledged in time is not known
    assert [packet.packet_id for packet in pair.got.packets] == [
        receipt.packet_id for receipt in receipts[-len(pair.got) :]
    ]
    pair.is_empty()


def test_a_packet_that_the_peer_does_not_permit_is_removed_and_the_others_arrive(
    pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    refused = pair.alice.send(pair.address, DataTransmissionPacket(data=b"data"), durable=True)
    taken = pair.send("hello")
    pair.bring_bob()
    assert taken.wait(5)
    with pytest.raises(DeliveryFailed) as caught:
        refused.wait(5)
    assert caught.value.reason is Reason.NOT_PERMITTED
    assert not refused.stored
    pair.is_empty()
    assert pair.alice.counters["durable_refused"] == 1
    assert "durable outbox: 1 packet for" in caplog.text


def test_a_packet_that_nobody_handles_is_removed(pair: Pair) -> None:
    refused = pair.alice.send(pair.address, CollectionSharePacket(peers=[PeerEntry()]), durable=True)
    pair.bring_bob(policy=TRUSTING)
    wait_until(lambda: refused.done)
    assert refused.reason is Reason.UNHANDLED
    pair.is_empty()


def test_a_packet_that_is_too_big_for_the_peer_is_removed(pair: Pair) -> None:
    refused = pair.send("x" * 70_000)
    taken = pair.send("hello")
    pair.bring_bob(limits={"max_frame": 65_536})
    assert taken.wait(5)
    assert refused.reason is Reason.TOO_BIG
    pair.is_empty()


def test_a_peer_without_sessions_confirms_by_answering_a_ping(pair: Pair) -> None:
    receipts = [pair.send(str(number)) for number in range(5)]
    pair.bring_bob(limits={"session_ttl": 0})
    assert all(receipt.wait(5) for receipt in receipts)
    assert pair.messages == ["0", "1", "2", "3", "4"]
    pair.is_empty()


def test_what_a_peer_without_sessions_did_not_confirm_is_sent_again(pair: Pair) -> None:
    hanging = Recorder()

    def hang(channel: PeerChannel, packet: Any) -> None:
        hanging(channel, packet)
        Flag().wait()

    first = pair.bring_bob(callback=hang, limits={"session_ttl": 0})
    receipt = pair.send("hello")
    hanging.wait_for(1)
    first.stop(0.1)
    pair.bring_bob(limits={"session_ttl": 0})
    assert receipt.wait(10)
    assert hanging.packets[0].packet_id == pair.got.packets[0].packet_id == receipt.packet_id


def test_after_this_side_has_closed_the_channel_the_peer_is_dialled_when_there_is_something_new(pair: Pair) -> None:
    pair.bring_bob()
    assert pair.send("one").wait(5)
    pair.alice.disconnect(pair.bob.identifier)
    assert pair.send("two").wait(5)


# Dropping.


def test_what_is_dropped_is_not_delivered_and_its_receipt_says_so(pair: Pair, networks: Networks) -> None:
    dropped, kept = pair.send("hello"), pair.alice.send(SOMEBODY, text("hello"), durable=True)
    outbox = pair.alice.durable_outbox
    assert outbox is not None
    assert outbox.drop([pair.bob.identifier]) == 1
    assert outbox.drop([pair.bob.identifier]) == 0
    assert (dropped.reason, kept.done) == (Reason.DROPPED, False)
    assert (outbox.peers, outbox.packets, outbox.bytes) == ([SOMEBODY], 1, len(text("hello").SerializeToString()) + 3)
    pair.bring_bob()
    assert pair.send("later").wait(5)
    assert pair.messages == ["later"]


def test_what_is_dropped_under_way_leaves_no_trace(pair: Pair) -> None:
    go = Flag()
    pair.bring_bob(callback=lambda channel, packet: go.wait())
    receipt = pair.send("hello")
    channel = wait_until(lambda: pair.alice.channel_to(pair.bob.identifier))
    wait_until(lambda: known(channel.session).sent == 1)
    assert pair.alice.durable_outbox is not None
    pair.alice.durable_outbox.drop([pair.bob.identifier])
    assert receipt.reason is Reason.DROPPED
    go.set()
    assert pair.send("later").wait(5)
    pair.is_empty()


# What is not accepted.


def test_a_full_outbox_says_so_and_takes_more_when_there_is_room(pair: Pair) -> None:
    pair.renew_alice(durable_packets_per_peer=2)
    receipts = [pair.send("one"), pair.send("two")]
    with pytest.raises(OutboxFullError, match="is full"):
        pair.send("three")
    assert pair.stored == 2
    pair.bring_bob()
    assert all(receipt.wait(5) for receipt in receipts)
    pair.is_empty()
    assert pair.send("three").wait(5)


def test_what_was_stored_before_counts(pair: Pair) -> None:
    pair.send("one")
    pair.renew_alice(durable_packets_per_peer=1)
    with pytest.raises(OutboxFullError):
        pair.send("two")


@pytest.mark.parametrize(
    ("to", "body", "error"),
    [
        ("127.0.0.1:1", text("hello"), ConfigurationError),
        ("nobody", text("hello"), AddressError),
        (SOMEBODY, HeartbeatPacket(), LocalProtocolError),
        (SOMEBODY, text("x" * 2**20), PacketTooBigError),
        (SOMEBODY, PeerEntry(), LocalProtocolError),
        (SOMEBODY, CollectionSharePacket(peers=[PeerEntry(identifier="x" * 70_000)]), PacketTooBigError),
    ],
)
def test_what_can_never_be_delivered_is_not_accepted(pair: Pair, to: str, body: Any, error: type[PeerNetError]) -> None:
    with pytest.raises(error):
        pair.alice.send(to, body, durable=True)
    assert pair.stored == 0


def test_a_node_stores_nothing_for_itself(pair: Pair) -> None:
    with pytest.raises(ConfigurationError, match="itself"):
        pair.alice.send(pair.alice.identifier, text("hello"), durable=True)


def test_without_a_file_or_before_the_start_nothing_is_durable(networks: Networks, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="has no durable outbox"):
        networks().send(SOMEBODY, text("hello"), durable=True)
    stopped = PeerNetwork(durable_outbox=tmp_path / "outbox.db")
    with pytest.raises(ConfigurationError, match="not started"):
        stopped.send(SOMEBODY, text("hello"), durable=True)


def test_while_the_network_starts_nothing_is_stored_that_would_not_be_counted(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair.alice.stop()
    reading, go, backlogs = threading.Event(), threading.Event(), DurableStore.backlogs

    def read(store: DurableStore) -> Any:
        found = backlogs(store)
        reading.set()
        assert go.wait(scaled(10))
        return found

    monkeypatch.setattr(DurableStore, "backlogs", read)
    starting = gevent.spawn(pair.alice.start)
    wait_until(reading.is_set)
    with pytest.raises(ConfigurationError, match="not started"):
        pair.send("too early")
    go.set()
    starting.get(timeout=scaled(5))
    pair.bring_bob()
    assert pair.send("hello").wait(5)
    pair.is_empty()


def test_a_network_whose_file_cannot_be_used_is_not_started(tmp_path: Path) -> None:
    network = PeerNetwork(listen=["127.0.0.1:0"], durable_outbox=tmp_path / "missing" / "outbox.db")
    with pytest.raises(StorageError):
        network.start()
    assert not network.running
    assert network.addresses == []


def test_when_the_disk_is_full_nothing_is_accepted_and_later_everything_is(
    databases: list[sqlite3.Connection], pair: Pair
) -> None:
    def limit_pages(more: int) -> None:
        (pages,) = databases[-1].execute("PRAGMA page_count").fetchone()
        databases[-1].execute(f"PRAGMA max_page_count = {pages + more}")

    limit_pages(2)
    with pytest.raises(StorageError, match="full"):
        pair.send("x" * 100_000)
    assert pair.stored == 0
    limit_pages(1000)
    pair.send("x" * 100_000)
    assert pair.stored == 1


def test_when_the_file_cannot_be_read_the_next_channel_gets_what_is_in_it(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(DurableStore, "load", fail)
    first = pair.bring_bob()
    receipt = pair.send("hello")
    wait_until(lambda: "stays so; it goes on in 5.0 s: the durable outbox" in caplog.text)
    first.stop()
    monkeypatch.undo()
    pair.bring_bob()
    assert receipt.wait(5)


# Sending without durability, and waiting in callbacks.


def test_send_without_durability_goes_through_the_open_channel(pair: Pair) -> None:
    with pytest.raises(ConnectError, match="is not connected"):
        pair.alice.send(pair.bob.identifier, text("hello"))
    pair.bring_bob()
    pair.alice.connect(pair.address)
    assert pair.alice.send(pair.bob.identifier, text("hello")).wait(5)
    assert pair.got.packets[0].packet_id == b""


@pytest.fixture
def answers(pair: Pair) -> list[object]:
    """What a callback of Alice gets that sends a durable packet back and waits for it."""
    answers: list[object] = []

    def answer(channel: PeerChannel, packet: Any) -> None:
        receipt = pair.alice.send(channel.peer.identifier, text("answer"), durable=True)
        try:
            receipt.wait(5)
        except SelfWaitError as error:
            answers.append(error)
        answers.append(receipt)

    pair.alice.handlers["pure_message"] = answer
    return answers


def test_a_callback_may_store_but_not_wait_for_its_own_peer(pair: Pair, answers: list[Any]) -> None:
    pair.bring_bob()
    channel = pair.alice.connect(pair.address)
    to_alice = wait_until(lambda: pair.bob.channel_to(pair.alice.identifier))
    to_alice.send(text("question"))
    wait_until(lambda: len(answers) == 2)
    assert isinstance(answers[0], SelfWaitError)
    assert answers[1].wait(5)
    assert channel.counters["callback_failed"] == 0


def test_a_damaged_file_does_not_keep_the_network_from_starting(pair: Pair, caplog: pytest.LogCaptureFixture) -> None:
    pair.alice.stop()
    pair.path.write_bytes(b"damaged" * 1000)
    with caplog.at_level(logging.WARNING):
        pair.renew_alice()
    assert "is damaged" in caplog.text
    pair.bring_bob()
    assert pair.send("hello").wait(5)
