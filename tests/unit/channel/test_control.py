"""What the network does with a channel while something else happens to it."""

from __future__ import annotations

import gevent
import pytest

from peernet.channel.channel import PeerChannel
from peernet.channel.state import ChannelState
from peernet.errors import RemoteProtocolError
from peernet.reasons import Reason
from peernet.v1 import packet_pb2 as pb
from tests.support import scaled, wait_until
from tests.unit.channels import Busy, Setup, Setups, frame, text

OPEN, RECONNECTING, CLOSED = ChannelState.OPEN, ChannelState.RECONNECTING, ChannelState.CLOSED


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
        receipt = setup.send()
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
        setup.owner.hooks["reconnecting"] = lambda channel: setup.control.end(Reason.EXPIRED)
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
        receipt = setup.send()
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
        setup.link.outbox.put(b"", b"x")  # which finds out
        busy.go_on()
        wait_until(lambda: setup.channel.state is RECONNECTING)

    def test_who_looks_for_life_on_a_connection_that_is_replaced_meanwhile_finds_it(self, setup: Setup) -> None:
        looking = gevent.spawn(setup.control.shows_life, scaled(60))
        gevent.sleep(0)
        assert setup.reconnect()
        assert looking.get(timeout=scaled(5)) is True

    def test_who_looks_for_life_on_one_that_is_only_lost_finds_none(self, setup: Setup) -> None:
        looking = gevent.spawn(setup.control.shows_life, scaled(60))
        gevent.sleep(0)
        setup.lose()
        assert looking.get(timeout=scaled(5)) is False


class TestLiveness:
    def test_a_silent_peer_loses_its_connection_and_may_resume(self, setup: Setup) -> None:
        setup.control.tick(setup.channel.last_received + 31)
        assert setup.far.wait_for("disconnect")[0].disconnect.reason == pb.DISCONNECT_REASON_TIMEOUT
        wait_until(lambda: setup.channel.state is RECONNECTING)
        assert setup.reconnect()
        assert setup.channel.state is OPEN

    def test_without_a_session_it_ends(self, setups: Setups) -> None:
        setup = setups(session=False)
        setup.control.tick(setup.channel.last_received + 31)
        assert setup.channel.wait_closed(scaled(5))
        assert setup.channel.reason is Reason.TIMEOUT

    def test_a_judgement_on_a_connection_that_was_replaced_does_not_count(self, setup: Setup) -> None:
        setup.control.tick(setup.channel.last_received + 31)
        assert setup.reconnect()
        gevent.sleep(0.01)
        assert setup.channel.state is OPEN
        assert setup.owner.counters[Reason.TIMEOUT] == 0

    def test_the_time_of_a_session_does_not_run_while_this_process_cannot(self, setups: Setups) -> None:
        setup = setups(session_ttl=10)
        setup.lose()
        expires = setup.parts.lifecycle.expires_at
        setup.control.tick(expires + 4, lag=5)
        gevent.sleep(0)
        assert setup.channel.state is RECONNECTING
        setup.control.tick(expires + 5)
        assert setup.channel.wait_closed(scaled(5))
        assert setup.channel.reason is Reason.EXPIRED

    def test_a_session_that_is_resumed_just_before_it_expires_lives(self, setups: Setups) -> None:
        setup = setups(session_ttl=10)
        setup.lose()
        setup.control.tick(setup.parts.lifecycle.expires_at)
        assert setup.reconnect()
        gevent.sleep(0.01)
        assert setup.channel.state is OPEN
