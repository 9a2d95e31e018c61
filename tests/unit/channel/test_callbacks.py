"""Callbacks that fail, block, or take their time."""

from __future__ import annotations

import logging

import gevent
import pytest
from gevent.event import Event as Flag

from peernet.channel.callbacks import FAILING
from peernet.channel.channel import PeerChannel
from peernet.channel.handlers import InThreadpool
from peernet.channel.state import ChannelState
from peernet.runtime.threads import get_ident
from peernet.v1 import packet_pb2 as pb
from tests.support import scaled, wait_until
from tests.unit.channels import Setup, text


@pytest.mark.parametrize("error", [ValueError("oops"), gevent.Timeout(1)], ids=["error", "timeout"])
def test_one_that_raises_hurts_nobody_and_has_handled_its_packet(
    setup: Setup, error: BaseException, caplog: pytest.LogCaptureFixture
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
    assert setup.is_served()


def test_one_that_fails_again_and_again_is_an_event_each_time_it_begins_to(setup: Setup) -> None:
    outcomes = [True] * (FAILING - 1) + [False] + [True] * (FAILING + 5)

    def fail(channel: PeerChannel, packet: pb.Packet) -> None:
        if outcomes.pop(0):
            raise ValueError("oops")

    setup.owner.handlers["pure_message"] = fail
    setup.far.send(*[text()] * len(outcomes))
    wait_until(lambda: not outcomes)
    assert setup.owner.events().count("failing") == 1
    assert setup.channel.counters["handler_failing"] == 1


def test_one_that_is_killed_takes_the_channel_with_it(setup: Setup) -> None:
    busy = Flag()

    def hang(channel: PeerChannel, packet: pb.Packet) -> None:
        busy.set()
        Flag().wait()

    setup.owner.handlers["pure_message"] = hang
    setup.far.send(text())
    assert busy.wait(scaled(5))
    setup.kill()
    assert setup.channel.state is ChannelState.CLOSED
    assert not setup.channel.counters["callback_failed"]
    assert setup.far.transport.ended()


def test_one_that_blocks_can_run_in_a_native_thread(setup: Setup) -> None:
    idents: list[int] = []

    def block(channel: PeerChannel, packet: pb.Packet) -> None:
        idents.append(get_ident())
        if len(idents) == 2:
            raise ValueError("oops")

    setup.owner.handlers["pure_message"] = InThreadpool(block)
    setup.far.send(text(), text())
    wait_until(lambda: setup.acknowledged() == 2)
    assert setup.parts.ownership.thread not in idents
    assert setup.channel.counters["callback_failed"] == 1


def test_what_was_handled_is_acknowledged_soon_even_if_the_next_callback_takes_its_time(setup: Setup) -> None:
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
