"""From a message to bytes in the outbox, with a copy and a receipt."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import gevent
import pytest
from google.protobuf.message import Message

from peernet.channel.channel import PeerChannel
from peernet.channel.outbox import LARGE
from peernet.channel.receipts import PAGE
from peernet.channel.state import ChannelState
from peernet.config import KIB
from peernet.errors import (
    ChannelClosedError,
    LocalProtocolError,
    OutboxFullError,
    PacketTooBigError,
    PeerNetError,
    SendTimeout,
    WrongThreadError,
)
from peernet.reasons import Reason
from peernet.transport.memory import CAPACITY
from peernet.v1 import packet_pb2 as pb
from peernet.wire.packets import encode_body
from tests.support import known, scaled, wait_until
from tests.unit.channels import Setup, frame, text
from tests.unit.transport.pairs import fill

Setups = Callable[..., Setup]


@pytest.fixture
def setups() -> Iterator[Setups]:
    made: list[Setup] = []

    def make(**options: Any) -> Setup:
        made.append(Setup(**options))
        return made[-1]

    yield make
    for setup in made:
        setup.end()


def message(size: int = 1) -> pb.PureMessagePacket:
    return pb.PureMessagePacket(message="x" * size)


def of_size(size: int) -> pb.DataTransmissionPacket:
    """A body whose packet has this size, without an envelope."""
    body = pb.DataTransmissionPacket(data=bytes(size))
    while (excess := len(frame_content(body)) - size) > 0:
        body.data = body.data[excess:]
    assert len(frame_content(body)) == size
    return body


def frame_content(body: Message) -> bytes:
    _, prefix, content = encode_body(body)
    return prefix + content


def acknowledge(setup: Setup, number: int) -> None:
    setup.far.send(frame(pb.AcknowledgePacket(), acknowledged=number))
    wait_until(lambda: setup.session.acknowledged == number)


class TestRefusals:
    @pytest.mark.parametrize("state", [ChannelState.PENDING, ChannelState.CLOSING, ChannelState.CLOSED])
    def test_a_channel_that_is_not_open_takes_nothing_and_says_why(self, setups: Setups, state: ChannelState) -> None:
        setup = setups(opened=state is not ChannelState.PENDING)
        if state is not ChannelState.PENDING:
            setup.parts.lifecycle.begin_closing(Reason.SHUTDOWN, "")
        if state is ChannelState.CLOSED:
            setup.parts.closing.conclude()
        assert setup.channel.state is state
        expected = LocalProtocolError if state is ChannelState.PENDING else ChannelClosedError
        with pytest.raises(expected, match="pending" if state is ChannelState.PENDING else "The node is stopping"):
            setup.channel.send(message())
        assert setup.session.sent == 0

    @pytest.mark.parametrize(
        "body",
        [pb.HelloPacket(), pb.HeartbeatPacket(), pb.AcknowledgePacket(), pb.DisconnectPacket()],
        ids=lambda body: type(body).__name__,
    )
    def test_what_the_protocol_itself_sends_is_not_taken(self, setups: Setups, body: Message) -> None:
        with pytest.raises(LocalProtocolError, match=r"channels send .* packets themselves"):
            setups().channel.send(body)

    def test_what_is_no_body_is_not_taken(self, setups: Setups) -> None:
        with pytest.raises(LocalProtocolError, match="Packet is not the body of a packet"):
            setups().channel.send(pb.Packet())

    def test_a_packet_may_be_as_large_as_the_peer_says_and_no_larger(self, setups: Setups) -> None:
        setup = setups(max_frame=8 * KIB)
        setup.channel.send(of_size(8 * KIB))
        with pytest.raises(PacketTooBigError, match="8193 bytes; aaaaaaaa takes at most 8192"):
            setup.channel.send(of_size(8 * KIB + 1))
        assert setup.session.sent == 1

    def test_a_peer_that_says_nothing_takes_a_mebibyte(self, setups: Setups) -> None:
        setup = setups()
        setup.channel.send(of_size(1024 * KIB))
        with pytest.raises(PacketTooBigError):
            setup.channel.send(of_size(1024 * KIB + 1))

    def test_kinds_that_are_not_for_bulk_have_a_limit_of_their_own(self, setups: Setups) -> None:
        with pytest.raises(PacketTooBigError, match=r"a identifier packet of .* takes at most 65536"):
            setups().channel.send(pb.IdentifierPacket(message="x" * 64 * KIB))

    def test_unless_the_peer_takes_even_less(self, setups: Setups) -> None:
        setup = setups(max_frame=8 * KIB)
        with pytest.raises(PacketTooBigError, match="takes at most 8192"):
            setup.channel.send(pb.IdentifierPacket(message="x" * 8 * KIB))

    def test_what_is_too_big_on_another_connection_is_refused_there(self, setups: Setups) -> None:
        setup = setups()
        setup.lose()
        assert setup.reconnect(max_frame=8 * KIB)
        with pytest.raises(PacketTooBigError):
            setup.channel.send(of_size(8 * KIB + 1))

    def test_another_native_thread_is_refused(self, setups: Setups) -> None:
        setup = setups()
        with pytest.raises(WrongThreadError):
            gevent.get_hub().threadpool.apply(setup.channel.send, (message(),))


class TestFrames:
    @pytest.mark.parametrize("size", [1, LARGE - 10, LARGE, LARGE + 1, 3 * LARGE])
    def test_it_leaves_whole_and_is_kept_whole(self, setups: Setups, size: int) -> None:
        setup = setups()
        setup.channel.send(message(size))
        (packet,) = setup.far.wait_for("pure_message")
        assert packet.pure_message.message == "x" * size
        assert setup.session.kept_bytes == len(frame(message(size)))

    def test_the_content_of_a_large_one_is_not_copied(self, setups: Setups) -> None:
        setup = setups()
        kind, prefix, content = encode_body(message(2 * LARGE))
        setup.control.send_encoded((kind, prefix, content), None)
        assert [one is content for one in setup.session.contents] == [True]
        (header,) = setup.session.kept
        assert len(header) < 20

    def test_what_was_handled_is_acknowledged_with_it(self, setups: Setups) -> None:
        setup = setups(acknowledge_after=0.05)
        setup.far.send(text(), text())
        wait_until(lambda: len(setup.heard) == 2)
        setup.channel.send(message())
        setup.channel.send(message())
        packets = setup.far.wait_for("pure_message", 2)
        assert [packet.acknowledged for packet in packets] == [2, 0]

    def test_not_while_there_are_refusals_to_tell_first(self, setups: Setups) -> None:
        setup = setups(acknowledge_after=0.05)
        setup.far.send(frame(pb.DataTransmissionPacket()))
        wait_until(lambda: setup.session.handled == 1)
        setup.channel.send(message())
        (packet,) = setup.far.wait_for("pure_message")
        assert packet.acknowledged == 0

    def test_not_while_there_is_no_connection(self, setups: Setups) -> None:
        """It would say what is no longer true when it is sent again, and count as told."""
        setup = setups(acknowledge_after=0.05)
        setup.far.send(text())
        wait_until(lambda: setup.session.handled == 1)
        setup.lose()
        setup.channel.send(message())
        assert setup.session.owes

    @pytest.mark.parametrize("size", [4 * KIB, 4 * KIB - 1, 4 * KIB - 11])
    def test_not_if_that_would_make_it_too_big_for_the_peer(self, setups: Setups, size: int) -> None:
        setup = setups(max_frame=4 * KIB, acknowledge_after=0.05)
        setup.far.send(text())
        wait_until(lambda: setup.session.handled == 1)
        setup.channel.send(of_size(size))
        (packet,) = setup.far.wait_for("data_transmission")
        assert packet.ByteSize() <= 4 * KIB
        assert (packet.acknowledged == 1) is (size == 4 * KIB - 11)
        wait_until(lambda: setup.acknowledged() == 1)

    def test_nor_for_its_kind(self, setups: Setups) -> None:
        setup = setups(acknowledge_after=0.05)
        setup.far.send(text())
        wait_until(lambda: setup.session.handled == 1)
        body = pb.IdentifierPacket(message="x" * (64 * KIB - 9))
        assert len(frame_content(body)) == 64 * KIB
        setup.channel.send(body)
        (packet,) = setup.far.wait_for("identifier")
        assert packet.ByteSize() == 64 * KIB

    def test_receipts_carry_the_numbers(self, setups: Setups) -> None:
        setup = setups()
        receipts = [setup.channel.send(message()) for _ in range(2 * PAGE + 1)]
        assert [receipt.sequence for receipt in receipts] == list(range(1, 2 * PAGE + 2))
        acknowledge(setup, PAGE)
        assert [receipt.acknowledged for receipt in receipts] == [True] * PAGE + [False] * (PAGE + 1)


class TestWithoutASession:
    def test_nothing_is_numbered_or_kept_and_the_receipt_says_so(self, setups: Setups) -> None:
        setup = setups(session=False)
        receipt = setup.channel.send(message())
        assert setup.channel.session is None
        assert (receipt.sequence, receipt.reason) == (0, Reason.NO_SESSION)
        assert setup.far.wait_for("pure_message")

    def test_nothing_is_acknowledged(self, setups: Setups) -> None:
        setup = setups(session=False, acknowledge_after=0.001)
        setup.far.send(text(), frame(pb.AcknowledgePacket(), acknowledged=7))
        wait_until(lambda: setup.heard)
        setup.channel.send(message())
        gevent.sleep(0.01)
        assert setup.far.kinds() == ["pure_message"]
        assert setup.acknowledged() == 0

    def test_who_waits_for_room_is_told_when_the_connection_breaks(self, setups: Setups) -> None:
        setup = setups(session=False, outbox_packets=1, outbox_reserve_packets=1)
        stop_reading(setup)
        sending = gevent.spawn(catch, setup.channel.send, message())
        gevent.sleep(0.01)
        assert not sending.dead
        setup.far.transport.close()
        assert isinstance(sending.get(timeout=scaled(5)), ChannelClosedError)

    def test_a_link_that_is_broken_takes_nothing_even_before_the_channel_knows(self, setups: Setups) -> None:
        setup = setups(session=False, outbox_packets=1)
        stop_reading(setup)
        setup.link.outbox.close()
        setup.link.outbox.packets = 1
        with pytest.raises(ChannelClosedError):
            setup.channel.send(message())


def catch(function: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """What a function returns, or raises."""
    try:
        return function(*args, **options)
    except PeerNetError as error:
        return error


def stop_reading(setup: Setup) -> None:
    """Let the far end read no more, and fill what is between it and the outbox, and that one by a packet."""
    fill(setup.near)
    for _ in range(2):
        setup.link.outbox.put_frame(b"x")


class TestRoom:
    @pytest.fixture
    def setup(self, setups: Setups) -> Setup:
        """A channel that keeps four packets, and two more for callbacks."""
        return setups(session_packets=4, session_reserve_packets=2, send_timeout=0.05)

    def fill(self, setup: Setup) -> None:
        while not setup.session.full:
            setup.channel.send(message())

    def test_without_room_it_waits_and_gives_up_in_time(self, setup: Setup) -> None:
        self.fill(setup)
        with pytest.raises(SendTimeout, match=r"made no room in 0\.05 s"):
            setup.channel.send(message())
        with pytest.raises(SendTimeout, match=r"0\.01 s"):
            setup.channel.send(message(), timeout=0.01)
        assert setup.session.sent == 4

    def test_who_cannot_wait_is_told_at_once(self, setup: Setup) -> None:
        self.fill(setup)
        with pytest.raises(OutboxFullError, match="full"):
            setup.channel.try_send(message())
        assert setup.session.sent == 4

    def test_nobody_waits_in_the_hub(self, setup: Setup) -> None:
        self.fill(setup)
        outcomes: list[Any] = []
        gevent.get_hub().loop.run_callback(lambda: outcomes.append(catch(setup.channel.send, message(), timeout=5)))
        wait_until(lambda: outcomes)
        assert isinstance(outcomes[0], OutboxFullError)

    def test_acknowledgements_make_room(self, setup: Setup) -> None:
        self.fill(setup)
        sending = gevent.spawn(catch, setup.channel.send, message(), timeout=scaled(5))
        gevent.sleep(0)
        acknowledge(setup, 2)
        assert sending.get(timeout=scaled(4)).sequence == 5

    def test_even_if_they_are_too_few_to_wake_everybody(self, setup: Setup) -> None:
        self.fill(setup)
        sending = gevent.spawn(catch, setup.channel.send, message(), timeout=scaled(5))
        gevent.sleep(0)
        acknowledge(setup, 1)
        assert sending.get(timeout=scaled(4)).sequence == 5

    def test_many_who_wait_all_get_their_turn_and_the_limit_holds(self, setup: Setup) -> None:
        self.fill(setup)
        sending = [gevent.spawn(catch, setup.channel.send, message(), timeout=scaled(5)) for _ in range(6)]
        for _ in range(6):
            gevent.sleep(0.01)
            assert len(setup.session.kept) <= 4
            acknowledge(setup, setup.session.sent)
        wait_until(lambda: all(one.dead for one in sending))
        assert sorted(known(one.value).sequence for one in sending) == [5, 6, 7, 8, 9, 10]

    def test_room_is_bounded_in_bytes_too(self, setups: Setups) -> None:
        setup = setups(session_bytes=64 * KIB, max_frame=64 * KIB)
        setup.channel.send(message(40 * KIB))
        setup.channel.send(message(40 * KIB))
        with pytest.raises(OutboxFullError):
            setup.channel.try_send(message())

    def test_a_callback_never_waits_and_has_a_reserve_that_ends(self, setup: Setup) -> None:
        outcomes: list[Any] = []

        def answer(channel: PeerChannel, packet: pb.Packet) -> None:
            outcomes.extend(catch(channel.send, message()) for _ in range(8))

        setup.owner.handlers["pure_message"] = answer
        setup.far.send(text())
        wait_until(lambda: len(outcomes) == 8)
        assert [one.sequence for one in outcomes[:6]] == [1, 2, 3, 4, 5, 6]
        for one in outcomes[6:]:
            assert isinstance(one, OutboxFullError)
            assert "channel.spawn" in str(one)
        assert setup.channel.state is ChannelState.OPEN

    def test_the_reserve_of_a_callback_is_bounded_in_bytes_too(self, setups: Setups) -> None:
        setup = setups(session_bytes=64 * KIB, session_reserve_bytes=1024 * KIB)
        outcomes: list[Any] = []

        def answer(channel: PeerChannel, packet: pb.Packet) -> None:
            outcomes.extend(catch(channel.send, message(400 * KIB)) for _ in range(4))

        setup.owner.handlers["pure_message"] = answer
        setup.far.send(text())
        wait_until(lambda: len(outcomes) == 4)
        assert [isinstance(one, OutboxFullError) for one in outcomes] == [False, False, True, True]

    def test_the_reserve_is_there_even_if_the_peer_does_not_read(self, setups: Setups) -> None:
        """What waits to be written is kept as well, so that the limits of the session hold for both."""
        limits = {"outbox_packets": 2, "outbox_reserve_packets": 2}
        setup = setups(session_packets=10, session_reserve_packets=10, **limits)
        fill(setup.near)
        outcomes: list[Any] = []

        def answer(channel: PeerChannel, packet: pb.Packet) -> None:
            outcomes.extend(catch(channel.send, message()) for _ in range(21))

        setup.owner.handlers["pure_message"] = answer
        setup.far.send(text())
        wait_until(lambda: len(outcomes) == 21)
        assert [isinstance(one, OutboxFullError) for one in outcomes] == [False] * 20 + [True]

    def test_who_waits_is_told_when_the_channel_ends(self, setup: Setup) -> None:
        self.fill(setup)
        sending = [gevent.spawn(catch, setup.channel.send, message(), timeout=scaled(60)) for _ in range(2)]
        gevent.sleep(0)
        setup.control.end(Reason.SHUTDOWN)
        for one in sending:
            assert one.get(timeout=scaled(5)).reason is Reason.SHUTDOWN
        assert setup.session.sent == 4

    def test_who_waits_goes_on_waiting_while_the_channel_reconnects(self, setup: Setup) -> None:
        self.fill(setup)
        sending = gevent.spawn(catch, setup.channel.send, message(), timeout=scaled(5))
        gevent.sleep(0)
        setup.lose()
        gevent.sleep(0.01)
        assert not sending.dead
        assert setup.reconnect(received=4)
        acknowledge(setup, 4)
        assert sending.get(timeout=scaled(4)).sequence == 5
        assert len(setup.far.wait_for("pure_message")) == 1

    def test_who_waits_for_the_outbox_goes_on_when_another_link_has_room(self, setups: Setups) -> None:
        setup = setups(session_packets=4, outbox_packets=1, outbox_reserve_packets=1)
        stop_reading(setup)
        self.fill(setup)
        sending = gevent.spawn(catch, setup.channel.send, message(), timeout=scaled(60))
        gevent.sleep(0.01)
        assert setup.reconnect(received=4)
        acknowledge(setup, 4)
        assert sending.get(timeout=scaled(5)).sequence == 5
        assert setup.far.wait_for("pure_message")


class TestReconnecting:
    def test_packets_are_accepted_kept_and_leave_later_in_order(self, setups: Setups) -> None:
        setup = setups()
        first = setup.channel.send(message(1))
        setup.lose()
        receipts = [setup.channel.send(body) for body in (message(2), message(2 * LARGE), message(3))]
        assert setup.channel.queued_packets == 0
        assert [one.sequence for one in (first, *receipts)] == [1, 2, 3, 4]
        assert setup.reconnect(received=1)
        packets = setup.far.wait_for("pure_message", 3)
        assert [len(packet.pure_message.message) for packet in packets] == [2, 2 * LARGE, 3]

    def test_what_the_peer_has_not_got_leaves_before_what_is_sent_then(self, setups: Setups) -> None:
        setup = setups()
        for size in (1, 2, 3):
            setup.channel.send(message(size))
        setup.lose()
        assert setup.reconnect(received=1)
        setup.channel.send(message(4))
        packets = setup.far.wait_for("pure_message", 3)
        assert [len(packet.pure_message.message) for packet in packets] == [2, 3, 4]

    def test_more_than_the_pipe_holds_leaves_when_there_is_room(self, setups: Setups) -> None:
        setup = setups()
        setup.lose()
        for _ in range(3):
            setup.channel.send(message(CAPACITY))
        assert setup.reconnect()
        assert len(setup.far.wait_for("pure_message", 3)) == 3

    def test_the_limits_hold(self, setups: Setups) -> None:
        setup = setups(session_packets=2, send_timeout=0.01)
        setup.lose()
        for _ in range(2):
            setup.channel.send(message())
        with pytest.raises(SendTimeout):
            setup.channel.send(message())

    def test_a_link_that_broke_unnoticed_loses_nothing(self, setups: Setups) -> None:
        setup = setups()
        setup.far.transport.close()
        receipt = setup.channel.send(message())
        assert setup.channel.state is ChannelState.OPEN
        setup.lose()
        assert setup.reconnect()
        assert len(setup.far.wait_for("pure_message")) == 1
        acknowledge(setup, 1)
        assert receipt.acknowledged
