"""Who waits for an acknowledgement has the peer asked for it; nobody else has."""

from __future__ import annotations

from typing import Any

import gevent
import pytest

from peernet.channel.acknowledger import PACKETS
from peernet.config import KIB
from peernet.reasons import Reason
from peernet.trust.policy import IncomingPeerTrustPolicy
from peernet.v1 import packet_pb2 as pb
from peernet.wire.session import ACKNOWLEDGE_NOW, GO_ALONG
from tests.support import Recorder, scaled, wait_until
from tests.unit.channels import FROM_THE_FUTURE, Busy, Setup, Setups, frame, text

# No timer fires in a test.
NEVER = 0.05
ASKING = {"capabilities": [ACKNOWLEDGE_NOW], "acknowledge_after": NEVER}
QUESTION = frame(pb.AcknowledgePacket(), acknowledge_now=True)
OPEN_TO_ALL = IncomingPeerTrustPolicy(allow_enhanced_packet_exchange=True)


def acknowledge(setup: Setup, number: int) -> None:
    setup.far.send(frame(pb.AcknowledgePacket(), acknowledged=number))
    wait_until(lambda: setup.session.acknowledged == number)


def asked(setup: Setup) -> list[tuple[str, bool]]:
    """The kinds of what the far end got, and whether it was asked."""
    return [(str(packet.WhichOneof("body")), packet.acknowledge_now) for packet in setup.far.hear()]


TOLD, QUESTIONED, ASKED_ALONG = ("pure_message", False), ("acknowledge", True), ("pure_message", True)


@pytest.fixture
def setup(setups: Setups) -> Setup:
    return setups(**ASKING)


class TestQuestions:
    def test_nobody_waits_and_nobody_asks(self, setup: Setup) -> None:
        receipts = [setup.send() for _ in range(3)]
        gevent.sleep(0.001)
        assert not any(receipt.done for receipt in receipts)
        assert asked(setup) == [TOLD] * 3

    def test_to_wait_asks_behind_the_packet_and_ends_with_the_answer(self, setup: Setup) -> None:
        waiting = gevent.spawn(setup.send().wait, scaled(5))
        wait_until(lambda: asked(setup) == [TOLD, QUESTIONED])
        acknowledge(setup, 1)
        assert waiting.get(timeout=scaled(5)) is True

    def test_to_look_without_waiting_asks_as_well(self, setup: Setup) -> None:
        receipt = setup.send()
        assert receipt.wait(0) is False
        wait_until(lambda: asked(setup) == [TOLD, QUESTIONED])

    def test_a_callback_asks(self, setup: Setup) -> None:
        done = Recorder()
        receipt = setup.send()
        receipt.add_done_callback(done)
        wait_until(lambda: asked(setup) == [TOLD, QUESTIONED])
        acknowledge(setup, 1)
        assert done.wait_for(1) == [(receipt,)]

    def test_all_who_wait_at_once_have_one_question(self, setup: Setup) -> None:
        for _ in range(100):
            setup.send().add_done_callback(Recorder())
        wait_until(lambda: QUESTIONED in asked(setup))
        setup.send()
        wait_until(lambda: asked(setup) == [*[TOLD] * 100, QUESTIONED, TOLD])

    def test_who_waits_for_what_was_asked_for_does_not_ask_again(self, setup: Setup) -> None:
        first, second = setup.send(), setup.send()
        second.add_done_callback(Recorder())
        wait_until(lambda: QUESTIONED in asked(setup))
        first.add_done_callback(Recorder())
        gevent.sleep(0.001)
        assert asked(setup) == [TOLD, TOLD, QUESTIONED]

    def test_a_question_carries_the_acknowledgement_that_is_owed(self, setup: Setup) -> None:
        setup.far.send(text(), text())
        wait_until(lambda: setup.session.handled == 2)
        setup.send().add_done_callback(Recorder())
        (packet,) = setup.far.wait_for("acknowledge")
        assert (packet.acknowledged, packet.acknowledge_now) == (2, True)
        assert not setup.session.owes

    def test_a_peer_without_the_capability_is_asked_nothing(self, setups: Setups) -> None:
        setup = setups(session_packets=4, session_reserve_packets=1, acknowledge_after=NEVER)
        for number in (1, 2):
            setup.send().add_done_callback(Recorder())
            gevent.sleep(0.001)
            acknowledge(setup, number)
        for _ in range(4):
            setup.send()
        setup.control.ration(more=False)
        gevent.sleep(0.001)
        assert asked(setup) == [TOLD] * 6

    def test_without_a_session_nothing_is_asked(self, setups: Setups) -> None:
        setup = setups(session=False, **ASKING)
        setup.send().add_done_callback(Recorder())
        setup.control.ration(more=False)
        gevent.sleep(0.001)
        assert asked(setup) == [TOLD]


class TestQuestionsThatGoAlong:
    """Who waits for one packet after the other saves the question: the packets ask."""

    def wait_for(self, setup: Setup) -> None:
        receipt = setup.send()
        receipt.add_done_callback(Recorder())
        gevent.sleep(0.001)
        acknowledge(setup, receipt.sequence)

    def test_the_packet_after_one_that_was_waited_for_asks_itself(self, setup: Setup) -> None:
        for _ in range(3):
            self.wait_for(setup)
        assert asked(setup) == [TOLD, QUESTIONED, ASKED_ALONG, ASKED_ALONG]

    def test_not_while_others_are_under_way(self, setup: Setup) -> None:
        for _ in range(3):
            setup.send().add_done_callback(Recorder())
        wait_until(lambda: asked(setup) == [*[TOLD] * 3, QUESTIONED])

    def test_one_that_is_not_waited_for_may_be_in_between(self, setup: Setup) -> None:
        self.wait_for(setup)
        for number in (2, 4):
            setup.send()
            acknowledge(setup, number)
            self.wait_for(setup)
        assert asked(setup) == [TOLD, QUESTIONED, *[ASKED_ALONG] * 4]

    def test_no_more_when_two_were_not_waited_for(self, setup: Setup) -> None:
        self.wait_for(setup)
        for number in (2, 3, 4):
            setup.send()
            acknowledge(setup, number)
        assert asked(setup) == [TOLD, QUESTIONED, ASKED_ALONG, ASKED_ALONG, TOLD]

    def test_however_many_are_not_acknowledged_because_nobody_waits_for_them(self, setup: Setup) -> None:
        for _ in range(10):
            setup.send()
        self.wait_for(setup)
        setup.send()
        acknowledge(setup, 12)
        self.wait_for(setup)
        assert asked(setup) == [*[TOLD] * 11, QUESTIONED, *[ASKED_ALONG] * 2]

    def test_with_the_acknowledgement_that_goes_along_too(self, setup: Setup) -> None:
        self.wait_for(setup)
        setup.far.send(*[text()] * GO_ALONG)
        wait_until(lambda: setup.session.handled == GO_ALONG)
        setup.send()
        packet = setup.far.wait_for("pure_message", 2)[-1]
        assert (packet.acknowledged, packet.acknowledge_now) == (GO_ALONG, True)

    @pytest.mark.parametrize(("size", "asks"), [(4 * KIB, False), (4 * KIB - 13, True)])
    def test_not_if_that_would_make_it_too_big_for_the_peer(self, setups: Setups, size: int, asks: bool) -> None:
        setup = setups(max_frame=4 * KIB, **ASKING)
        self.wait_for(setup)
        body = pb.PureMessagePacket(message="x" * (size - 7))
        assert pb.Packet(pure_message=body).ByteSize() == size
        receipt = setup.channel.send(body)
        packet = setup.far.wait_for("pure_message", 2)[-1]
        assert packet.acknowledge_now is asks
        receipt.add_done_callback(Recorder())
        gevent.sleep(0.001)
        assert asked(setup)[3:] == ([] if asks else [QUESTIONED])


class TestPressure:
    def test_a_window_that_is_over_half_full_asks_once(self, setups: Setups) -> None:
        setup = setups(session_packets=10, **ASKING)
        for _ in range(5):
            setup.send()
        gevent.sleep(0.001)
        assert QUESTIONED not in asked(setup)
        for _ in range(4):
            setup.send()
        wait_until(lambda: asked(setup).count(QUESTIONED) == 1)
        acknowledge(setup, 9)
        for _ in range(7):
            setup.send()
        wait_until(lambda: asked(setup).count(QUESTIONED) == 2)

    def test_so_do_kept_bytes(self, setups: Setups) -> None:
        setup = setups(session_bytes=100 * KIB, **ASKING)
        for _ in range(5):
            setup.channel.send(pb.PureMessagePacket(message="x" * 10 * KIB))
        gevent.sleep(0.001)
        assert QUESTIONED not in asked(setup)
        for _ in range(2):
            setup.channel.send(pb.PureMessagePacket(message="x" * 10 * KIB))
        wait_until(lambda: asked(setup).count(QUESTIONED) == 1)

    def test_who_waits_for_room_asks_for_all_that_is_under_way(self, setups: Setups) -> None:
        setup = setups(session_packets=4, **ASKING)
        for _ in range(4):
            setup.send()
        sending = gevent.spawn(setup.channel.send, pb.PureMessagePacket(), timeout=scaled(5))
        wait_until(lambda: asked(setup)[-1] == QUESTIONED)
        acknowledge(setup, 4)
        assert sending.get(timeout=scaled(5)).sequence == 5

    def test_a_network_that_holds_too_much_asks_for_what_is_kept(self, setup: Setup) -> None:
        setup.control.ration(more=True)
        setup.send()
        setup.control.ration(more=True)
        gevent.sleep(0.001)
        assert asked(setup) == [TOLD]
        for _ in range(2):
            setup.control.ration(more=False)
        wait_until(lambda: asked(setup) == [TOLD, QUESTIONED])


class TestReconnecting:
    def test_who_waited_is_asked_for_again_behind_what_is_sent_again(self, setup: Setup) -> None:
        setup.send().add_done_callback(Recorder())
        wait_until(lambda: QUESTIONED in asked(setup))
        setup.lose()
        assert setup.reconnect()
        wait_until(lambda: asked(setup) == [TOLD, QUESTIONED])

    def test_who_begins_to_wait_while_there_is_no_connection_is_asked_for_on_the_next(self, setup: Setup) -> None:
        receipt = setup.send()
        setup.lose()
        receipt.add_done_callback(Recorder())
        gevent.sleep(0.001)
        assert setup.reconnect(received=1)
        wait_until(lambda: asked(setup) == [QUESTIONED])

    def test_not_for_what_is_acknowledged(self, setup: Setup) -> None:
        setup.send().add_done_callback(Recorder())
        wait_until(lambda: QUESTIONED in asked(setup))
        acknowledge(setup, 1)
        setup.lose()
        assert setup.reconnect(received=1)
        setup.send()
        assert asked(setup) == [ASKED_ALONG]

    def test_a_peer_that_has_lost_the_capability_is_asked_nothing(self, setup: Setup) -> None:
        setup.send().add_done_callback(Recorder())
        setup.lose()
        setup.capabilities = []
        assert setup.reconnect()
        setup.send().add_done_callback(Recorder())
        gevent.sleep(0.001)
        assert asked(setup) == [TOLD] * 2


class TestAnswers:
    @pytest.mark.parametrize("options", [{"acknowledge_after": NEVER}, ASKING], ids=["without", "with the capability"])
    def test_a_question_is_answered_at_once_whoever_asks(self, setups: Setups, options: dict[str, Any]) -> None:
        setup = setups(**options)
        setup.far.send(text(), text(), QUESTION)
        (packet,) = setup.far.wait_for("acknowledge")
        assert packet.acknowledged == 2

    def test_a_packet_that_asks_is_acknowledged_when_its_callback_has_returned(self, setup: Setup) -> None:
        busy = Busy(setup)
        busy.begin(text(), text(acknowledge_now=True), text())
        assert setup.far.hear() == []
        busy.go_on()
        setup.far.wait_for("acknowledge")
        assert setup.acknowledged() == 2

    @pytest.mark.parametrize(
        "packet",
        [
            frame(pb.HeartbeatPacket(), acknowledge_now=True),
            frame(pb.DataTransmissionPacket(data=b"x"), acknowledge_now=True),
            frame(pb.PureMessagePacket(), acknowledge_now=True, source_origin_time=5),
        ],
        ids=["heartbeat", "not permitted", "more in the envelope"],
    )
    def test_packets_of_every_kind_may_ask(self, setup: Setup, packet: bytes) -> None:
        setup.far.send(text(), packet)
        setup.far.wait_for("acknowledge")
        assert setup.acknowledged() == setup.session.received

    def test_refusals_are_told_with_the_answer(self, setup: Setup) -> None:
        setup.far.send(FROM_THE_FUTURE, QUESTION)
        assert setup.refused() == [(1, pb.REFUSAL_REASON_UNHANDLED)]

    def test_when_nothing_is_owed_nothing_is_said(self, setup: Setup) -> None:
        setup.far.send(QUESTION, text(), QUESTION, QUESTION, frame(pb.HeartbeatPacket(), request_id=1))
        setup.far.wait_for("heartbeat")
        assert setup.far.kinds() == ["acknowledge", "heartbeat"]

    def test_a_peer_that_reads_nothing_fills_no_outbox_with_answers(self, setups: Setups) -> None:
        setup = setups(outbox_packets=1, **ASKING)
        setup.link.outbox.packets = 1  # as many as may wait
        setup.far.send(text(), QUESTION, text(), QUESTION)
        wait_until(lambda: setup.session.handled == 2)
        assert setup.session.owes
        assert setup.far.hear() == []

    def test_without_a_session_a_question_means_nothing(self, setups: Setups) -> None:
        setup = setups(session=False, acknowledge_after=NEVER)
        setup.far.send(text(acknowledge_now=True), QUESTION, frame(pb.HeartbeatPacket(), request_id=1))
        setup.far.wait_for("heartbeat")
        assert setup.far.kinds() == ["heartbeat"]


class TestRareAcknowledgements:
    def test_little_goes_along_with_no_packet_before_its_time(self, setup: Setup) -> None:
        setup.far.send(*[text()] * (GO_ALONG - 1))
        wait_until(lambda: setup.session.handled == GO_ALONG - 1)
        setup.send()
        assert [packet.acknowledged for packet in setup.far.wait_for("pure_message")] == [0]

    def test_much_goes_along(self, setup: Setup) -> None:
        setup.far.send(*[text()] * GO_ALONG)
        wait_until(lambda: setup.session.handled == GO_ALONG)
        setup.send()
        setup.send()
        assert [packet.acknowledged for packet in setup.far.wait_for("pure_message", 2)] == [GO_ALONG, 0]

    def test_a_peer_without_the_capability_is_told_with_every_packet_as_before(self, setups: Setups) -> None:
        setup = setups(acknowledge_after=NEVER)
        setup.far.send(text())
        wait_until(lambda: setup.session.handled == 1)
        setup.send()
        assert [packet.acknowledged for packet in setup.far.wait_for("pure_message")] == [1]
        setup.far.send(*[text()] * PACKETS)
        wait_until(lambda: setup.acknowledged() == 1 + PACKETS)

    def test_in_the_end_all_is_acknowledged_though_nobody_asks(self, setups: Setups) -> None:
        setup = setups(capabilities=[ACKNOWLEDGE_NOW], acknowledge_after=0.001)
        setup.far.send(text())
        wait_until(lambda: setup.acknowledged() == 1)

    def test_a_callback_that_takes_its_time_holds_up_no_acknowledgement_of_those_before(self, setups: Setups) -> None:
        """The question for them stands behind its packet."""
        setup = setups(capabilities=[ACKNOWLEDGE_NOW], acknowledge_after=0.001)
        setup.far.send(text())
        wait_until(lambda: setup.acknowledged() == 1)
        busy = Busy(setup)
        setup.owner.handlers["pure_message"] = lambda channel, packet: None
        setup.far.send(text())
        wait_until(lambda: setup.session.handled == 2)
        setup.owner.handlers["pure_message"] = busy
        busy.begin(text(), QUESTION)
        wait_until(lambda: setup.acknowledged() == 2)
        busy.go_on()
        wait_until(lambda: setup.acknowledged() == 3)

    def test_a_goodbye_tells_all(self, setup: Setup) -> None:
        setup.far.send(text())
        wait_until(lambda: setup.session.handled == 1)
        setup.channel.close(timeout=0)
        assert setup.acknowledged() == 1

    def test_so_does_the_next_connection(self, setup: Setup) -> None:
        setup.far.send(text())
        wait_until(lambda: setup.session.handled == 1)
        setup.lose()
        assert setup.reconnect()
        setup.far.wait_for("acknowledge")
        assert setup.acknowledged() == 1

    def test_and_the_end_of_the_session_fails_what_was_waited_for(self, setup: Setup) -> None:
        receipt = setup.send()
        receipt.add_done_callback(done := Recorder())
        setup.control.end(Reason.EXPIRED)
        assert done.wait_for(1) == [(receipt,)]
        assert receipt.reason is Reason.EXPIRED
