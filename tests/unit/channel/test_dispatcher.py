"""From a frame to its callback, and what is answered if it reaches none."""

from __future__ import annotations

from typing import Any

import gevent
import pytest
from gevent.event import Event as Flag

from peernet.channel.channel import PeerChannel
from peernet.config import KIB
from peernet.reasons import Reason
from peernet.trust.policy import IncomingPeerTrustPolicy
from peernet.v1 import packet_pb2 as pb
from peernet.wire.framing import encode_varint
from peernet.wire.packets import WITHDRAWN_FRAME
from tests.support import Recorder, scaled, wait_until
from tests.unit.channels import FROM_THE_FUTURE, Setup, Setups, frame, text
from tests.unit.sample_peers import ALICE, BOB

OPEN_TO_ALL = IncomingPeerTrustPolicy(allow_enhanced_packet_exchange=True)
NOT_PERMITTED, UNHANDLED = pb.REFUSAL_REASON_NOT_PERMITTED, pb.REFUSAL_REASON_UNHANDLED


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

    @pytest.mark.parametrize("sequence", [0, 2])
    def test_a_large_one_is_refused_under_its_number_without_being_held(self, setup: Setup, sequence: int) -> None:
        large = frame(pb.DataTransmissionPacket(data=bytes(512 * KIB)), sequence=sequence)
        setup.far.stream(text() + large[: 400 * KIB])
        wait_until(lambda: setup.link.received_bytes > 300 * KIB)
        assert setup.link.connection.decoder.held <= 64 * KIB
        setup.far.stream(large[400 * KIB :] + text(sequence=3))
        wait_until(lambda: setup.acknowledged() == 3)
        assert setup.refused() == [(2, NOT_PERMITTED)]
        assert setup.channel.counters["refused"] == 1
        assert setup.channel.received == 2

    def test_a_large_one_that_says_a_wrong_number_breaks_the_protocol(self, setup: Setup) -> None:
        setup.far.stream(frame(pb.DataTransmissionPacket(data=bytes(512 * KIB)), sequence=7))
        assert setup.goodbye().reason == pb.DISCONNECT_REASON_BAD_PACKET

    def test_a_large_one_whose_kind_is_permitted_while_it_comes_stays_refused(self, setup: Setup) -> None:
        heard = setup.owner.handlers["data_transmission"] = Recorder()
        large = frame(pb.DataTransmissionPacket(data=bytes(512 * KIB)))
        setup.far.stream(large[: 400 * KIB])
        wait_until(lambda: setup.link.received_bytes > 300 * KIB)
        setup.channel.trust()
        setup.far.stream(large[400 * KIB :] + large)
        wait_until(lambda: setup.acknowledged() == 2)
        assert setup.refused() == [(1, NOT_PERMITTED)]
        assert [len(packet.data_transmission.data) for packet in heard.packets] == [512 * KIB]

    def test_without_a_session_a_large_one_is_counted_and_dropped(self, setups: Setups) -> None:
        setup = setups(session=False)
        setup.far.stream(frame(pb.DataTransmissionPacket(data=bytes(512 * KIB))) + text())
        wait_until(lambda: setup.heard)
        assert setup.channel.counters["refused"] == 1

    def test_the_body_of_a_refused_packet_is_not_looked_at(self, setup: Setup) -> None:
        setup.far.send(encode_varint(4) + b"\xba\x01\x01\xff")
        wait_until(lambda: setup.acknowledged() == 1)
        assert setup.refused() == [(1, NOT_PERMITTED)]

    def test_the_body_of_one_that_is_handled_must_be_whole(self, setup: Setup) -> None:
        setup.far.send(encode_varint(4) + b"\xa2\x01\x01\xff")
        assert setup.goodbye().reason == pb.DISCONNECT_REASON_BAD_PACKET

    def test_a_kind_from_the_future_is_skipped_numbered_and_told(self, setup: Setup) -> None:
        setup.far.send(FROM_THE_FUTURE, text())
        wait_until(lambda: setup.acknowledged() == 2)
        assert setup.refused() == [(1, UNHANDLED)]
        assert setup.channel.counters["unknown_kind"] == 1
        assert setup.channel.received == 1

    @pytest.mark.parametrize("options", [{}, {"policy": OPEN_TO_ALL}], ids=["gated", "open"])
    def test_a_withdrawn_packet_is_numbered_and_nobody_is_told(self, setups: Setups, options: dict[str, Any]) -> None:
        setup = setups(**options)
        setup.far.send(text("one"), WITHDRAWN_FRAME, text("three", sequence=3))
        wait_until(lambda: setup.acknowledged() == 3)
        assert setup.heard == ["one", "three"]
        assert setup.refused() == []
        assert setup.owner.told == []
        assert setup.channel.received == 2

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
        assert setup.is_served()

    @pytest.mark.parametrize(
        "body",
        [pb.IdentifierPacket(message="x" * 64 * KIB), pb.DisconnectPacket(message="x" * 64 * KIB)],
        ids=lambda body: type(body).__name__,
    )
    def test_a_kind_that_exceeds_its_limit_ends_the_channel(self, setup: Setup, body: Any) -> None:
        setup.far.send(frame(body))
        assert setup.goodbye().reason == pb.DISCONNECT_REASON_FRAME_TOO_BIG

    def test_a_second_hello_ends_the_channel(self, setup: Setup) -> None:
        setup.far.send(frame(pb.HelloPacket()))
        assert setup.goodbye().reason == pb.DISCONNECT_REASON_UNEXPECTED_PACKET

    def test_without_a_session_the_gates_are_the_same_and_nobody_is_told(self, setups: Setups) -> None:
        setup = setups(session=False)
        setup.far.send(
            text("one"), frame(pb.DataTransmissionPacket()), FROM_THE_FUTURE, WITHDRAWN_FRAME, text("two", sequence=99)
        )
        wait_until(lambda: setup.heard == ["one", "two"])
        assert (setup.channel.counters["refused"], setup.channel.counters["unknown_kind"]) == (1, 1)
        gevent.sleep(0.01)
        assert setup.far.hear() == []


class TestNumbers:
    def test_a_number_that_is_there_must_be_the_one_that_was_counted(self, setup: Setup) -> None:
        setup.far.send(text("one", sequence=1), text("two"), text("three", sequence=3))
        wait_until(lambda: setup.heard == ["one", "two", "three"])
        setup.far.send(text("five", sequence=5))
        assert setup.goodbye().reason == pb.DISCONNECT_REASON_BAD_PACKET
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
        setup.control.detach("cut")
        hello = setup.hello()
        assert hello.last_sequence_received == 1
        assert setup.reconnect(ours=hello)
        setup.far.send(text("two", sequence=2))
        gevent.sleep(0.01)
        assert setup.acknowledged() == 0
        go_on.set()
        wait_until(lambda: setup.acknowledged() == 2)
        assert setup.heard == ["one", "two"]
