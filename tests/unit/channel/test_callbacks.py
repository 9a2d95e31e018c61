"""Callbacks that fail, block, or take their time."""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import Any

import gevent
import pytest
from gevent.event import Event as Flag

from peernet.channel.callbacks import FAILING, FAILURES_APART
from peernet.channel.channel import PeerChannel
from peernet.channel.handlers import InThreadpool
from peernet.channel.state import ChannelState
from peernet.errors import PacketRefusedError
from peernet.reasons import Reason
from peernet.runtime.greenlets import get_ident
from peernet.v1 import packet_pb2 as pb
from tests.support import scaled, wait_until
from tests.unit.channels import Setup, text


class OwnError(BaseException):
    """What a program may have made, and no library expects."""


FAILURES: dict[str, BaseException] = {
    "an error": ValueError("oops"),
    "a timeout": gevent.Timeout(1),
    "an exit that nobody has sent": gevent.GreenletExit(),
    "a cancelled task": asyncio.CancelledError(),
    "the end of a generator": GeneratorExit(),
    "one of the program's own": OwnError("oops"),
}
if sys.version_info >= (3, 11):
    FAILURES["a group"] = BaseExceptionGroup("oops", [OwnError("oops")])  # noqa: F821  # not before 3.11


@pytest.mark.parametrize("threadpool", [False, True], ids=["", "in a native thread"])
@pytest.mark.parametrize("error", FAILURES.values(), ids=FAILURES)
def test_one_that_raises_has_not_handled_its_packet_and_hurts_nobody(
    setup: Setup, error: BaseException, threadpool: bool, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(channel: PeerChannel, packet: pb.Packet) -> None:
        setup.heard.append(packet.pure_message.message)
        if packet.pure_message.message != "still there?":
            raise error

    setup.owner.handlers["pure_message"] = InThreadpool(fail) if threadpool else fail
    with caplog.at_level(logging.ERROR):
        setup.far.send(text(), text())
        wait_until(lambda: setup.acknowledged() == 2)
    assert setup.channel.counters["callback_failed"] == 2
    assert caplog.text.count("the callback for pure_message failed") == 1
    assert setup.refused() == [(1, Reason.HANDLER_FAILED.refusal_number), (2, Reason.HANDLER_FAILED.refusal_number)]
    assert setup.is_served()


def test_the_first_failure_of_each_kind_is_logged_whatever_others_come_between(
    setup: Setup, caplog: pytest.LogCaptureFixture
) -> None:
    errors = iter([ValueError("oops"), KeyError("what?")] * 12)

    def fail(channel: PeerChannel, packet: pb.Packet) -> None:
        raise next(errors)

    setup.owner.handlers["pure_message"] = fail
    with caplog.at_level(logging.ERROR):
        setup.far.send(*[text()] * 24)
        wait_until(lambda: setup.acknowledged() == 24)
    assert [type(record.exc_info[1]) for record in caplog.records if record.exc_info] == [ValueError, KeyError]


def test_ever_new_failures_are_not_all_logged(setup: Setup, caplog: pytest.LogCaptureFixture) -> None:
    many = FAILURES_APART + 8

    def fail(channel: PeerChannel, packet: pb.Packet) -> None:
        raise type("AnotherError", (Exception,), {})("oops")

    setup.owner.handlers["pure_message"] = fail
    with caplog.at_level(logging.ERROR):
        setup.far.send(*[text()] * many)
        wait_until(lambda: setup.acknowledged() == many)
    assert caplog.text.count("the callback for pure_message failed") == FAILURES_APART + 1


def test_one_that_does_not_want_a_packet_says_why(setup: Setup, caplog: pytest.LogCaptureFixture) -> None:
    def refuse(channel: PeerChannel, packet: pb.Packet) -> None:
        raise PacketRefusedError("that is too much", Reason.TOO_BIG)

    setup.owner.handlers["pure_message"] = refuse
    setup.far.send(text())
    wait_until(lambda: setup.acknowledged() == 1)
    assert setup.refused() == [(1, Reason.TOO_BIG.refusal_number)]
    assert setup.channel.counters == {"refused_by_callback": 1}
    assert not caplog.text


class WithoutReason(PacketRefusedError):
    """A refusal that never says why."""

    def __init__(self) -> None:
        Exception.__init__(self, "no")


@pytest.mark.parametrize("reason", [None, "too_big", 5])
@pytest.mark.parametrize("made", [True, False])
def test_one_that_refuses_for_no_reason_there_is_has_failed(
    setup: Setup, caplog: pytest.LogCaptureFixture, reason: Any, made: bool
) -> None:
    def refuse(channel: PeerChannel, packet: pb.Packet) -> None:
        raise PacketRefusedError("no", reason) if made else WithoutReason()

    setup.owner.handlers["pure_message"] = refuse
    setup.far.send(text())
    wait_until(lambda: setup.acknowledged() == 1)
    assert setup.refused() == [(1, Reason.HANDLER_FAILED.refusal_number)]
    assert setup.channel.counters == {"callback_failed": 1}
    assert "the callback for pure_message failed" in caplog.text


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()], ids=["exit", "interrupt"])
def test_one_that_ends_the_program_has_not_handled_its_packet_and_ends_it(setup: Setup, error: BaseException) -> None:
    def end(channel: PeerChannel, packet: pb.Packet) -> None:
        raise error

    setup.owner.handlers["pure_message"] = end
    setup.far.send(text())
    with pytest.raises(type(error)) as caught, gevent.Timeout(scaled(5)):
        Flag().wait()  # as the main greenlet of a program does
    assert caught.value is error
    # It was told before: nothing is certain after it.
    assert setup.refused() == [(1, Reason.HANDLER_FAILED.refusal_number)]
    del setup.owner.handlers["pure_message"]


def test_without_one_a_packet_is_not_handled(setup: Setup) -> None:
    seen = []
    setup.owner.packet_received.add(lambda channel, packet: seen.append(packet))
    del setup.owner.handlers["pure_message"]
    setup.far.send(text())
    wait_until(lambda: setup.acknowledged() == 1)
    assert len(seen) == 1
    assert setup.refused() == [(1, Reason.UNHANDLED.refusal_number)]
    assert setup.channel.counters == {"unhandled": 1}


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
    assert setup.parts.ownership.home.thread not in idents
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
