"""What the protocol itself says: acknowledgements and goodbyes, on packets of every kind."""

from __future__ import annotations

from typing import Any

import gevent
import pytest
from gevent.event import Event as Flag

from peernet.channel.channel import PeerChannel
from peernet.channel.state import ChannelState
from peernet.reasons import Reason
from peernet.v1 import packet_pb2 as pb
from tests.support import Recorder, scaled, wait_until
from tests.unit.channels import FROM_THE_FUTURE, Setup, frame, text

NOT_PERMITTED, UNHANDLED = pb.REFUSAL_REASON_NOT_PERMITTED, pb.REFUSAL_REASON_UNHANDLED


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
        assert setup.goodbye().reason == pb.DISCONNECT_REASON_BAD_PACKET
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
        assert setup.goodbye().reason == pb.DISCONNECT_REASON_CLOSED
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
        assert setup.goodbye().reason == pb.DISCONNECT_REASON_SHUTDOWN
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
