"""What programs see of a channel."""

from __future__ import annotations

from typing import Any

import gevent
import pytest
from google.protobuf.message import Message

from peernet.channel.channel import PeerChannel
from peernet.channel.state import ChannelState
from peernet.errors import ChannelClosedError, LocalProtocolError, PingTimeout
from peernet.reasons import Reason
from peernet.v1 import packet_pb2 as pb
from tests.support import scaled
from tests.unit.channels import Setup, frame, text

OPEN, RECONNECTING, CLOSED = ChannelState.OPEN, ChannelState.RECONNECTING, ChannelState.CLOSED


# More members than this are more than a programmer wants to choose from.
MOST_MEMBERS = 40
ATTRIBUTES = {"peer", "dialled", "session"}


def test_programs_see_few_members_and_the_reference_describes_each() -> None:
    members = {name for name in dir(PeerChannel) if not name.startswith("_")}
    assert len(members) <= MOST_MEMBERS
    undescribed = {name for name in members if not (getattr(PeerChannel, name).__doc__ or "").strip()}
    assert undescribed == ATTRIBUTES
    assert all(f"    {name}: " in (PeerChannel.__doc__ or "") for name in ATTRIBUTES)


def test_what_belongs_to_the_program_is_kept(setup: Setup) -> None:
    setup.channel.data["mine"] = 1
    assert setup.channel.data == {"mine": 1}
    assert setup.channel.handlers is setup.channel.handlers
    assert setup.channel.counters is setup.channel.counters


def test_who_waits_for_the_end_is_told_whenever_he_begins_to_wait(setup: Setup) -> None:
    early = gevent.spawn(setup.channel.wait_closed, scaled(5))
    assert setup.channel.wait_closed(0.001) is False
    setup.control.end(Reason.SHUTDOWN)
    assert early.get(timeout=scaled(5)) is True
    assert setup.channel.wait_closed(0) is True


def test_one_that_nobody_has_waited_for_says_that_it_has_ended(setup: Setup) -> None:
    setup.control.end(Reason.SHUTDOWN)
    assert setup.channel.wait_closed(0) is True


def test_a_ping_ends_with_the_connection(setup: Setup) -> None:
    def ping() -> Any:
        try:
            return setup.channel.ping(scaled(60))
        except (PingTimeout, ChannelClosedError) as error:
            return error

    asking = gevent.spawn(ping)
    gevent.sleep(0)
    setup.lose()
    assert isinstance(asking.get(timeout=scaled(5)), PingTimeout)
    setup.reconnect()
    asking = gevent.spawn(ping)
    gevent.sleep(0)
    setup.control.end(Reason.SHUTDOWN)
    assert isinstance(asking.get(timeout=scaled(5)), ChannelClosedError)


def test_a_channel_has_the_identifier_of_its_peer(setup: Setup) -> None:
    assert setup.channel.identifier == setup.channel.peer.identifier != ""


def test_a_text_is_sent_as_a_message(setup: Setup) -> None:
    receipt = setup.channel.send_text("Grüße")
    (packet,) = setup.far.wait_for("pure_message")
    assert packet.pure_message == pb.PureMessagePacket(message="Grüße")
    assert receipt.sequence == 1


def test_data_is_sent_with_a_format_and_its_name(setup: Setup) -> None:
    setup.channel.send_data(b"\x00\xff", name="two bytes")
    setup.channel.send_data(b"nameless")
    named, nameless = (packet.data_transmission for packet in setup.far.wait_for("data_transmission", 2))
    assert (named.data, named.name, named.format) == (b"\x00\xff", "two bytes", pb.DATA_PAYLOAD_FORMAT_MISC_DATA)
    assert (nameless.data, nameless.name, nameless.format) == (b"nameless", "", pb.DATA_PAYLOAD_FORMAT_MISC_DATA)


@pytest.mark.parametrize("asked", [text("?", request_id=7), frame(pb.PureMessagePacket(message="?"), request_id=7)])
@pytest.mark.parametrize("answer", ["!", pb.PureMessagePacket(message="!")], ids=["text", "message"])
def test_an_answer_carries_the_number_of_what_it_answers(setup: Setup, asked: bytes, answer: Message | str) -> None:
    setup.owner.handlers["pure_message"] = lambda channel, packet: channel.reply(packet, answer)
    setup.far.send(asked)
    (packet,) = setup.far.wait_for("pure_message")
    assert (packet.pure_message.message, packet.reply_to, packet.request_id) == ("!", 7, 0)


def test_an_answer_to_a_packet_that_asks_for_none_is_a_message_like_any_other(setup: Setup) -> None:
    setup.channel.reply(pb.Packet(pure_message=pb.PureMessagePacket()), "!")
    (packet,) = setup.far.wait_for("pure_message")
    assert packet == pb.Packet(pure_message=pb.PureMessagePacket(message="!"))


def test_an_answer_keeps_its_number_when_it_is_sent_again(setup: Setup) -> None:
    setup.lose()
    setup.channel.reply(pb.Packet(request_id=7), "!")
    setup.reconnect()
    (packet,) = setup.far.wait_for("pure_message")
    assert (packet.pure_message.message, packet.reply_to) == ("!", 7)


def test_only_the_body_of_a_packet_can_be_an_answer(setup: Setup) -> None:
    with pytest.raises(LocalProtocolError, match="Packet is not the body of a packet"):
        setup.channel.reply(pb.Packet(request_id=7), pb.Packet())


def test_what_programs_see_of_a_channel_stays_little() -> None:
    assert len([name for name in dir(PeerChannel) if not name.startswith("_")]) <= 36
