"""How a channel ends, whoever else is about to end it."""

from __future__ import annotations

import gevent
import pytest
from gevent.event import Event as Flag

from peernet.channel.channel import PeerChannel
from peernet.channel.state import ChannelState
from peernet.errors import ChannelClosedError
from peernet.reasons import Reason
from peernet.v1 import packet_pb2 as pb
from peernet.wire.disconnect import disconnect_packet
from tests.support import scaled, stay, wait_until
from tests.unit.channels import Setup, frame, text

OPEN, RECONNECTING, CLOSED = ChannelState.OPEN, ChannelState.RECONNECTING, ChannelState.CLOSED


def test_closing_twice_at_once_ends_both_with_the_first_reason(setup: Setup) -> None:
    closing = [gevent.spawn(setup.channel.close, reason) for reason in (Reason.SHUTDOWN, Reason.REJECTED)]
    told = [packet.disconnect.reason for packet in setup.far.wait_for("disconnect")]
    assert told == [Reason.SHUTDOWN.number]
    setup.far.transport.finish_writing()
    gevent.joinall(closing, timeout=scaled(5), raise_error=True)
    assert setup.channel.reason is Reason.SHUTDOWN
    assert setup.owner.events() == ["closed"]


def test_closing_while_it_reconnects_says_nothing_and_ends_at_once(setup: Setup) -> None:
    receipt = setup.send()
    setup.lose()
    setup.channel.close(Reason.SHUTDOWN)
    assert setup.channel.state is CLOSED
    assert receipt.reason is Reason.SHUTDOWN
    assert not setup.reconnect()
    with pytest.raises(ChannelClosedError):
        setup.send()


def test_what_was_told_as_failed_is_not_acknowledged_later(setup: Setup) -> None:
    """Frames that were read together with the one before the end still come."""
    told: list[bool] = []
    first, second = setup.send(), setup.send()
    second.add_done_callback(lambda receipt: told.append(receipt.acknowledged))
    first.add_done_callback(lambda receipt: setup.control.end(Reason.SHUTDOWN))
    closing = gevent.spawn(setup.channel.close, Reason.SHUTDOWN)
    gevent.sleep(0)
    setup.far.send(*(frame(pb.AcknowledgePacket(), acknowledged=number) for number in (1, 2)))
    closing.get(timeout=scaled(5))
    assert setup.ends()
    assert told == [False]
    assert second.reason is Reason.SHUTDOWN
    assert not second.acknowledged


def test_a_callback_for_the_goodbye_that_hangs_does_not_keep_close_waiting(setup: Setup) -> None:
    hanging = Flag()

    def hang(channel: PeerChannel, packet: pb.Packet) -> None:
        hanging.set()
        stay()

    setup.owner.handlers["disconnect"] = hang
    setup.far.send(frame(disconnect_packet(Reason.SHUTDOWN)))
    assert hanging.wait(scaled(5))
    closing = gevent.spawn(setup.channel.close, timeout=0.01)
    closing.get(timeout=scaled(5))
    assert setup.channel.reason is Reason.SHUTDOWN
    assert setup.channel.ended_by_peer
    assert setup.ends()


def test_one_that_returns_in_time_still_acknowledges(setup: Setup) -> None:
    busy, go_on = Flag(), Flag()

    def take_your_time(channel: PeerChannel, packet: pb.Packet) -> None:
        busy.set()
        go_on.wait()

    setup.owner.handlers["disconnect"] = take_your_time
    setup.far.send(text(), frame(disconnect_packet(Reason.SHUTDOWN)))
    assert busy.wait(scaled(5))
    closing = gevent.spawn(setup.channel.close, timeout=60)
    gevent.sleep(0)
    go_on.set()
    wait_until(lambda: setup.acknowledged() == 1)
    setup.far.transport.finish_writing()
    closing.get(timeout=scaled(5))


def test_whoever_waits_when_the_channel_ends_finds_the_connection_cut(setup: Setup) -> None:
    """A listener that takes its time keeps no peer connected."""
    ended: list[bool] = []
    setup.owner.hooks["closed"] = lambda channel: ended.append(setup.far.transport.ended())
    setup.control.end(Reason.SHUTDOWN)
    assert ended == [True]


def test_a_listener_that_is_interrupted_when_the_channel_ends_leaves_nothing_open(setup: Setup) -> None:
    def be_interrupted(channel: PeerChannel) -> None:
        raise gevent.Timeout(0)

    setup.owner.hooks["closed"] = be_interrupted
    with pytest.raises(gevent.Timeout):
        setup.control.end(Reason.SHUTDOWN)
    assert setup.ends()
    assert setup.far.transport.ended()


def test_whoever_has_dialled_is_not_killed_for_a_listener_that_takes_its_time() -> None:
    """Until the channel runs, it is in the hands of whoever connects: perhaps of the main greenlet."""
    made: list[Setup] = []
    go_on = Flag()

    def connect() -> str:
        made.append(Setup(close_timeout=0.01, run=False))
        go_on.wait()
        return "alive"

    connecting = gevent.spawn(connect)
    wait_until(lambda: made)
    (setup,) = made
    setup.control.end(Reason.SHUTDOWN)
    assert setup.owner.greenlets.join(timeout=scaled(5))  # which would have killed it
    go_on.set()
    assert connecting.get(timeout=scaled(5)) == "alive"
    setup.run()
    assert setup.ends()
    setup.end()
