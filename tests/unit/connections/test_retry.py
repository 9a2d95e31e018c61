"""What a failed dial means, and how long to wait after it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from peernet.config import NetworkConfig
from peernet.connections.retry import Backoff, DialTurns, Outlook, Verdict, judge, judge_end
from peernet.errors import (
    AddressError,
    ConfigurationError,
    ConnectError,
    ConnectTimeout,
    IdentityMismatchError,
    PeerNetError,
    RefusedByPeerError,
    RefusedByPolicyError,
    SelfConnectionError,
    WrongThreadError,
)
from peernet.reasons import Reason
from peernet.runtime import rng

OUTLOOKS: list[tuple[PeerNetError, Outlook, Reason]] = [
    (ConnectError("nobody listens"), Outlook.SOON, Reason.SESSION_LOST),
    (ConnectTimeout("nobody answers"), Outlook.LATER, Reason.SESSION_LOST),
    (IdentityMismatchError("somebody else"), Outlook.LATER, Reason.SESSION_LOST),
    (SelfConnectionError("that is me"), Outlook.NEVER, Reason.SELF_CONNECTION),
    (RefusedByPolicyError("no", "blocked_identifiers"), Outlook.CHANGED, Reason.BLOCKED),
    (RefusedByPolicyError("no", "blocked_networks"), Outlook.CHANGED, Reason.BLOCKED),
    (RefusedByPolicyError("no", "allowed_identifiers"), Outlook.CHANGED, Reason.NOT_ALLOWED),
    (RefusedByPolicyError("we have one", Reason.DUPLICATE), Outlook.LATER, Reason.NOT_ALLOWED),
    (RefusedByPolicyError("we are leaving", Reason.SHUTDOWN), Outlook.LATER, Reason.NOT_ALLOWED),
    (ConfigurationError("not started"), Outlook.NEVER, Reason.SESSION_LOST),
    (AddressError("no address"), Outlook.NEVER, Reason.SESSION_LOST),
    (WrongThreadError("another thread"), Outlook.NEVER, Reason.SESSION_LOST),
]


@pytest.mark.parametrize(
    ("error", "outlook", "reason"), OUTLOOKS, ids=[getattr(one[0], "rule", type(one[0]).__name__) for one in OUTLOOKS]
)
def test_each_failure_has_its_outlook(error: PeerNetError, outlook: Outlook, reason: Reason) -> None:
    assert judge(error) == Verdict(outlook, reason)


UNTIL_SOMETHING_CHANGES = {
    Reason.BLOCKED,
    Reason.NOT_ALLOWED,
    Reason.REJECTED,
    Reason.WRONG_NETWORK,
    Reason.WRONG_VERSION,
    Reason.BANNED,
}


@pytest.mark.parametrize("reason", list(Reason))
def test_each_refusal_has_its_outlook(reason: Reason) -> None:
    expected = Outlook.CHANGED if reason in UNTIL_SOMETHING_CHANGES else Outlook.LATER
    expected = {Reason.BUSY: Outlook.SOON, Reason.SELF_CONNECTION: Outlook.NEVER}.get(reason, expected)
    assert judge(RefusedByPeerError("no", reason, retry_after=7.0)) == Verdict(expected, reason, 7.0)


@pytest.mark.parametrize("reason", list(Reason))
def test_who_asks_not_to_be_dialled_again_is_not(reason: Reason) -> None:
    verdict = judge(RefusedByPeerError("no", reason, do_not_redial=True))
    assert (verdict.outlook, verdict.reason) == (Outlook.NEVER, reason)


@pytest.mark.parametrize(
    ("outlook", "may_pass", "final", "hopeless"),
    [
        (Outlook.SOON, True, False, False),
        (Outlook.LATER, False, False, False),
        (Outlook.CHANGED, False, True, False),
        (Outlook.NEVER, False, True, True),
    ],
)
def test_each_asker_has_its_patience(outlook: Outlook, may_pass: bool, final: bool, hopeless: bool) -> None:
    verdict = Verdict(outlook, Reason.BUSY)
    assert (verdict.may_pass, verdict.final, verdict.hopeless) == (may_pass, final, hopeless)


@pytest.mark.parametrize(
    ("changes", "outlook"),
    [
        ({}, Outlook.LATER),
        ({"reason": None}, Outlook.LATER),
        ({"reason": Reason.CLOSED}, Outlook.NEVER),
        ({"reason": Reason.CLOSED, "ended_by_peer": True}, Outlook.LATER),
        ({"reason": Reason.SHUTDOWN, "ended_by_peer": True, "do_not_redial": True}, Outlook.NEVER),
    ],
)
def test_a_channel_that_one_of_the_two_wants_gone_stays_gone(changes: dict[str, Any], outlook: Outlook) -> None:
    end: dict[str, Any] = {"reason": Reason.EXPIRED, "ended_by_peer": False, "do_not_redial": False}
    verdict = judge_end(SimpleNamespace(**(end | {"retry_after": 3.0} | changes)))
    assert (verdict.outlook, verdict.retry_after) == (outlook, 3.0)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, float]]:
    """Between what every pause was drawn; each is the longest."""
    limits: list[tuple[float, float]] = []

    def uniform(least: float, most: float) -> float:
        limits.append((least, most))
        return most

    monkeypatch.setattr(rng, "uniform", uniform)
    return limits


Drawn = list[tuple[float, float]]


def failed(config: NetworkConfig, failures: int) -> Backoff:
    """What is left after so many failures."""
    backoff = Backoff(config)
    for _ in range(failures):
        backoff.fail()
    return backoff


def test_pauses_double_up_to_the_limit_and_none_is_shorter_than_the_base(drawn: Drawn) -> None:
    config = NetworkConfig(backoff_base=1, backoff_cap=4)
    assert [failed(config, failures).pause() for failures in (1, 2, 3, 100_000)] == [2, 4, 4, 4]
    assert {least for least, _ in drawn} == {1}


def test_a_pause_is_never_shorter_than_the_peer_has_asked_for(drawn: Drawn) -> None:
    backoff = failed(NetworkConfig(backoff_base=1, backoff_cap=4), 1)
    assert [backoff.pause(asked) for asked in (0.5, 2.5, 4_000_000)] == [2, 2.5, 4_000_000]


def test_a_lost_peer_is_waited_for_no_longer_than_it_has_been_away(drawn: Drawn) -> None:
    backoff = failed(NetworkConfig(backoff_base=1, backoff_cap=60), 4)
    assert [backoff.pause_of_lost(away) for away in (0, 0.5, 3, 16, 1000)] == [1, 1, 3, 16, 16]
    assert {least for least, _ in drawn} == {0}


def test_failures_without_end_do_not_overflow(drawn: Drawn) -> None:
    backoff = failed(NetworkConfig(), 100_000)
    assert (backoff.pause(), backoff.pause_of_lost(1e6)) == (60, 60)


def test_only_a_connection_that_was_healthy_for_a_while_makes_failures_forgotten() -> None:
    backoff = failed(NetworkConfig(healthy_after=60), 5)
    backoff.connected_for(59.9)
    assert backoff.failures == 5
    backoff.connected_for(60)
    assert backoff.failures == 0


def test_there_are_as_many_turns_as_may_be_dialled_at_once() -> None:
    turns = DialTurns(NetworkConfig(max_redials=3))
    assert [turns.acquire(blocking=False) for _ in range(4)] == [True, True, True, False]
