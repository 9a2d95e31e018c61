"""Reading from one link after the other, while callbacks outlive theirs."""

from __future__ import annotations

import pytest

from peernet.channel.state import ChannelState
from peernet.reasons import Reason
from tests.support import scaled, wait_until
from tests.unit.channels import Busy, Setup, Setups, text

OPEN, RECONNECTING, CLOSED = ChannelState.OPEN, ChannelState.RECONNECTING, ChannelState.CLOSED


def test_what_it_sends_after_the_loss_leaves_on_the_next_connection(setup: Setup) -> None:
    busy = Busy(setup, lambda channel: setup.send())
    busy.begin()
    setup.lose_unread()
    busy.go_on()
    wait_until(lambda: setup.session.sent == 1)
    assert setup.reconnect()
    assert len(setup.far.wait_for("pure_message")) == 1


def test_what_it_sends_on_the_next_connection_leaves_there_once(setup: Setup) -> None:
    busy = Busy(setup, lambda channel: setup.send())
    busy.begin()
    setup.lose_unread()
    assert setup.reconnect()
    busy.go_on()
    assert len(setup.far.wait_for("pure_message")) == 1
    wait_until(lambda: setup.acknowledged() == 1)


def test_several_connections_may_come_and_go(setup: Setup) -> None:
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
def test_it_may_close_a_channel_that_has_lost_its_connection(setup: Setup, reconnected: bool) -> None:
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


def test_the_channel_may_expire(setups: Setups) -> None:
    setup = setups(session_ttl=0.01, close_timeout=5)
    busy = Busy(setup, lambda channel: outcomes.append(channel.state))
    outcomes: list[ChannelState] = []
    busy.begin()
    setup.lose_unread()
    setup.control.tick(setup.parts.lifecycle.expires_at)
    assert setup.channel.wait_closed(scaled(5))
    assert setup.channel.reason is Reason.EXPIRED
    busy.go_on()
    assert setup.ends()
    assert outcomes == [CLOSED]


def test_it_is_killed_if_it_still_runs_long_after_the_end(setup: Setup) -> None:
    busy = Busy(setup)
    busy.begin()
    setup.control.end(Reason.SHUTDOWN)
    assert setup.ends()
    assert not setup.channel.counters["callback_failed"]
