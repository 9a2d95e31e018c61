"""Callbacks that fail, callbacks that block, and native threads: none of them hurts the channel or its neighbours."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import gevent
import pytest

from peernet import IncomingPeerTrustPolicy, InThreadpool, PacketHandleProtocol, PeerNetwork
from peernet.channel.callbacks import FAILING
from peernet.channel.link import LONG
from peernet.errors import ConfigurationError, DeliveryFailed, WrongThreadError
from peernet.reasons import Reason
from peernet.runtime.log_budget import BYTES_PER_HOUR
from peernet.v1.packet_pb2 import IdentifierPacket
from tests.integration.meetings import Meeting, Networks, config, meet, text
from tests.support import Recorder, scaled, wait_until

OPEN = IncomingPeerTrustPolicy(allow_enhanced_packet_exchange=True)


def send_and_wait(meeting: Meeting, *messages: Any) -> None:
    """Have Bob handle messages. Those that are bad he does not, and says so."""
    receipts = [meeting.to_bob.send(message) for message in messages]
    for message, receipt in zip(messages, receipts, strict=True):
        wait_until(lambda: receipt.done, 10)  # noqa: B023  # is asked at once
        bad = getattr(message, "message", "") == "bad"
        assert receipt.reason is (Reason.HANDLER_FAILED if bad else None)


def fail_on_bad(channel: Any, packet: Any) -> None:
    """A callback that does not like everything."""
    if packet.pure_message.message == "bad":
        raise ValueError("no good")


def in_thread(function: Callable[[], Any]) -> Any:
    """What a native thread that calls a function gets: its value, or the error that it raises."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append(function())
        except Exception as error:
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    wait_until(lambda: not thread.is_alive(), what="the thread")
    return outcome[0]


class TestFailing:
    def test_twenty_failures_in_a_row_are_an_event(self, networks: Networks) -> None:
        meeting, failing = meet(networks), Recorder()
        meeting.bob.handlers["pure_message"] = fail_on_bad
        meeting.bob.handler_failing.add(failing)
        send_and_wait(meeting, *[text("bad")] * (FAILING - 1))
        assert len(failing) == 0
        send_and_wait(meeting, *[text("bad")] * FAILING)
        [(channel, kind, error)] = failing.calls
        assert (channel, kind, str(error)) == (meeting.to_alice, "pure_message", "no good")
        assert meeting.bob.counters["handler_failing"] == 1
        assert meeting.to_alice.counters["callback_failed"] == 2 * FAILING - 1
        send_and_wait(meeting, text("good"))  # the channel lives

    def test_a_success_begins_a_new_row(self, networks: Networks) -> None:
        meeting, failing = meet(networks), Recorder()
        meeting.bob.handlers["pure_message"] = fail_on_bad
        meeting.bob.handler_failing.add(failing)
        row = [text("bad")] * (FAILING - 1)
        send_and_wait(meeting, *row, text("good"), *row, text("good"))
        assert len(failing) == 0
        send_and_wait(meeting, *row, text("bad"), text("good"), *row, text("bad"))
        assert len(failing) == 2

    def test_a_callback_for_another_kind_does_not_hide_it(self, networks: Networks) -> None:
        meeting, failing = meet(networks, policy=OPEN), Recorder()
        meeting.bob.handlers["pure_message"] = fail_on_bad
        meeting.bob.handler_failing.add(failing)
        send_and_wait(meeting, *[text("bad"), IdentifierPacket()] * FAILING)
        assert len(failing) == 1

    @pytest.mark.stress
    def test_a_hundred_thousand_failures_cost_neither_the_channel_nor_the_disk(
        self, networks: Networks, caplog: pytest.LogCaptureFixture
    ) -> None:
        meeting = meet(networks, config=config(untrusted_frame_rate=0))  # as fast as they can
        meeting.bob.handlers["pure_message"] = fail_on_bad
        with caplog.at_level(logging.DEBUG):
            bad = text("bad")
            for _ in range(100_000):
                receipt = meeting.to_bob.send(bad)
            with pytest.raises(DeliveryFailed):
                receipt.wait(scaled(30))
        assert meeting.bob.counters["callback_failed"] == 100_000
        assert len(caplog.text) < BYTES_PER_HOUR
        assert "no good" in caplog.text
        assert meeting.to_bob.ping(scaled(5)) > 0


class Hall:
    """A callback that keeps a native thread until the test lets it go."""

    def __init__(self) -> None:
        self.entered: list[str] = []
        self.open = threading.Event()

    def __call__(self, channel: Any, packet: Any) -> None:
        self.entered.append(packet.pure_message.message)
        self.open.wait(60)


@contextmanager
def hall() -> Iterator[Hall]:
    made = Hall()
    try:
        yield made
    finally:
        made.open.set()


class TestInThreadpool:
    def test_a_callback_that_blocks_holds_up_its_own_channel_only(self, networks: Networks) -> None:
        meeting, heard = meet(networks, policy=OPEN), Recorder()
        carol = networks(listen=[])
        with hall() as busy:
            meeting.bob.handlers["pure_message"] = InThreadpool(busy)
            meeting.to_bob.send(text("one"))
            meeting.to_bob.send(text("two"))
            wait_until(lambda: busy.entered)
            to_bob = carol.connect(meeting.bob.addresses[0])
            meeting.bob.handlers["identifier"] = heard
            to_bob.send(IdentifierPacket())
            heard.wait_for(1)
            assert busy.entered == ["one"]
        wait_until(lambda: busy.entered == ["one", "two"])

    def test_the_order_of_the_packets_is_kept(self, networks: Networks) -> None:
        meeting = meet(networks)
        seen: list[tuple[str, bool]] = []
        main = threading.get_ident()

        @meeting.bob.handlers.on("pure_message", threadpool=True)
        def callback(channel: Any, packet: Any) -> None:
            time.sleep(0.001 if len(seen) % 3 else 0)
            seen.append((packet.pure_message.message, threading.get_ident() != main))

        send_and_wait(meeting, *(text(str(number)) for number in range(100)))
        assert seen == [(str(number), True) for number in range(100)]

    def test_what_it_raises_is_counted_and_logged_like_any_other(
        self, networks: Networks, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
    ) -> None:
        meeting, failing = meet(networks), Recorder()
        meeting.bob.handlers["pure_message"] = InThreadpool(fail_on_bad)
        meeting.bob.handler_failing.add(failing)
        send_and_wait(meeting, *[text("bad")] * FAILING, text("good"))
        assert len(failing) == 1
        assert "in fail_on_bad" in caplog.text
        assert capfd.readouterr().err == ""  # gevent prints what escapes a task of its threads

    def test_it_answers_through_its_network(self, networks: Networks) -> None:
        meeting, answers = meet(networks), Recorder()

        @meeting.bob.handlers.on("pure_message", threadpool=True)
        def callback(channel: Any, packet: Any) -> None:
            meeting.bob.call_soon(channel.send, text(packet.pure_message.message.upper()))

        meeting.alice.handlers["pure_message"] = answers
        meeting.to_bob.send(text("hello"))
        answers.wait_for(1)
        assert answers.packets[0].pure_message.message == "HELLO"

    def test_one_that_hangs_keeps_neither_close_nor_stop_waiting(self, networks: Networks) -> None:
        meeting = meet(networks)
        with hall() as busy:
            meeting.bob.handlers["pure_message"] = InThreadpool(busy)
            meeting.to_bob.send(text("one"))
            wait_until(lambda: busy.entered)
            with gevent.Timeout(scaled(10)):
                meeting.to_alice.close()
                meeting.bob.stop()
            assert not meeting.bob.running
            # The leak check of this test sees that the greenlet of the callback ends as well.

    def test_one_that_waits_for_a_thread_while_its_channel_ends_is_not_called(self, networks: Networks) -> None:
        meeting = meet(networks, config=config(callback_threads=1, session_ttl=0))
        others = [networks(listen=[]) for _ in range(3)]
        with hall() as busy:
            meeting.bob.handlers["pure_message"] = InThreadpool(busy)
            meeting.to_bob.send(text("one"))
            wait_until(lambda: busy.entered)
            for other in others:
                other.connect(meeting.bob.addresses[0]).send(text("too late"))
            wait_until(lambda: sum(one.received for one in meeting.bob.active_peer_channels) == 4)
            with gevent.Timeout(scaled(10)):
                meeting.bob.stop(0.5)
        gevent.sleep(0.05)  # in which a thread would take the next task
        assert busy.entered == ["one"]

    def test_a_network_that_is_started_again_has_threads_again(self, networks: Networks) -> None:
        meeting, handled = meet(networks), Recorder()
        meeting.bob.handlers["pure_message"] = InThreadpool(handled)
        send_and_wait(meeting, text("one"))
        meeting.bob.stop()
        meeting.bob.start()
        meeting.alice.connect(meeting.bob.addresses[0]).send(text("two")).wait(scaled(5))
        assert [packet.pure_message.message for packet in handled.packets] == ["one", "two"]


class TestTakingLong:
    def test_a_callback_that_blocks_everybody_is_named(
        self, networks: Networks, caplog: pytest.LogCaptureFixture
    ) -> None:
        meeting = meet(networks)
        meeting.bob.handlers["pure_message"] = lambda channel, packet: time.sleep(LONG * 1.5)
        send_and_wait(meeting, text("one"))
        wait_until(lambda: "let nothing else run" in caplog.text)
        assert "<lambda>" in caplog.text
        assert "or what ran while it waited" not in caplog.text

    def test_one_that_only_waited_for_the_culprit_is_not_accused_alone(
        self, networks: Networks, caplog: pytest.LogCaptureFixture
    ) -> None:
        meeting = meet(networks)

        def block() -> None:
            gevent.sleep(0.01)
            time.sleep(LONG * 1.5)

        @meeting.bob.handlers.on("pure_message")
        def innocent(channel: Any, packet: Any) -> None:
            channel.spawn(block)
            channel.spawn(time.sleep, 0.05)  # so that both that sleep are woken in the same pass of the loop
            gevent.sleep(0.02)

        send_and_wait(meeting, text("one"))
        wait_until(lambda: "let nothing else run" in caplog.text)
        assert "innocent" in caplog.text
        assert "or what ran while it waited" in caplog.text


class TestOtherThreads:
    @pytest.mark.parametrize(
        "method",
        [
            lambda channel: channel.send(text("hello")),
            lambda channel: channel.try_send(text("hello")),
            lambda channel: channel.close(),
            lambda channel: channel.ping(),
            lambda channel: channel.wait_closed(),
            lambda channel: channel.spawn(print),
        ],
        ids=["send", "try_send", "close", "ping", "wait_closed", "spawn"],
    )
    def test_a_channel_refuses_to_be_used_there(self, networks: Networks, method: Callable[[Any], Any]) -> None:
        meeting = meet(networks)
        meeting.bob.handlers["pure_message"] = Recorder()
        error = in_thread(lambda: method(meeting.to_bob))
        assert isinstance(error, WrongThreadError)
        assert "network.call_soon(channel.send, message)" in str(error)
        send_and_wait(meeting, text("still works"))

    def test_a_broadcast_there_reaches_nobody_and_says_so(self, networks: Networks) -> None:
        meeting = meet(networks)
        error = in_thread(lambda: meeting.alice.broadcast(text("hello")))
        assert isinstance(error, WrongThreadError)
        assert meeting.to_alice.received == 0

    def test_call_soon_works_there(self, networks: Networks) -> None:
        meeting, heard = meet(networks), Recorder()
        meeting.bob.handlers["pure_message"] = heard

        def send_some() -> None:
            for number in range(100):
                meeting.alice.call_soon(meeting.to_bob.send, text(str(number)))

        assert in_thread(send_some) is None
        heard.wait_for(100)
        assert [packet.pure_message.message for packet in heard.packets] == [str(number) for number in range(100)]

    def test_what_is_called_soon_and_fails_is_logged(
        self, networks: Networks, caplog: pytest.LogCaptureFixture
    ) -> None:
        network = networks()
        network.call_soon(lambda: 1 / 0)
        wait_until(lambda: "ZeroDivisionError" in caplog.text)

    def test_nothing_is_called_soon_by_a_network_that_is_not_started(self, networks: Networks) -> None:
        network = networks()
        network.stop()
        with pytest.raises(ConfigurationError, match="call start"):
            network.call_soon(print)


async def coroutine() -> None: ...


def generator() -> Iterator[int]:
    yield 5


@pytest.mark.parametrize("function", [coroutine, generator, None])
def test_what_would_run_nothing_when_called_is_neither_spawned_nor_called_soon(
    networks: Networks, function: Any
) -> None:
    meeting = meet(networks)
    for run in (meeting.to_bob.spawn, meeting.alice.call_soon):
        with pytest.raises(ConfigurationError, match=rf"^what {run.__name__} runs must be "):
            run(function)


@pytest.mark.parametrize("whose", ["network", "channel"])
def test_callbacks_can_be_replaced_and_joined_while_the_network_runs(networks: Networks, whose: str) -> None:
    meeting = meet(networks)
    owner: Any = meeting.bob if whose == "network" else meeting.to_alice
    first, second = Recorder(), Recorder()
    owner.handlers = PacketHandleProtocol(pure_message=first)
    meeting.to_bob.send(text("first")).wait(scaled(5))
    owner.handlers |= {"pure_message": second}
    meeting.to_bob.send(text("second")).wait(scaled(5))
    assert [packet.pure_message.message for packet in [*first.packets, *second.packets]] == ["first", "second"]
    with pytest.raises(ConfigurationError, match="is not a kind of packet"):
        owner.handlers |= {"pure_mesage": second}


def test_a_plain_dict_of_callbacks_is_refused(networks: Networks) -> None:
    meeting = meet(networks)
    with pytest.raises(ConfigurationError, match="PacketHandleProtocol, which can be made of a dict, not dict"):
        PeerNetwork(handlers={"pure_message": print})  # type: ignore[arg-type]
    for owner in (meeting.bob, meeting.to_alice):
        before: Any = owner.handlers
        with pytest.raises(ConfigurationError, match="must be a PacketHandleProtocol"):
            owner.handlers = {"pure_message": print}  # type: ignore[assignment]
        assert owner.handlers is before
