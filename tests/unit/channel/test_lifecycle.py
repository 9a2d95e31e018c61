"""Where a channel stands, and why it ends."""

from __future__ import annotations

from collections.abc import Callable

import gevent
import pytest

from peernet.channel.lifecycle import Lifecycle
from peernet.channel.state import TRANSITIONS, ChannelState
from peernet.errors import ChannelClosedError, LocalProtocolError
from peernet.reasons import Reason
from tests.support import scaled
from tests.unit.sample_peers import peer_at

PENDING, OPEN, RECONNECTING, CLOSING, CLOSED = ChannelState

Step = Callable[[Lifecycle], None]


def _open(one: Lifecycle) -> None:
    one.open(1.0)


def _lose(one: Lifecycle) -> None:
    one.lose(2.0)


def _close(one: Lifecycle) -> None:
    one.begin_closing(Reason.SHUTDOWN, "")


def _hear(one: Lifecycle) -> None:
    one.hear_goodbye(Reason.BUSY, "later", 3.0, do_not_redial=True)


# The shortest way to each state, and where each step leads.
WAYS: dict[ChannelState, list[Step]] = {
    PENDING: [],
    OPEN: [_open],
    RECONNECTING: [_open, _lose],
    CLOSING: [_open, _close],
    CLOSED: [Lifecycle.end],
}
STEPS: list[tuple[Step, ChannelState]] = [
    (_open, OPEN),
    (_lose, RECONNECTING),
    (Lifecycle.resume, OPEN),
    (_close, CLOSING),
    (_hear, CLOSING),
    (Lifecycle.end, CLOSED),
]


def lifecycle_in(state: ChannelState) -> Lifecycle:
    made = Lifecycle(peer_at())
    for step in WAYS[state]:
        step(made)
    assert made.state is state
    return made


@pytest.mark.parametrize("before", list(ChannelState))
@pytest.mark.parametrize(("take", "after"), STEPS, ids=[step.__name__ for step, _ in STEPS])
def test_a_step_is_taken_if_the_table_allows_it_and_else_changes_nothing(
    before: ChannelState, take: Step, after: ChannelState
) -> None:
    one = lifecycle_in(before)
    if after in TRANSITIONS[before]:
        take(one)
        assert one.state is after
    else:
        with pytest.raises(LocalProtocolError, match=f"a {before.value} channel cannot become {after.value}"):
            take(one)
        assert one.state is before


def test_packets_may_leave_while_it_is_open_and_only_then() -> None:
    assert [lifecycle_in(state).attached for state in ChannelState] == [state is OPEN for state in ChannelState]


def test_frames_count_while_it_is_open_from_the_moment_when_somebody_reads() -> None:
    one = lifecycle_in(OPEN)
    assert not one.reading
    one.begin_reading()
    assert one.reading
    one.lose(2.0)
    assert not one.reading
    one.resume()
    assert not one.reading  # a callback may still run that was read from the link before
    one.begin_reading()
    assert one.reading


@pytest.mark.parametrize("state", [PENDING, RECONNECTING, CLOSING, CLOSED])
def test_no_frame_counts_in_another_state(state: ChannelState) -> None:
    one = lifecycle_in(state)
    one.begin_reading()
    assert not one.reading


def test_the_moments_are_remembered() -> None:
    one = lifecycle_in(RECONNECTING)
    assert (one.opened_at, one.expires_at) == (1.0, 2.0)
    assert lifecycle_in(PENDING).opened_at is None


def test_what_a_goodbye_asks_for_is_remembered() -> None:
    one = lifecycle_in(OPEN)
    _hear(one)
    assert (one.reason, one.reason_text, one.ended_by_peer) == (Reason.BUSY, "later", True)
    assert (one.retry_after, one.do_not_redial) == (3.0, True)


def test_the_first_reason_is_the_cause() -> None:
    one = lifecycle_in(CLOSING)
    one.note_end(Reason.TIMEOUT, "too late", by_peer=True)
    one.end()
    assert (one.reason, one.reason_text, one.ended_by_peer) == (Reason.SHUTDOWN, "", False)


def test_without_a_reason_the_connection_was_lost() -> None:
    assert lifecycle_in(CLOSED).reason is Reason.CONNECTION_LOST


def test_the_end_wakes_everybody_who_waits_for_it() -> None:
    one = lifecycle_in(OPEN)
    waiting = [gevent.spawn(one.closed.wait) for _ in range(2)]
    gevent.sleep(0)
    one.end()
    assert all(greenlet.get(timeout=scaled(5)) for greenlet in waiting)


@pytest.mark.parametrize("step", [Lifecycle.resume, Lifecycle.end])
def test_every_move_wakes_who_waits_for_one(step: Step) -> None:
    one = lifecycle_in(RECONNECTING)
    waiting = gevent.spawn(one.wait_for_move)
    gevent.sleep(0)
    assert not waiting.dead
    step(one)
    waiting.get(timeout=scaled(5))


def test_what_cannot_be_sent_is_told_with_the_reason() -> None:
    assert isinstance(lifecycle_in(PENDING).closed_error(), LocalProtocolError)
    error = lifecycle_in(CLOSING).closed_error()
    assert isinstance(error, ChannelClosedError)
    assert error.reason is Reason.SHUTDOWN
    assert "aaaaaaaa" in str(error)


def test_the_label_names_the_peer_and_the_state() -> None:
    assert lifecycle_in(RECONNECTING).label == "<PeerChannel aaaaaaaa 192.0.2.1:4000 reconnecting>"
