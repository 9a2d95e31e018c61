"""How often an address is dialled that holds no connection."""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest

from peernet.config import NetworkConfig
from peernet.connections.dial_history import REMEMBERED, DialHistory
from peernet.reasons import Reason

WHERE = ("192.0.2.1", 4000)


@pytest.fixture
def history() -> DialHistory:
    return DialHistory(NetworkConfig())


def dials(history: DialHistory, until: float, where: tuple[str, int] = WHERE) -> list[float]:
    """When an address is dialled by somebody who dials as soon as he may."""
    now, dialled = 0.0, []
    while now < until:
        left = history.time_left(where, now)
        if not left:
            history.note_dial(where, now)
            dialled.append(now)
        now += left or 1e-6
    return dialled


def test_an_address_that_was_not_dialled_may_be_dialled_now(history: DialHistory) -> None:
    assert history.time_left(WHERE, 0.0) == 0
    assert history.failures(WHERE) == 0


def test_no_two_dials_are_closer_than_a_second_and_no_eleven_within_thirty(history: DialHistory) -> None:
    moments = dials(history, 200.0)
    assert min(later - earlier for earlier, later in pairwise(moments)) >= 1.0
    assert all(later - earlier > 30 for earlier, later in zip(moments, moments[10:], strict=False))
    assert len(moments) == 70  # ten in each 31 seconds


@pytest.mark.parametrize(("redial_interval", "interval"), [(0.1, 0.1), (30.0, 1.0)])
def test_the_interval_is_that_of_redials_if_it_is_shorter(redial_interval: float, interval: float) -> None:
    history = DialHistory(NetworkConfig(redial_interval=redial_interval))
    history.note_dial(WHERE, 0.0)
    assert history.time_left(WHERE, 0.0) == pytest.approx(1.2 * interval)


def test_addresses_are_counted_apart(history: DialHistory) -> None:
    dials(history, 100.0)
    assert len(dials(history, 0.5, ("192.0.2.2", 4000))) == 1


def connection(**changes: Any) -> Any:
    """A connection of no use: lost as soon as it was made, a moment after the dial."""
    usual: dict[str, Any] = {
        "dialled": True,
        "peer": SimpleNamespace(address=WHERE[0], port=WHERE[1]),
        "connected_at": 0.1,
        "last_received": 0.1,
        "progressed": False,
        "reason": None,
        "ended_by_peer": False,
    }
    return SimpleNamespace(**(usual | changes))


@pytest.mark.parametrize(
    ("changes", "held"),
    [
        ({}, False),
        ({"last_received": 60.0}, False),
        ({"last_received": 60.1}, True),
        ({"progressed": True}, True),
        ({"progressed": True, "dialled": False}, False),
        ({"reason": Reason.CLOSED}, True),
        ({"reason": Reason.SHUTDOWN}, True),
        ({"reason": Reason.CLOSED, "ended_by_peer": True}, False),
        ({"reason": Reason.BAD_PACKET}, False),
        ({"reason": Reason.REJECTED, "ended_by_peer": True, "last_received": 100.0}, False),
        ({"reason": Reason.DECISION_TIMEOUT, "ended_by_peer": True, "last_received": 100.0}, False),
    ],
)
def test_only_a_connection_that_has_held_makes_up_for_failures(
    history: DialHistory, changes: dict[str, Any], held: bool
) -> None:
    history.note_dial(WHERE, 0.0)
    history.note_end(connection(**changes))
    assert (history.failures(WHERE) == 0) == held
    assert (history.time_left(WHERE, 0.2) == 0) == held


def test_an_end_that_is_told_again_after_dials_in_vain_makes_up_for_none(history: DialHistory) -> None:
    history.note_dial(WHERE, 0.0)
    history.note_end(connection(progressed=True))
    history.note_dial(WHERE, 1.0)
    history.note_end(connection(progressed=True, reason=Reason.EXPIRED))
    assert history.failures(WHERE) == 1


def test_a_peer_that_is_there_although_a_dial_has_failed_is_forgiven(history: DialHistory) -> None:
    history.note_dial(WHERE, 0.0)
    history.forgive(WHERE)
    assert history.time_left(WHERE, 0.0) == 0


def test_what_nobody_has_dialled_can_be_forgiven_and_can_end(history: DialHistory) -> None:
    history.forgive(WHERE)
    history.note_end(connection())
    history.note_name(WHERE, ("192.0.2.2", 4000))
    assert len(history) == 0


def test_a_name_and_what_it_stands_for_are_one_address(history: DialHistory) -> None:
    name = ("node.example", 4000)
    history.note_dial(WHERE, 0.0)
    history.note_dial(name, 5.0)
    history.note_name(name, WHERE)
    assert [history.failures(name), history.failures(WHERE)] == [2, 2]
    assert history.time_left(WHERE, 5.0) == history.time_left(name, 5.0) == pytest.approx(1.2)
    history.note_name(name, WHERE)
    assert history.failures(name) == 2
    history.note_end(connection(progressed=True, connected_at=5.1))
    assert history.time_left(name, 5.2) == 0


def test_the_dials_of_a_name_and_of_what_it_stands_for_keep_their_order(history: DialHistory) -> None:
    name = ("node.example", 4000)
    for moment in range(10):
        history.note_dial(WHERE, moment)
        history.note_dial(name, moment + 0.5)
    history.note_name(name, WHERE)
    assert history.time_left(WHERE, 10.0) == 5.0 + 31 - 10  # the tenth last was at 5.0


def test_only_so_many_addresses_are_remembered(history: DialHistory) -> None:
    for port in range(REMEMBERED + 10):
        history.note_dial(("192.0.2.1", port), 0.0)
    assert len(history) == REMEMBERED
    assert history.failures(("192.0.2.1", 9)) == 0
    assert history.failures(("192.0.2.1", REMEMBERED)) == 1


def test_names_and_what_they_lead_to_count_for_that_as_well(history: DialHistory) -> None:
    for port in range(REMEMBERED):
        history.note_dial(("a.example", port), 0.0)
        history.note_name(("a.example", port), ("192.0.2.1", port))
    assert len(history) == REMEMBERED
    assert history.failures(("a.example", REMEMBERED - 1)) == history.failures(("192.0.2.1", REMEMBERED - 1)) == 1
