"""From a frame to its callback, and what is answered if it reaches none."""

from __future__ import annotations

import logging
from typing import Any

import gevent
import pytest
from gevent.event import Event as Flag

from peernet.channel.channel import PeerChannel
from peernet.channel.dispatcher import FAILING
from peernet.channel.handlers import InThreadpool
from peernet.channel.state import ChannelState
from peernet.config import KIB
from peernet.reasons import Reason
from peernet.trust.policy import IncomingPeerTrustPolicy
from peernet.v1 import packet_pb2 as pb
from peernet.wire.framing import encode_varint
from tests.support import Recorder, scaled, wait_until
from tests.unit.channels import Setup, Setups, frame, text
from tests.unit.sample_peers import ALICE, BOB

OPEN_TO_ALL = IncomingPeerTrustPolicy(allow_enhanced_packet_exchange=True)
NOT_PERMITTED, UNHANDLED = pb.REFUSAL_REASON_NOT_PERMITTED, pb.REFUSAL_REASON_UNHANDLED
# A body that only newer peers know: field 100.
FROM_THE_FUTURE = encode_varint(4) + b"\xa2\x06\x01x"


def goodbye(setup: Setup) -> pb.DisconnectPacket:
    """What the far end is told when the channel ends."""
    return setup.far.wait_for("disconnect")[0].disconnect


def is_served(setup: Setup) -> bool:
    """Whether the channel goes on."""
    setup.far.send(text("still there?"))
    wait_until(lambda: setup.heard[-1:] == ["still there?"])
    return setup.channel.state is ChannelState.OPEN


class TestGates:
    def test_packets_reach_their_callback_in_order_and_are_acknowledged(self, setup: Setup) -> None:
        setup.far.send(text("one"), text("two"), text("three"))
        wait_until(lambda: setup.acknowledged() == 3)
        assert setup.heard == ["one", "two", "three"]
        assert setup.channel.received == 3
        assert setup.refused() == []

    def test_listeners_hear_of_a_packet_before_its_callback_does(self, setup: Setup) -> None:
        order: list[str] = []
        setup.owner.packet_received.add(lambda channel, packet: order.append("listener"))
        setup.owner.handlers["pure_message"] = lambda channel, packet: order.append("callback")
        setup.far.send(text())
        wait_until(lambda: len(order) == 2)
        assert order == ["listener", "callback"]

    def test_the_callbacks_of_the_channel_go_before_those_of_the_network(self, setup: Setup) -> None:
        own = Recorder()
        setup.channel.handlers["pure_message"] = own
        setup.far.send(text("mine"))
        ((channel, packet),) = own.wait_for(1)
        assert channel is setup.channel
        assert packet.pure_message.message == "mine"
        assert setup.heard == []

    def test_a_kind_that_is_not_permitted_is_refused_and_told(self, setup: Setup) -> None:
        setup.far.send(text(), frame(pb.DataTransmissionPacket(data=b"x")), text())
        wait_until(lambda: setup.acknowledged() == 3)
        assert setup.refused() == [(2, NOT_PERMITTED)]
        assert setup.channel.counters["refused"] == setup.owner.counters["refused"] == 1
        ((_, kind, decision),) = [told for told in setup.owner.told if told[0] == "refused"]
        assert kind == "data_transmission"
        assert not decision
        assert setup.channel.received == 2

    def test_the_body_of_a_refused_packet_is_not_looked_at(self, setup: Setup) -> None:
        setup.far.send(encode_varint(4) + b"\xba\x01\x01\xff")
        wait_until(lambda: setup.acknowledged() == 1)
        assert setup.refused() == [(1, NOT_PERMITTED)]

    def test_the_body_of_one_that_is_handled_must_be_whole(self, setup: Setup) -> None:
        setup.far.send(encode_varint(4) + b"\xa2\x01\x01\xff")
        assert goodbye(setup).reason == pb.DISCONNECT_REASON_BAD_PACKET

    def test_a_kind_from_the_future_is_skipped_numbered_and_told(self, setup: Setup) -> None:
        setup.far.send(FROM_THE_FUTURE, text())
        wait_until(lambda: setup.acknowledged() == 2)
        assert setup.refused() == [(1, UNHANDLED)]
        assert setup.channel.counters["unknown_kind"] == 1
        assert setup.channel.received == 1

    def test_a_kind_that_nobody_handles_is_told(self, setups: Setups) -> None:
        setup = setups(policy=OPEN_TO_ALL)
        setup.far.send(frame(pb.DataTransmissionPacket()))
        wait_until(lambda: setup.acknowledged() == 1)
        assert setup.refused() == [(1, UNHANDLED)]
        assert setup.channel.counters["unhandled"] == 1

    def test_trust_opens_the_gate_and_its_end_closes_it(self, setup: Setup) -> None:
        heard = Recorder()
        setup.owner.handlers["data_transmission"] = heard
        setup.channel.trust()
        setup.far.send(frame(pb.DataTransmissionPacket()))
        heard.wait_for(1)
        setup.channel.untrust()
        setup.far.send(frame(pb.DataTransmissionPacket()))
        wait_until(lambda: setup.refused() == [(2, NOT_PERMITTED)])
        assert len(heard) == 1

    def test_control_packets_pass_and_are_not_numbered(self, setup: Setup) -> None:
        setup.far.send(frame(pb.HeartbeatPacket(), request_id=7), frame(pb.AcknowledgePacket()), text())
        wait_until(lambda: setup.acknowledged() == 1)
        assert [packet.reply_to for packet in setup.far.wait_for("heartbeat")] == [7]

    @pytest.mark.parametrize("origin", [ALICE, ""])
    def test_a_packet_may_name_its_sender(self, setup: Setup, origin: str) -> None:
        setup.far.send(frame(pb.PureMessagePacket(message="me"), source_origin_identifier=origin))
        wait_until(lambda: setup.heard == ["me"])

    @pytest.mark.parametrize(
        "body", [pb.PureMessagePacket(), pb.DisconnectPacket()], ids=lambda body: type(body).__name__
    )
    def test_a_packet_in_the_name_of_another_ends_the_channel(self, setup: Setup, body: Any) -> None:
        setup.far.send(frame(body, source_origin_identifier=BOB))
        assert setup.channel.wait_closed(scaled(5))
        assert setup.channel.reason is Reason.ORIGIN_MISMATCH
        assert setup.heard == []

    def test_but_not_if_it_is_refused_anyway(self, setup: Setup) -> None:
        setup.far.send(frame(pb.DataTransmissionPacket(), source_origin_identifier=BOB))
        wait_until(lambda: setup.refused() == [(1, NOT_PERMITTED)])
        assert is_served(setup)

    @pytest.mark.parametrize(
        "body",
        [pb.IdentifierPacket(message="x" * 64 * KIB), pb.DisconnectPacket(message="x" * 64 * KIB)],
        ids=lambda body: type(body).__name__,
    )
    def test_a_kind_that_exceeds_its_limit_ends_the_channel(self, setup: Setup, body: Any) -> None:
        setup.far.send(frame(body))
        assert goodbye(setup).reason == pb.DISCONNECT_REASON_FRAME_TOO_BIG

    def test_a_second_hello_ends_the_channel(self, setup: Setup) -> None:
        setup.far.send(frame(pb.HelloPacket()))
        assert goodbye(setup).reason == pb.DISCONNECT_REASON_UNEXPECTED_PACKET

    def test_without_a_session_the_gates_are_the_same_and_nobody_is_told(self, setups: Setups) -> None:
        setup = setups(session=False)
        setup.far.send(text("one"), frame(pb.DataTransmissionPacket()), FROM_THE_FUTURE, text("two", sequence=99))
        wait_until(lambda: setup.heard == ["one", "two"])
        assert (setup.channel.counters["refused"], setup.channel.counters["unknown_kind"]) == (1, 1)
        gevent.sleep(0.01)
        assert setup.far.hear() == []


class TestCallbacks:
    @pytest.mark.parametrize("error", [ValueError("oops"), gevent.Timeout(1)], ids=["error", "timeout"])
    def test_one_that_raises_hurts_nobody_and_has_handled_its_packet(
        self, setup: Setup, error: BaseException, caplog: pytest.LogCaptureFixture
    ) -> None:
        def fail(channel: PeerChannel, packet: pb.Packet) -> None:
            setup.heard.append(packet.pure_message.message)
            if packet.pure_message.message != "still there?":
                raise error

        setup.owner.handlers["pure_message"] = fail
        with caplog.at_level(logging.ERROR):
            setup.far.send(text(), text())
            wait_until(lambda: setup.acknowledged() == 2)
        assert setup.channel.counters["callback_failed"] == 2
        assert caplog.text.count("the callback for pure_message failed") == 1
        assert setup.refused() == []
        assert is_served(setup)

    def test_one_that_fails_again_and_again_is_an_event_each_time_it_begins_to(self, setup: Setup) -> None:
        outcomes = [True] * (FAILING - 1) + [False] + [True] * (FAILING + 5)

        def fail(channel: PeerChannel, packet: pb.Packet) -> None:
            if outcomes.pop(0):
                raise ValueError("oops")

        setup.owner.handlers["pure_message"] = fail
        setup.far.send(*[text()] * len(outcomes))
        wait_until(lambda: not outcomes)
        assert setup.owner.events().count("failing") == 1
        assert setup.channel.counters["handler_failing"] == 1

    def test_one_that_is_killed_takes_the_channel_with_it(self, setup: Setup) -> None:
        busy = Flag()

        def hang(channel: PeerChannel, packet: pb.Packet) -> None:
            busy.set()
            Flag().wait()

        setup.owner.handlers["pure_message"] = hang
        setup.far.send(text())
        assert busy.wait(scaled(5))
        setup.running.kill()
        assert setup.channel.state is ChannelState.CLOSED
        assert not setup.channel.counters["callback_failed"]
        assert setup.far.transport.ended()

    def test_one_that_blocks_can_run_in_a_native_thread(self, setup: Setup) -> None:
        idents: list[int] = []

        def block(channel: PeerChannel, packet: pb.Packet) -> None:
            from peernet.runtime.threads import get_ident

            idents.append(get_ident())
            if len(idents) == 2:
                raise ValueError("oops")

        setup.owner.handlers["pure_message"] = InThreadpool(block)
        setup.far.send(text(), text())
        wait_until(lambda: setup.acknowledged() == 2)
        assert setup.channel._thread not in idents
        assert setup.channel.counters["callback_failed"] == 1

    def test_what_was_handled_is_acknowledged_soon_even_if_the_next_callback_takes_its_time(self, setup: Setup) -> None:
        go_on = Flag()

        def take_your_time(channel: PeerChannel, packet: pb.Packet) -> None:
            setup.heard.append(packet.pure_message.message)
            if packet.pure_message.message == "slow":
                go_on.wait()

        setup.owner.handlers["pure_message"] = take_your_time
        setup.far.send(text("quick"), text("slow"))
        wait_until(lambda: setup.heard == ["quick", "slow"])
        try:
            wait_until(lambda: setup.acknowledged() == 1, 1)
        finally:
            go_on.set()
        wait_until(lambda: setup.acknowledged() == 2)


class TestNumbers:
    def test_a_number_that_is_there_must_be_the_one_that_was_counted(self, setup: Setup) -> None:
        setup.far.send(text("one", sequence=1), text("two"), text("three", sequence=3))
        wait_until(lambda: setup.heard == ["one", "two", "three"])
        setup.far.send(text("five", sequence=5))
        assert goodbye(setup).reason == pb.DISCONNECT_REASON_BAD_PACKET
        assert setup.heard == ["one", "two", "three"]

    def test_what_was_received_before_is_dropped_on_another_connection(self, setup: Setup) -> None:
        hello = setup.hello()
        setup.far.send(text("one"), text("two"))
        wait_until(lambda: setup.session.handled == 2)
        setup.lose()
        assert setup.reconnect(ours=hello)
        setup.far.send(text("one", sequence=1), frame(pb.HeartbeatPacket()), text("two"), text("three", sequence=3))
        wait_until(lambda: setup.acknowledged() == 3)
        assert setup.heard == ["one", "two", "three"]

    def test_duplicates_are_dropped_whatever_their_kind(self, setup: Setup) -> None:
        hello = setup.hello()
        setup.far.send(FROM_THE_FUTURE, frame(pb.DataTransmissionPacket()))
        wait_until(lambda: setup.session.handled == 2)
        setup.lose()
        assert setup.reconnect(ours=hello)
        setup.far.send(FROM_THE_FUTURE, frame(pb.DataTransmissionPacket()), text())
        wait_until(lambda: setup.acknowledged() == 3)
        assert setup.refused() == [(1, UNHANDLED), (2, NOT_PERMITTED)]
        assert (setup.channel.counters["refused"], setup.channel.counters["unknown_kind"]) == (1, 1)

    def test_a_callback_that_outlives_its_connection_has_handled_its_packet_on_the_next(self, setup: Setup) -> None:
        busy, go_on = Flag(), Flag()

        def take_your_time(channel: PeerChannel, packet: pb.Packet) -> None:
            setup.heard.append(packet.pure_message.message)
            busy.set()
            go_on.wait()

        setup.owner.handlers["pure_message"] = take_your_time
        setup.far.send(text("one"), text("two"))
        assert busy.wait(scaled(5))
        setup.channel.detach("cut")
        hello = setup.hello()
        assert hello.last_sequence_received == 1
        assert setup.reconnect(ours=hello)
        setup.far.send(text("two", sequence=2))
        gevent.sleep(0.01)
        assert setup.acknowledged() == 0
        go_on.set()
        wait_until(lambda: setup.acknowledged() == 2)
        assert setup.heard == ["one", "two"]


class TestAcknowledgements:
    def send(self, setup: Setup, count: int) -> list[Any]:
        return [setup.channel.send(pb.PureMessagePacket()) for _ in range(count)]

    @pytest.mark.parametrize(
        "body",
        [pb.AcknowledgePacket(), pb.HeartbeatPacket(), pb.PureMessagePacket(), pb.DataTransmissionPacket()],
        ids=lambda body: type(body).__name__,
    )
    def test_they_count_on_packets_of_every_kind(self, setup: Setup, body: Any) -> None:
        receipts = self.send(setup, 2)
        setup.far.send(frame(body, acknowledged=1))
        assert receipts[0].wait(scaled(5)) is True
        assert [one.acknowledged for one in receipts] == [True, False]

    def test_refusals_come_with_them(self, setup: Setup) -> None:
        receipts = self.send(setup, 3)
        refusals = [pb.Refusal(sequence=2, reason=NOT_PERMITTED)]
        setup.far.send(frame(pb.AcknowledgePacket(refusals=refusals), acknowledged=3))
        assert receipts[2].wait(scaled(5)) is True
        assert [one.reason for one in receipts] == [None, Reason.NOT_PERMITTED, None]

    @pytest.mark.parametrize("number", [0, 1, 4, 64, 2**64 - 1])
    def test_refusals_of_what_was_never_sent_or_is_settled_mean_nothing(self, setup: Setup, number: int) -> None:
        receipts = self.send(setup, 3)
        setup.far.send(frame(pb.AcknowledgePacket(), acknowledged=1))
        receipts[0].wait(scaled(5))
        refusals = [pb.Refusal(sequence=number, reason=NOT_PERMITTED)]
        setup.far.send(frame(pb.AcknowledgePacket(refusals=refusals), acknowledged=3))
        assert receipts[2].wait(scaled(5)) is True
        assert [one.reason for one in [*receipts, *self.send(setup, 1)]] == [None] * 4
        assert setup.channel.state is ChannelState.OPEN

    @pytest.mark.parametrize(
        "body", [pb.AcknowledgePacket(), pb.PureMessagePacket()], ids=lambda one: type(one).__name__
    )
    def test_a_number_that_was_never_given_ends_the_channel(self, setup: Setup, body: Any) -> None:
        receipts = self.send(setup, 3)
        setup.far.send(frame(body, acknowledged=4))
        assert goodbye(setup).reason == pb.DISCONNECT_REASON_BAD_PACKET
        assert [one.acknowledged for one in receipts] == [False] * 3
        assert setup.heard == []

    def test_old_ones_take_nothing_back(self, setup: Setup) -> None:
        receipts = self.send(setup, 2)
        setup.far.send(*[frame(pb.AcknowledgePacket(), acknowledged=number) for number in (2, 1, 0)], text())
        wait_until(lambda: setup.heard)
        assert [one.acknowledged for one in receipts] == [True, True]

    def test_who_closes_the_channel_when_a_packet_is_acknowledged_gets_no_packet_after_that(self, setup: Setup) -> None:
        (receipt,) = self.send(setup, 1)
        receipt.add_done_callback(lambda one: setup.channel.close())
        setup.far.send(text("with the acknowledgement", acknowledged=1), text("after it"))
        assert goodbye(setup).reason == pb.DISCONNECT_REASON_CLOSED
        setup.far.transport.finish_writing()
        assert setup.channel.wait_closed(scaled(5))
        assert setup.heard == []

    @pytest.mark.parametrize(
        "body", [pb.HeartbeatPacket(), pb.DisconnectPacket()], ids=lambda body: type(body).__name__
    )
    def test_and_the_channel_ends_as_any_other(self, setup: Setup, body: Any, caplog: pytest.LogCaptureFixture) -> None:
        (receipt,) = self.send(setup, 1)
        receipt.add_done_callback(lambda one: setup.channel.close())
        setup.far.send(frame(body, acknowledged=1, request_id=7))
        wait_until(lambda: setup.channel.state is not ChannelState.OPEN)
        setup.far.transport.finish_writing()
        assert setup.channel.wait_closed(scaled(5))
        assert setup.channel.reason is Reason.CLOSED
        assert "failed" not in caplog.text


class TestGoodbyes:
    def test_after_ours_only_acknowledgements_count(self, setup: Setup) -> None:
        first, second = setup.channel.send(pb.PureMessagePacket()), setup.channel.send(pb.PureMessagePacket())
        closing = gevent.spawn(setup.channel.close)
        gevent.sleep(0)
        setup.far.send(
            text("too late", acknowledged=2), frame(pb.HeartbeatPacket(), request_id=1, acknowledged=2), FROM_THE_FUTURE
        )
        refusals = [pb.Refusal(sequence=1, reason=UNHANDLED)]
        setup.far.send(frame(pb.AcknowledgePacket(refusals=refusals), acknowledged=1))
        wait_until(lambda: first.done)
        assert (first.reason, second.done) == (Reason.UNHANDLED, False)
        setup.far.send(frame(pb.DisconnectPacket()))
        closing.get(timeout=scaled(5))
        assert second.reason is Reason.CLOSED
        assert setup.heard == []
        assert setup.far.kinds().count("heartbeat") == 0

    def test_a_packet_that_waits_behind_a_callback_is_not_handled_after_ours(self, setup: Setup) -> None:
        busy, go_on = Flag(), Flag()

        def take_your_time(channel: PeerChannel, packet: pb.Packet) -> None:
            setup.heard.append(packet.pure_message.message)
            busy.set()
            go_on.wait()

        setup.owner.handlers["pure_message"] = take_your_time
        setup.far.send(text("one"), text("two"))
        assert busy.wait(scaled(5))
        closing = gevent.spawn(setup.channel.close)
        gevent.sleep(0)
        go_on.set()
        setup.far.send(frame(pb.DisconnectPacket()))
        closing.get(timeout=scaled(5))
        assert setup.heard == ["one"]

    def test_what_ends_a_channel_in_a_callback_ends_its_reading(self, setup: Setup) -> None:
        def close(channel: PeerChannel, packet: pb.Packet) -> None:
            setup.heard.append(packet.pure_message.message)
            channel.close(Reason.SHUTDOWN)

        setup.owner.handlers["pure_message"] = close
        setup.far.send(text("one"), text("two"))
        assert goodbye(setup).reason == pb.DISCONNECT_REASON_SHUTDOWN
        setup.far.transport.finish_writing()
        assert setup.channel.wait_closed(scaled(5))
        assert setup.heard == ["one"]

    def test_what_was_handled_before_the_peers_goodbye_is_acknowledged(self, setup: Setup) -> None:
        heard = Recorder()
        setup.owner.handlers["disconnect"] = heard
        setup.far.send(text(), frame(pb.DataTransmissionPacket()), frame(pb.DisconnectPacket(message="bye")), text())
        ((_, packet),) = heard.wait_for(1)
        assert packet.disconnect.message == "bye"
        wait_until(lambda: setup.acknowledged() == 2)
        assert setup.refused() == [(2, NOT_PERMITTED)]
        setup.far.transport.finish_writing()
        assert setup.channel.wait_closed(scaled(5))
        assert len(setup.heard) == 1

    @pytest.mark.parametrize("reason", [pb.DISCONNECT_REASON_TIMEOUT, pb.DISCONNECT_REASON_DUPLICATE])
    def test_a_goodbye_to_the_connection_leaves_the_session_waiting(self, setup: Setup, reason: Any) -> None:
        setup.far.send(text(), frame(pb.DisconnectPacket(reason=reason)), text())
        wait_until(lambda: setup.channel.state is ChannelState.RECONNECTING)
        assert len(setup.heard) == 1
        assert setup.channel.reason is None
        assert setup.reconnect(ours=setup.hello())
        setup.far.send(text(sequence=2))
        wait_until(lambda: setup.acknowledged() == 2)
