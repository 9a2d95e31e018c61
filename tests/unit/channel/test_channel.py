"""What happens to a channel while something else happens to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gevent
import pytest
from gevent.event import Event as Flag

from peernet.channel.channel import PeerChannel
from peernet.channel.state import ChannelState
from peernet.errors import ChannelClosedError, PingTimeout, RemoteProtocolError
from peernet.reasons import Reason
from peernet.v1 import packet_pb2 as pb
from peernet.wire.disconnect import disconnect_packet
from tests.support import scaled, wait_until
from tests.unit.channels import Setup, Setups, frame, text

OPEN, RECONNECTING, CLOSING, CLOSED = (
    ChannelState.OPEN,
    ChannelState.RECONNECTING,
    ChannelState.CLOSING,
    ChannelState.CLOSED,
)


class Busy:
    """A callback for texts that waits until the test lets it go on, and then does something more."""

    def __init__(self, setup: Setup, then: Callable[[PeerChannel], object] = lambda channel: None) -> None:
        self._setup = setup
        self._then = then
        self._busy, self._go_on = Flag(), Flag()
        setup.owner.handlers["pure_message"] = self

    def __call__(self, channel: PeerChannel, packet: pb.Packet) -> None:
        self._setup.heard.append(packet.pure_message.message)
        self._busy.set()
        self._go_on.wait()
        self._then(channel)

    def begin(self, *frames: bytes) -> None:
        """Have the channel call it."""
        self._setup.far.send(*frames or [text("one")])
        assert self._busy.wait(scaled(5))

    def go_on(self) -> None:
        self._go_on.set()


def send(channel: PeerChannel) -> Any:
    return channel.send(pb.PureMessagePacket(message="from a callback"))


class TestWhileACallbackRuns:
    def test_what_it_sends_after_the_loss_leaves_on_the_next_connection(self, setup: Setup) -> None:
        busy = Busy(setup, send)
        busy.begin()
        setup.lose_unread()
        busy.go_on()
        wait_until(lambda: setup.session.sent == 1)
        assert setup.reconnect()
        assert len(setup.far.wait_for("pure_message")) == 1

    def test_what_it_sends_on_the_next_connection_leaves_there_once(self, setup: Setup) -> None:
        busy = Busy(setup, send)
        busy.begin()
        setup.lose_unread()
        assert setup.reconnect()
        busy.go_on()
        assert len(setup.far.wait_for("pure_message")) == 1
        wait_until(lambda: setup.acknowledged() == 1)

    def test_several_connections_may_come_and_go(self, setup: Setup) -> None:
        busy = Busy(setup)
        busy.begin(text("one"), text("two"))
        for _ in range(3):
            setup.lose_unread()
            hello = setup.hello()
            assert hello.last_sequence_received == 1
            assert setup.reconnect(ours=hello)
            setup.far.send(text("two", sequence=2))
        busy.go_on()
        wait_until(lambda: setup.acknowledged() == 2)
        assert setup.heard == ["one", "two"]
        assert [far.transport.ended() for far in setup.far_ends] == [True, True, True, False]

    @pytest.mark.parametrize("reconnected", [False, True])
    def test_it_may_close_a_channel_that_has_lost_its_connection(self, setup: Setup, reconnected: bool) -> None:
        busy = Busy(setup, lambda channel: channel.close(Reason.SHUTDOWN))
        busy.begin(text("one"), text("two"))
        setup.lose_unread()
        if reconnected:
            setup.reconnect(ours=setup.hello())
            setup.far.send(text("two"))
        busy.go_on()
        if reconnected:
            assert setup.far.wait_for("disconnect")
            setup.far.transport.finish_writing()
        assert setup.channel.wait_closed(scaled(5))
        assert setup.channel.reason is Reason.SHUTDOWN
        assert setup.heard == ["one"]

    def test_the_channel_may_expire(self, setups: Setups) -> None:
        setup = setups(session_ttl=0.01, close_timeout=5)
        busy = Busy(setup, lambda channel: outcomes.append(channel.state))
        outcomes: list[ChannelState] = []
        busy.begin()
        setup.lose_unread()
        setup.channel.tick(setup.channel._expires_at)
        assert setup.channel.wait_closed(scaled(5))
        assert setup.channel.reason is Reason.EXPIRED
        busy.go_on()
        setup.running.join(timeout=scaled(5))
        assert outcomes == [CLOSED]

    def test_it_is_killed_if_it_still_runs_long_after_the_end(self, setup: Setup) -> None:
        busy = Busy(setup)
        busy.begin()
        setup.channel.end(Reason.SHUTDOWN)
        setup.running.join(timeout=scaled(5))
        assert setup.running.dead
        assert not setup.channel.counters["callback_failed"]


class TestClosing:
    def test_closing_twice_at_once_ends_both_with_the_first_reason(self, setup: Setup) -> None:
        closing = [gevent.spawn(setup.channel.close, reason) for reason in (Reason.SHUTDOWN, Reason.REJECTED)]
        told = [packet.disconnect.reason for packet in setup.far.wait_for("disconnect")]
        assert told == [Reason.SHUTDOWN.number]
        setup.far.transport.finish_writing()
        gevent.joinall(closing, timeout=scaled(5), raise_error=True)
        assert setup.channel.reason is Reason.SHUTDOWN
        assert setup.owner.events() == ["closed"]

    def test_closing_while_it_reconnects_says_nothing_and_ends_at_once(self, setup: Setup) -> None:
        receipt = send(setup.channel)
        setup.lose()
        setup.channel.close(Reason.SHUTDOWN)
        assert setup.channel.state is CLOSED
        assert receipt.reason is Reason.SHUTDOWN
        assert not setup.reconnect()
        with pytest.raises(ChannelClosedError):
            send(setup.channel)

    def test_what_was_told_as_failed_is_not_acknowledged_later(self, setup: Setup) -> None:
        """Frames that were read together with the one before the end still come."""
        told: list[bool] = []
        first, second = send(setup.channel), send(setup.channel)
        second.add_done_callback(lambda receipt: told.append(receipt.acknowledged))
        first.add_done_callback(lambda receipt: setup.channel.end(Reason.SHUTDOWN))
        closing = gevent.spawn(setup.channel.close, Reason.SHUTDOWN)
        gevent.sleep(0)
        setup.far.send(*(frame(pb.AcknowledgePacket(), acknowledged=number) for number in (1, 2)))
        closing.get(timeout=scaled(5))
        setup.running.join(timeout=scaled(5))
        assert told == [False]
        assert second.reason is Reason.SHUTDOWN
        assert not second.acknowledged

    def test_a_callback_for_the_goodbye_that_hangs_does_not_keep_close_waiting(self, setup: Setup) -> None:
        hanging = Flag()
        setup.owner.handlers["disconnect"] = lambda channel, packet: (hanging.set(), Flag().wait())
        setup.far.send(frame(disconnect_packet(Reason.SHUTDOWN)))
        assert hanging.wait(scaled(5))
        closing = gevent.spawn(setup.channel.close, timeout=0.01)
        closing.get(timeout=scaled(5))
        assert setup.channel.reason is Reason.SHUTDOWN
        assert setup.channel.ended_by_peer
        setup.running.join(timeout=scaled(5))
        assert setup.running.dead

    def test_one_that_returns_in_time_still_acknowledges(self, setup: Setup) -> None:
        busy, go_on = Flag(), Flag()
        setup.owner.handlers["disconnect"] = lambda channel, packet: (busy.set(), go_on.wait())
        setup.far.send(text(), frame(disconnect_packet(Reason.SHUTDOWN)))
        assert busy.wait(scaled(5))
        closing = gevent.spawn(setup.channel.close, timeout=60)
        gevent.sleep(0)
        go_on.set()
        wait_until(lambda: setup.acknowledged() == 1)
        setup.far.transport.finish_writing()
        closing.get(timeout=scaled(5))

    def test_whoever_waits_when_the_channel_ends_finds_the_connection_cut(self, setup: Setup) -> None:
        """A listener that takes its time keeps no peer connected."""
        ended: list[bool] = []
        setup.owner.hooks["closed"] = lambda channel: ended.append(setup.far.transport.ended())
        setup.channel.end(Reason.SHUTDOWN)
        assert ended == [True]

    def test_a_listener_that_is_interrupted_when_the_channel_ends_leaves_nothing_open(self, setup: Setup) -> None:
        def be_interrupted(channel: PeerChannel) -> None:
            raise gevent.Timeout(0)

        setup.owner.hooks["closed"] = be_interrupted
        with pytest.raises(gevent.Timeout):
            setup.channel.end(Reason.SHUTDOWN)
        setup.running.join(timeout=scaled(5))
        assert setup.running.dead
        assert setup.far.transport.ended()

    def test_whoever_has_dialled_is_not_killed_for_a_listener_that_takes_its_time(self) -> None:
        """Until the channel runs, it is in the hands of whoever connects: perhaps of the main greenlet."""
        setup = Setup(close_timeout=0.01, run=False)
        connecting = gevent.spawn(lambda: (setup.hold(), gevent.sleep(0.05), "alive")[-1])
        gevent.sleep(0)
        setup.channel.end(Reason.SHUTDOWN)
        assert connecting.get(timeout=scaled(5)) == "alive"
        setup.run()
        setup.running.join(timeout=scaled(5))
        assert setup.running.dead
        setup.end()

    def test_a_ping_ends_with_the_connection(self, setup: Setup) -> None:
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
        setup.channel.end(Reason.SHUTDOWN)
        assert isinstance(asking.get(timeout=scaled(5)), ChannelClosedError)


class TestAttaching:
    def test_a_connection_that_lives_gives_way(self, setup: Setup) -> None:
        older = setup.far
        assert setup.reconnect()
        assert older.transport.ended()
        assert setup.owner.events() == ["reconnecting"]
        setup.far.send(text())
        wait_until(lambda: setup.acknowledged() == 1)

    def test_a_peer_that_says_what_cannot_be_ends_the_channel(self, setup: Setup) -> None:
        setup.lose()
        with pytest.raises(RemoteProtocolError):
            setup.reconnect(received=1)
        assert setup.channel.state is CLOSED
        assert setup.channel.reason is Reason.BAD_PACKET

    @pytest.mark.parametrize("lost", [False, True])
    def test_a_connection_that_was_overtaken_by_another_is_not_taken(self, setup: Setup, lost: bool) -> None:
        """Its hellos say what was true before the other one, and cannot be true any more."""
        hello = setup.hello()
        receipt = send(setup.channel)
        setup.far.send(frame(pb.AcknowledgePacket(), acknowledged=1))
        assert receipt.wait(scaled(5)) is True
        if lost:
            setup.lose()
        assert not setup.reconnect(ours=hello)
        if lost:
            assert setup.reconnect(received=1)
        else:
            setup.far_ends[0].send(text())
            wait_until(lambda: setup.heard)
        assert setup.channel.state is OPEN

    def test_a_channel_that_ends_in_the_meantime_takes_no_connection(self, setup: Setup) -> None:
        setup.owner.hooks["reconnecting"] = lambda channel: channel.end(Reason.EXPIRED)
        assert not setup.reconnect()
        assert setup.channel.reason is Reason.EXPIRED

    def test_the_later_of_two_at_once_is_not_taken_if_it_finds_the_other_in_place(self, setup: Setup) -> None:
        def attach_another(channel: PeerChannel) -> None:
            del setup.owner.hooks["reconnecting"]
            assert setup.reconnect()

        setup.owner.hooks["reconnecting"] = attach_another
        assert not setup.reconnect()
        assert setup.channel.state is OPEN
        setup.far_ends[-1].send(text())
        wait_until(lambda: setup.heard)

    def test_what_is_lost_at_once_is_sent_again_on_the_next(self, setup: Setup) -> None:
        receipt = send(setup.channel)
        setup.far.send(text())
        wait_until(lambda: setup.session.handled == 1)
        for _ in range(3):
            setup.lose_unread()
            assert setup.reconnect()
        setup.far.wait_for("pure_message")
        assert setup.far.kinds() == ["acknowledge", "pure_message"]
        setup.far.send(frame(pb.AcknowledgePacket(), acknowledged=1))
        assert receipt.wait(scaled(5)) is True

    def test_a_connection_that_is_lost_before_anybody_reads_is_noticed(self, setup: Setup) -> None:
        busy = Busy(setup)
        busy.begin()
        setup.lose_unread()
        assert setup.reconnect()
        setup.far.transport.close()
        setup.channel._link.outbox.put(b"", b"x")  # which finds out
        busy.go_on()
        wait_until(lambda: setup.channel.state is RECONNECTING)

    def test_who_looks_for_life_on_a_connection_that_is_replaced_meanwhile_finds_it(self, setup: Setup) -> None:
        looking = gevent.spawn(setup.channel.shows_life, scaled(60))
        gevent.sleep(0)
        assert setup.reconnect()
        assert looking.get(timeout=scaled(5)) is True

    def test_who_looks_for_life_on_one_that_is_only_lost_finds_none(self, setup: Setup) -> None:
        looking = gevent.spawn(setup.channel.shows_life, scaled(60))
        gevent.sleep(0)
        setup.lose()
        assert looking.get(timeout=scaled(5)) is False


class TestLiveness:
    def test_a_silent_peer_loses_its_connection_and_may_resume(self, setup: Setup) -> None:
        setup.channel.tick(setup.channel.last_received + 31)
        assert setup.far.wait_for("disconnect")[0].disconnect.reason == pb.DISCONNECT_REASON_TIMEOUT
        wait_until(lambda: setup.channel.state is RECONNECTING)
        assert setup.reconnect()
        assert setup.channel.state is OPEN

    def test_without_a_session_it_ends(self, setups: Setups) -> None:
        setup = setups(session=False)
        setup.channel.tick(setup.channel.last_received + 31)
        assert setup.channel.wait_closed(scaled(5))
        assert setup.channel.reason is Reason.TIMEOUT

    def test_a_judgement_on_a_connection_that_was_replaced_does_not_count(self, setup: Setup) -> None:
        setup.channel.tick(setup.channel.last_received + 31)
        assert setup.reconnect()
        gevent.sleep(0.01)
        assert setup.channel.state is OPEN
        assert setup.owner.counters[Reason.TIMEOUT] == 0

    def test_the_time_of_a_session_does_not_run_while_this_process_cannot(self, setups: Setups) -> None:
        setup = setups(session_ttl=10)
        setup.lose()
        expires = setup.channel._expires_at
        setup.channel.tick(expires + 4, lag=5)
        gevent.sleep(0)
        assert setup.channel.state is RECONNECTING
        setup.channel.tick(expires + 5)
        assert setup.channel.wait_closed(scaled(5))
        assert setup.channel.reason is Reason.EXPIRED

    def test_a_session_that_is_resumed_just_before_it_expires_lives(self, setups: Setups) -> None:
        setup = setups(session_ttl=10)
        setup.lose()
        setup.channel.tick(setup.channel._expires_at)
        assert setup.reconnect()
        gevent.sleep(0.01)
        assert setup.channel.state is OPEN
