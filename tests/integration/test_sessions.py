"""What channels promise when their connections die."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import gevent
import pytest

from peernet.channel.channel import PeerChannel
from peernet.channel.receipts import Receipt
from peernet.channel.state import ChannelState
from peernet.config import KIB, MIB, NetworkConfig
from peernet.errors import ChannelClosedError, DeliveryFailed, OutboxFullError, SelfWaitError, SendTimeout
from peernet.network import PeerNetwork
from peernet.peers.address import PeerAddress
from peernet.peers.identity import Identity
from peernet.reasons import Reason
from peernet.testing import Direction, FaultProxy, Faults
from peernet.trust.policy import IncomingPeerTrustPolicy
from peernet.v1.packet_pb2 import DataTransmissionPacket, PureMessagePacket
from tests.support import Recorder, scaled, wait_until

Networks = Callable[..., PeerNetwork]

OPEN, RECONNECTING = ChannelState.OPEN, ChannelState.RECONNECTING

# Redials without long pauses: what they wait for is tested on its own.
QUICK = NetworkConfig(backoff_base=0.02, backoff_cap=0.2, redial_interval=0.01)


class Pair:
    """Two networks with a proxy between them; ``bob`` listens and ``alice`` dials.

    Attributes:
        channel: alice's channel to bob.
        heard: by network: the texts that its callback got.
    """

    def __init__(self, networks: Networks, **options: Any) -> None:
        options.setdefault("config", QUICK)
        self.bob = networks(**options)
        self.alice = networks(listen=[], **options)
        self.proxy = FaultProxy(self.bob.addresses[0])
        self.heard: dict[PeerNetwork, list[str]] = {self.alice: [], self.bob: []}
        self.removed = {network: Recorder() for network in self.heard}
        self.added = {network: Recorder() for network in self.heard}
        self.resumed = {network: Recorder() for network in self.heard}
        for network in self.heard:
            network.handlers["pure_message"] = self._hear(network)
            network.peer_added.add(self.added[network])
            network.peer_removed.add(self.removed[network])
            network.channel_resumed.add(self.resumed[network])
        self.channel = self.alice.connect(self.proxy.address)
        self.back  # noqa: B018  # it is there before the test begins

    @property
    def back(self) -> PeerChannel:
        """Bob's channel to alice."""
        return wait_until(lambda: self.bob.channel_to(self.alice.identifier))

    def wait_open(self, timeout: float = 10.0) -> None:
        wait_until(lambda: self.channel.state is self.back.state is OPEN, timeout, "both sides to be connected")

    def wait_lost(self) -> None:
        wait_until(lambda: self.channel.state is self.back.state is RECONNECTING, what="both sides to notice")

    def _hear(self, network: PeerNetwork) -> Callable[[Any, Any], None]:
        return lambda channel, packet: self.heard[network].append(packet.pure_message.message)


@pytest.fixture
def pairs(networks: Networks) -> Iterator[Callable[..., Pair]]:
    made: list[Pair] = []

    def make(**options: Any) -> Pair:
        made.append(Pair(networks, **options))
        return made[-1]

    yield make
    for pair in made:
        pair.proxy.stop()


def text(message: object) -> PureMessagePacket:
    return PureMessagePacket(message=str(message))


def failure_of(receipt: Receipt) -> Reason:
    with pytest.raises(DeliveryFailed) as caught:
        receipt.wait(scaled(10))
    return caught.value.reason


class TestReceipts:
    def test_a_packet_is_acknowledged_when_its_callback_has_returned(self, pairs: Callable[..., Pair]) -> None:
        pair = pairs()
        go_on = gevent.event.Event()
        pair.bob.handlers["pure_message"] = lambda channel, packet: go_on.wait(scaled(10))
        receipt = pair.channel.send(text("wait for it"))
        assert receipt.wait(0.2) is False
        assert not receipt.done
        go_on.set()
        assert receipt.wait(scaled(5))
        assert receipt.acknowledged

    def test_a_lone_acknowledgement_comes_soon(self, pairs: Callable[..., Pair]) -> None:
        pair = pairs()
        pair.channel.send(text("warm up")).wait(scaled(5))
        began = time.monotonic()
        pair.channel.send(text("hello")).wait(scaled(5))
        assert time.monotonic() - began < scaled(0.5)

    def test_a_callback_that_raises_has_not_handled_its_packet(self, pairs: Callable[..., Pair]) -> None:
        pair = pairs()
        pair.bob.handlers["pure_message"] = lambda channel, packet: 1 / 0
        assert failure_of(pair.channel.send(text("hello"))) is Reason.HANDLER_FAILED

    def test_refused_and_unhandled_packets_fail_and_stop_nobody(self, pairs: Callable[..., Pair]) -> None:
        pair = pairs()
        refused = pair.channel.send(DataTransmissionPacket(data=b"x"))
        behind = pair.channel.send(text("behind"))
        assert failure_of(refused) is Reason.NOT_PERMITTED
        assert behind.wait(scaled(5))
        pair.bob.trust(pair.alice.identifier)
        assert failure_of(pair.channel.send(DataTransmissionPacket(data=b"x"))) is Reason.UNHANDLED

    def test_callbacks_of_a_receipt_are_called_once_whenever_they_are_added(self, pairs: Callable[..., Pair]) -> None:
        pair, early, late = pairs(), Recorder(), Recorder()
        receipt = pair.channel.send(text("hello"))
        receipt.add_done_callback(lambda receipt: 1 / 0)  # is logged, and hurts nobody
        receipt.add_done_callback(early)
        assert receipt.wait(scaled(5))
        receipt.add_done_callback(late)
        assert early.calls == late.calls == [(receipt,)]

    def test_waiting_in_a_callback_of_the_same_channel_raises(self, pairs: Callable[..., Pair]) -> None:
        pair, caught = pairs(), []

        def wait(channel: PeerChannel, packet: Any) -> None:
            try:
                channel.send(text("answer")).wait(5)
            except SelfWaitError as error:
                caught.append(error)

        pair.bob.handlers["pure_message"] = wait
        pair.channel.send(text("hello"))
        wait_until(lambda: caught)

    def test_without_sessions_nothing_can_be_confirmed(self, pairs: Callable[..., Pair]) -> None:
        pair = pairs(config=replace(QUICK, session_ttl=0))
        assert failure_of(pair.channel.send(text("hello"))) is Reason.NO_SESSION
        wait_until(lambda: pair.heard[pair.bob] == ["hello"])
        pair.proxy.reset()
        wait_until(lambda: len(pair.removed[pair.alice]) == len(pair.removed[pair.bob]) == 1)
        assert pair.channel.reason is Reason.CONNECTION_LOST

    def test_a_closed_channel_leaves_no_receipt_open(self, pairs: Callable[..., Pair]) -> None:
        pair, go_on = pairs(), gevent.event.Event()
        pair.bob.handlers["pure_message"] = lambda channel, packet: go_on.wait(scaled(10))
        receipts = [pair.channel.send(text(number)) for number in range(20)]
        pair.channel.close(timeout=scaled(0.2))
        assert all(receipt.done for receipt in receipts)
        assert receipts[-1].reason is Reason.CLOSED
        with pytest.raises(ChannelClosedError):
            pair.channel.send(text("late"))
        go_on.set()

    def test_what_was_handled_before_a_goodbye_is_acknowledged(self, pairs: Callable[..., Pair]) -> None:
        pair = pairs()
        receipts = [pair.channel.send(text(number)) for number in range(1000)]
        pair.channel.close(timeout=scaled(5))
        assert all(receipt.acknowledged for receipt in receipts)

    def test_the_first_acknowledgement_behind_a_goodbye_counts_as_all_others(self, pairs: Callable[..., Pair]) -> None:
        pair = pairs()
        handled, refused = pair.channel.send(text("one")), pair.channel.send(DataTransmissionPacket(data=b"x"))
        pair.channel.close(timeout=scaled(5))
        assert handled.acknowledged
        assert refused.reason is Reason.NOT_PERMITTED

    def test_stopping_the_other_side_fails_what_it_has_not_handled(self, pairs: Callable[..., Pair]) -> None:
        pair = pairs()
        handled = pair.channel.send(text("handled"))
        handled.wait(scaled(5))
        pair.proxy.freeze()
        lost = pair.channel.send(text("lost"))
        pair.alice.stop(scaled(0.3))
        assert lost.reason is Reason.SHUTDOWN
        assert handled.acknowledged

    def test_a_blocked_peer_fails_what_is_open(self, pairs: Callable[..., Pair]) -> None:
        pair = pairs(config=replace(QUICK, close_timeout=0.1))
        pair.proxy.freeze()
        receipt = pair.channel.send(text("hello"))
        pair.alice.policy = IncomingPeerTrustPolicy(blocked_identifiers=frozenset({pair.bob.identifier}))
        assert failure_of(receipt) is Reason.BLOCKED

    def test_a_broadcast_tells_what_becomes_of_it(self, pairs: Callable[..., Pair]) -> None:
        pair = pairs()
        outcome = pair.alice.broadcast(text("all"))[pair.bob.identifier]
        assert outcome.receipt is not None
        assert outcome.receipt.wait(scaled(5))


class TestResuming:
    def test_packets_sent_while_the_connection_is_away_arrive(self, pairs: Callable[..., Pair]) -> None:
        pair = pairs()
        pair.proxy.refuses = True
        pair.proxy.reset()
        pair.wait_lost()
        receipts = [pair.channel.send(text(n)) for n in range(10)] + [pair.back.send(text(n)) for n in range(10)]
        pair.proxy.refuses = False
        assert all(receipt.wait(scaled(10)) for receipt in receipts)
        assert list(pair.heard.values()) == [[str(n) for n in range(10)]] * 2

    def test_a_channel_has_one_life_however_often_it_is_cut(self, pairs: Callable[..., Pair]) -> None:
        pair = pairs()
        for count in range(1, 4):
            pair.proxy.reset()
            pair.resumed[pair.alice].wait_for(count)
            pair.resumed[pair.bob].wait_for(count)
        assert len(pair.added[pair.alice]) == len(pair.added[pair.bob]) == 1
        assert len(pair.removed[pair.alice]) == len(pair.removed[pair.bob]) == 0
        assert pair.alice.active_peer_channels == [pair.channel]

    def test_refusals_survive_a_cut(self, pairs: Callable[..., Pair]) -> None:
        pair = pairs()
        receipts = []
        for number in range(60):
            receipts.append(pair.channel.send(DataTransmissionPacket(data=b"x")))
            if number % 20 == 10:
                pair.proxy.reset()
                pair.wait_open()
        assert {failure_of(receipt) for receipt in receipts} == {Reason.NOT_PERMITTED}

    @pytest.mark.parametrize("insecure", [False, True], ids=["tls", "insecure"])
    def test_nothing_is_lost_or_doubled_over_dozens_of_cuts(self, pairs: Callable[..., Pair], insecure: bool) -> None:
        pair, rng, count = pairs(insecure=insecure), random.Random(7), 3000
        receipts: list[Receipt] = []

        def talk(channel: PeerChannel) -> None:
            for number in range(count):
                receipts.append(channel.send(text(number), timeout=scaled(30)))
                if number % 50 == 0:
                    gevent.sleep(0.01)

        talking = [gevent.spawn(talk, channel) for channel in (pair.channel, pair.back)]
        cuts = 0
        # A cut after some bytes may never come about, so connections count as well as cuts.
        while not all(one.ready() for one in talking) or cuts < 30 or pair.proxy.counters["accepted"] <= 20:
            pair.wait_open(20)
            rng.choice((pair.proxy.reset, lambda: pair.proxy.cut_after(rng.randrange(20_000))))()
            cuts += 1
            gevent.sleep(rng.uniform(0, 0.04))
        pair.proxy.set_faults(Faults())
        gevent.joinall(talking, raise_error=True)
        assert all(receipt.wait(scaled(20)) for receipt in receipts)
        assert list(pair.heard.values()) == [[str(number) for number in range(count)]] * 2
        assert pair.proxy.counters["accepted"] > 20

    def test_a_half_open_connection_is_noticed_behind_a_blocked_callback(self, pairs: Callable[..., Pair]) -> None:
        config = replace(QUICK, heartbeat_interval=0.2, dead_after=0.6, write_timeout=1.0)
        pair, begun, go_on = pairs(config=config), gevent.event.Event(), gevent.event.Event()

        def block(channel: PeerChannel, packet: object) -> None:
            begun.set()
            go_on.wait(scaled(10))

        pair.bob.handlers["pure_message"] = block
        first = pair.channel.send(text("blocks"))
        assert begun.wait(scaled(5))
        pair.proxy.freeze()
        second = pair.channel.send(text("behind"))
        pair.resumed[pair.bob].wait_for(1, 10)
        assert not first.done
        go_on.set()
        assert first.wait(scaled(10))
        assert second.wait(scaled(10))
        assert len(pair.removed[pair.bob]) == 0

    def test_a_peer_that_was_restarted_is_a_new_one(self, pairs: Callable[..., Pair], networks: Networks) -> None:
        pair = pairs()
        pair.channel.send(text("before")).wait(scaled(5))
        identity, endpoint = pair.bob.identity, PeerAddress.parse(pair.bob.addresses[0]).endpoint
        pair.proxy.refuses = True
        pair.proxy.reset()
        pair.wait_lost()
        open_receipt = pair.channel.send(text("lost"))
        pair.bob.stop()
        networks(identity=identity, listen=[endpoint], config=QUICK)
        pair.proxy.refuses = False
        assert failure_of(open_receipt) is Reason.SESSION_LOST
        assert pair.removed[pair.alice].wait_for(1)[0] == (pair.channel, Reason.SESSION_LOST)
        assert pair.added[pair.alice].wait_for(2)[1][0] is pair.alice.channel_to(identity.identifier)

    def test_a_session_that_waits_too_long_expires(self, pairs: Callable[..., Pair]) -> None:
        pair = pairs(config=replace(QUICK, session_ttl=0.4))
        pair.proxy.refuses = True
        receipt_before = pair.channel.send(text("hello"))
        receipt_before.wait(scaled(5))
        pair.proxy.reset()
        pair.wait_lost()
        receipts = [pair.channel.send(text("lost")), pair.back.send(text("lost"))]
        assert {failure_of(receipt) for receipt in receipts} == {Reason.EXPIRED}
        for network in (pair.alice, pair.bob):
            assert pair.removed[network].wait_for(1)[0][1] is Reason.EXPIRED

    def test_a_manual_connect_resumes_at_once(self, pairs: Callable[..., Pair]) -> None:
        pair = pairs(config=replace(QUICK, backoff_base=50, backoff_cap=60, redial_interval=30))
        pair.proxy.reset()
        pair.wait_lost()
        assert pair.alice.connect(pair.proxy.address) is pair.channel
        assert pair.channel.state is OPEN
        assert pair.channel.send(text("hello")).wait(scaled(5))

    def test_the_limits_hold_while_reconnecting(self, pairs: Callable[..., Pair]) -> None:
        pair = pairs(config=replace(QUICK, session_packets=10))
        pair.proxy.refuses = True
        pair.proxy.reset()
        pair.wait_lost()
        receipts = [pair.channel.send(text(number)) for number in range(10)]
        with pytest.raises(OutboxFullError):
            pair.channel.try_send(text("no room"))
        with pytest.raises(SendTimeout):
            pair.channel.send(text("no room"), timeout=0.05)
        pair.proxy.refuses = False
        receipts.append(pair.channel.send(text(10), timeout=scaled(10)))
        assert all(receipt.wait(scaled(5)) for receipt in receipts)

    def test_a_sender_who_waits_finds_the_room_that_a_few_acknowledgements_make(
        self, pairs: Callable[..., Pair]
    ) -> None:
        pair, go_on = pairs(config=replace(QUICK, session_packets=10)), gevent.event.Event()
        heard = pair.heard[pair.bob]

        def read_three(channel: PeerChannel, packet: Any) -> None:
            heard.append(packet.pure_message.message)
            if len(heard) > 3:
                go_on.wait(scaled(30))

        pair.bob.handlers["pure_message"] = read_three
        with gevent.Timeout(scaled(10)):
            for number in range(13):
                pair.channel.send(text(number), timeout=60)
        go_on.set()

    def test_closing_while_reconnecting_ends_at_once(self, pairs: Callable[..., Pair]) -> None:
        pair = pairs()
        pair.proxy.refuses = True
        pair.proxy.reset()
        pair.wait_lost()
        receipt = pair.channel.send(text("lost"))
        pair.channel.close()
        assert receipt.reason is Reason.CLOSED
        assert pair.channel.state is ChannelState.CLOSED


class TestPairs:
    def test_dialling_each_other_at_once_makes_one_channel(self, networks: Networks) -> None:
        rng = random.Random(3)
        one, other = networks(config=QUICK), networks(config=QUICK)
        for network in (one, other):
            network.handlers["pure_message"] = Recorder()
        for _ in range(60):
            self.meet(rng, one, other)

    def meet(self, rng: random.Random, one: PeerNetwork, other: PeerNetwork) -> None:
        def dial(who: PeerNetwork, whom: PeerNetwork) -> PeerChannel:
            gevent.sleep(rng.uniform(0, 0.03))
            return who.connect(whom.addresses[0], timeout=scaled(5))

        removed = [Recorder(), Recorder()]
        dialling = [gevent.spawn(dial, one, other), gevent.spawn(dial, other, one)]
        channels = [greenlet.get() for greenlet in dialling]
        for network, recorder in zip((one, other), removed, strict=True):
            network.peer_removed.add(recorder)
        receipts = [channel.send(text("hello")) for channel in channels]
        assert all(receipt.wait(scaled(5)) for receipt in receipts)
        assert one.active_peer_channels == channels[:1]
        assert other.active_peer_channels == channels[1:]
        assert not removed[0].calls
        assert not removed[1].calls
        channels[0].close()
        wait_until(lambda: not one.active_peer_channels and not other.active_peer_channels)
        for network, recorder in zip((one, other), removed, strict=True):
            network.peer_removed.remove(recorder)

    def test_a_connection_that_comes_too_late_leaves_the_next_session_alone(self, networks: Networks) -> None:
        smaller, larger = sorted((Identity.generate(), Identity.generate()), key=lambda one: one.identifier)
        bob, alice = networks(identity=smaller, config=QUICK), networks(identity=larger, config=QUICK)
        for network in (bob, alice):
            network.handlers["pure_message"] = Recorder()
        with FaultProxy(bob.addresses[0], Faults(latency=0.02)) as proxy:
            first, before = alice.connect(proxy.address), bob.active_peer_channels
            assert all(receipt.wait(scaled(5)) for receipt in [first.send(text(number)) for number in range(9)])
            # Bob resumes the session; his hello is still on its way to alice when both give the session up.
            bob.channel_resumed.add(lambda channel: proxy.freeze(Direction.DOWNSTREAM))
            proxy.reset()
            wait_until(lambda: proxy.counters["freezes"])
            first.close()
            before[0].close(timeout=0.2)
            wait_until(lambda: not bob.active_peer_channels)
            second = bob.connect(alice.addresses[0])
            proxy.thaw()
            wait_until(lambda: not proxy.connections, what="the late connection to be given up")
            back = alice.channel_to(bob.identifier)
            assert back is not None
            assert back.send(text("hello")).wait(scaled(5))
            assert second.send(text("hello")).wait(scaled(5))
            assert second.state is back.state is OPEN

    def test_a_twin_of_a_living_peer_is_refused(self, pairs: Callable[..., Pair], networks: Networks) -> None:
        pair = pairs(config=replace(QUICK, duplicate_patience=0.3))
        twin = networks(identity=pair.alice.identity, listen=[], config=replace(QUICK, connect_attempts=1))
        with pytest.raises(Exception, match="Another connection"):
            twin.connect(pair.bob.addresses[0])
        assert pair.channel.send(text("still here")).wait(scaled(5))

    def test_a_twin_of_a_dead_peer_takes_its_place(self, pairs: Callable[..., Pair], networks: Networks) -> None:
        pair = pairs(config=replace(QUICK, duplicate_patience=0.3))
        before = pair.back
        pair.proxy.freeze()
        twin = networks(identity=pair.alice.identity, listen=[], config=QUICK)
        channel = twin.connect(pair.bob.addresses[0])
        assert channel.send(text("I was restarted")).wait(scaled(5))
        assert pair.removed[pair.bob].wait_for(1)[0] == (before, Reason.SESSION_LOST)


class TestRedialling:
    def test_a_restarted_hub_is_not_stormed(self, networks: Networks) -> None:
        hub = networks(config=NetworkConfig())
        with FaultProxy(hub.addresses[0]) as proxy:
            clients = [networks(listen=[]) for _ in range(20)]
            channels = [client.connect(proxy.address) for client in clients]
            accepted, began = proxy.counters["accepted"], time.monotonic()
            proxy.reset()
            wait_until(lambda: all(channel.state is RECONNECTING for channel in channels))
            wait_until(lambda: all(channel.state is OPEN for channel in channels), 15)
            most = (time.monotonic() - began + 1) * len(clients)
            assert proxy.counters["accepted"] - accepted <= most

    def test_a_final_refusal_ends_the_channel(self, pairs: Callable[..., Pair]) -> None:
        pair = pairs()
        pair.proxy.refuses = True
        pair.proxy.reset()
        pair.wait_lost()
        receipt = pair.channel.send(text("lost"))
        pair.back.close()
        pair.bob.policy = IncomingPeerTrustPolicy(blocked_identifiers=frozenset({pair.alice.identifier}))
        pair.proxy.refuses = False
        assert failure_of(receipt) is Reason.BLOCKED


class TestFlow:
    def test_flooding_each_other_from_callbacks_does_not_deadlock(self, networks: Networks) -> None:
        body, turns = DataTransmissionPacket(data=bytes(1 * MIB - 100)), 30
        one, other = networks(), networks()
        for network in (one, other):
            network.policy = network.policy.adding(trusted_identifiers=one.identifier)
            network.policy = network.policy.adding(trusted_identifiers=other.identifier)
        heard = {one: 0, other: 0}

        def answer_from(network: PeerNetwork) -> Callable[[PeerChannel, Any], None]:
            def answer(channel: PeerChannel, packet: Any) -> None:
                heard[network] += 1
                if heard[network] <= turns:
                    channel.send(body)

            return answer

        for network in (one, other):
            network.handlers["data_transmission"] = answer_from(network)
        channel = one.connect(other.addresses[0])
        back = wait_until(lambda: other.channel_to(one.identifier))
        for _ in range(3):
            channel.send(body)
            back.send(body)
        wait_until(lambda: min(heard.values()) >= turns + 3, 30, f"{turns} turns; there were {heard}")

    def test_a_reader_that_lives_and_does_not_read_is_cut_as_slow(self, pairs: Callable[..., Pair]) -> None:
        config = replace(QUICK, write_timeout=0.8, heartbeat_interval=0.1)
        pair, go_on = pairs(config=config), gevent.event.Event()
        pair.bob.handlers["pure_message"] = lambda channel, packet: go_on.wait(scaled(20))
        receipts = []

        def flood() -> None:
            while True:
                receipts.append(pair.channel.send(text("x" * (100 * KIB)), timeout=scaled(5)))

        with pytest.raises(ChannelClosedError):
            flood()
        assert failure_of(receipts[-1]) is Reason.SLOW_PEER
        go_on.set()

    def test_a_callback_that_burns_the_processor_is_named_and_kills_nobody(
        self, pairs: Callable[..., Pair], caplog: pytest.LogCaptureFixture
    ) -> None:
        pair = pairs(config=replace(QUICK, heartbeat_interval=0.2, dead_after=0.6))

        def burn(channel: PeerChannel, packet: Any) -> None:
            ends = time.monotonic() + 1.5
            while time.monotonic() < ends:
                pass

        pair.bob.handlers["pure_message"] = burn
        assert pair.channel.send(text("burn")).wait(scaled(10))
        assert "burn" in caplog.text
        assert "let nothing else run" in caplog.text
        assert len(pair.removed[pair.alice]) == len(pair.resumed[pair.alice]) == 0
