"""What failed dials mean, and the pauses between them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from peernet.config import NetworkConfig
from peernet.connections.retry import FINAL, Judgement, backoff, backoff_while_away, judge, judge_end
from peernet.errors import (
    AddressError,
    ConnectError,
    ConnectTimeout,
    IdentityMismatchError,
    PeerNetError,
    RefusedByPeerError,
    RefusedByPolicyError,
    SelfConnectionError,
)
from peernet.reasons import Reason
from peernet.runtime import rng

CONFIG = NetworkConfig(backoff_base=1, backoff_cap=4)


@pytest.mark.parametrize(
    ("error", "judgement"),
    [
        (ConnectError("nobody is there"), Judgement(passes_soon=True)),
        (ConnectTimeout("nobody answers"), Judgement()),
        (IdentityMismatchError("somebody else"), Judgement()),
        (RefusedByPeerError("full", Reason.BUSY, 3.0), Judgement(passes_soon=True, retry_after=3.0)),
        (
            RefusedByPeerError("full", Reason.BUSY, do_not_redial=True),
            Judgement(ends_session=Reason.BUSY, hopeless=True),
        ),
        (RefusedByPeerError("again?", Reason.DUPLICATE), Judgement()),
        (RefusedByPeerError("no", Reason.REJECTED), Judgement(ends_session=Reason.REJECTED)),
        (
            RefusedByPeerError("that is me", Reason.SELF_CONNECTION),
            Judgement(ends_session=Reason.SELF_CONNECTION, hopeless=True),
        ),
        (RefusedByPolicyError("no", "blocked_networks"), Judgement(ends_session=Reason.BLOCKED)),
        (RefusedByPolicyError("no", "allowed_identifiers"), Judgement(ends_session=Reason.NOT_ALLOWED)),
        (RefusedByPolicyError("we have one", Reason.DUPLICATE), Judgement()),
        (RefusedByPolicyError("we are leaving", Reason.SHUTDOWN), Judgement()),
        (SelfConnectionError("that is me"), Judgement(ends_session=Reason.SELF_CONNECTION, hopeless=True)),
        (AddressError("no address"), Judgement(ends_session=Reason.SESSION_LOST, hopeless=True)),
    ],
    ids=lambda value: str(value) if isinstance(value, PeerNetError) else "",
)
def test_what_a_failed_dial_means(error: PeerNetError, judgement: Judgement) -> None:
    assert judge(error) == judgement


@pytest.mark.parametrize("reason", sorted(FINAL))
def test_a_final_refusal_ends_a_session_with_its_reason(reason: Reason) -> None:
    assert judge(RefusedByPeerError("go away", reason)).ends_session is reason


@pytest.mark.parametrize(
    ("changes", "hopeless"),
    [
        ({}, False),
        ({"reason": None}, False),
        ({"reason": Reason.CLOSED}, True),
        ({"reason": Reason.CLOSED, "ended_by_peer": True}, False),
        ({"reason": Reason.SHUTDOWN, "ended_by_peer": True, "do_not_redial": True}, True),
    ],
)
def test_a_channel_that_one_of_the_two_wants_gone_stays_gone(changes: dict[str, Any], hopeless: bool) -> None:
    end = {"reason": Reason.EXPIRED, "ended_by_peer": False, "do_not_redial": False, "retry_after": 3.0}
    assert judge_end(SimpleNamespace(**(end | changes))) == Judgement(hopeless=hopeless, retry_after=3.0)


@pytest.mark.parametrize("reason", list(Reason))
def test_who_asks_not_to_be_dialled_again_is_not(reason: Reason) -> None:
    judgement = judge(RefusedByPeerError("no", reason, do_not_redial=True))
    assert judgement == Judgement(ends_session=reason, hopeless=True)


def test_pauses_grow_up_to_the_limit() -> None:
    pauses = [[backoff(CONFIG, failures) for _ in range(200)] for failures in (0, 1, 100)]
    assert [max(each) <= longest for each, longest in zip(pauses, (2, 4, 4), strict=True)] == [True] * 3
    assert min(map(min, pauses)) >= 1
    assert max(pauses[2]) > 2


def test_no_pause_is_shorter_than_the_peer_has_asked_for() -> None:
    assert backoff(CONFIG, 0, 30.0) == 30.0


@pytest.mark.parametrize(
    ("failures", "away", "longest"),
    [
        (0, 0.0, 1),
        (0, 100.0, 1),
        (1, 0.1, 10),
        (1, 100.0, 10),
        (4, 100.0, 16),
        (4, 12.0, 12),
        (9, 100.0, 60),
        (9, 9.0, 10),
    ],
)
def test_while_a_peer_is_away_no_pause_is_longer_than_its_absence_or_than_what_spreads_those_who_miss_it(
    failures: int, away: float, longest: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[float, float]] = []

    def uniform(least: float, most: float) -> float:
        asked.append((least, most))
        return most

    monkeypatch.setattr(rng, "uniform", uniform)
    assert backoff_while_away(NetworkConfig(backoff_base=1, backoff_cap=60), failures, away) == longest
    assert asked == [(0, longest)]


def test_no_pause_is_longer_than_the_cap() -> None:
    assert max(backoff_while_away(CONFIG, failures, 100.0) for failures in range(50)) <= CONFIG.backoff_cap


def test_failures_without_end_do_not_overflow() -> None:
    assert backoff(CONFIG, 100_000) <= 4
