from __future__ import annotations

from peernet.channel.state import TRANSITIONS, ChannelState

PENDING, OPEN, RECONNECTING, CLOSING, CLOSED = ChannelState


def test_the_table_holds_exactly_the_specified_transitions() -> None:
    specified = {
        PENDING: {OPEN, CLOSING, CLOSED},
        OPEN: {RECONNECTING, CLOSING, CLOSED},
        RECONNECTING: {OPEN, CLOSED},
        CLOSING: {CLOSED},
        CLOSED: set(),
    }
    assert specified == TRANSITIONS


def test_every_state_is_reachable_and_only_closed_is_final() -> None:
    reached = {PENDING}
    while more := {after for state in reached for after in TRANSITIONS[state]} - reached:
        reached |= more
    assert reached == set(ChannelState)
    assert [state for state, following in TRANSITIONS.items() if not following] == [CLOSED]


def test_only_an_open_channel_comes_back_so_that_every_life_ends() -> None:
    order = list(ChannelState)
    backwards = {
        (state, after)
        for state, following in TRANSITIONS.items()
        for after in following
        if order.index(after) < order.index(state)
    }
    assert backwards == {(RECONNECTING, OPEN)}
