from __future__ import annotations

import pytest

from peernet.reasons import Reason
from peernet.trust.scores import MALFORMED, POINTS, RATE, Scores, address_key

MINUTE = 60.0


@pytest.mark.parametrize(
    ("host", "key"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("2001:db8:0:1ff::7", "2001:db8:0:100::/56"),
        ("2001:db8:0:100::", "2001:db8:0:100::/56"),
        ("fe80::1%eth0", "fe80::/56"),
        ("example.org", None),
        ("", None),
    ],
)
def test_an_address_stands_for_itself_or_for_the_network_of_one_customer(host: str, key: str | None) -> None:
    assert address_key(host) == key


def test_what_is_malformed_counts_at_once_and_what_is_too_much_counts_a_little() -> None:
    malformed = {Reason.BAD_PACKET, Reason.FRAME_TOO_BIG, Reason.UNEXPECTED_PACKET, Reason.ORIGIN_MISMATCH}
    too_much = {Reason.RATE_LIMITED, Reason.HANDSHAKE_FAILED, Reason.HANDSHAKE_TIMEOUT}
    assert dict.fromkeys(malformed, MALFORMED) | dict.fromkeys(too_much, RATE) == POINTS


def test_points_add_up_by_culprit() -> None:
    scores = Scores(10, decay=0)
    assert [scores.add("a", 10, now=number) for number in range(3)] == [10, 20, 30]
    assert (scores.get("a", 3), scores.get("b", 3)) == (30, 0)


def test_points_wear_off_evenly_down_to_none() -> None:
    scores = Scores(10, decay=2)
    scores.add("a", 10, now=100)
    assert scores.get("a", 100 + MINUTE) == pytest.approx(8)
    assert scores.get("a", 100 + 60 * MINUTE) == 0
    assert scores.add("a", 10, now=100 + 4 * MINUTE) == pytest.approx(12)


def test_a_clock_that_stands_still_or_goes_back_takes_no_points_away() -> None:
    scores = Scores(10, decay=1)
    scores.add("a", 10, now=100)
    assert (scores.get("a", 100), scores.get("a", 0)) == (10, 10)


def test_what_comes_too_soon_after_another_does_not_count_again() -> None:
    scores = Scores(10, decay=0)
    assert [scores.add("a", 10, now=now, apart=10) for now in (0, 5, 9.9, 10, 19, 20)] == [10, 10, 10, 20, 20, 30]


def test_a_culprit_that_is_forgotten_starts_again() -> None:
    scores = Scores(10, decay=0)
    scores.add("a", 90, now=0)
    scores.forget("a")
    scores.forget("nobody")
    assert scores.add("a", 10, now=0) == 10


def test_no_more_culprits_are_remembered_than_there_is_room_for() -> None:
    scores = Scores(3, decay=0)
    for number in range(1000):
        scores.add("steady", 1, now=number)
        scores.add(f"culprit {number}", 1, now=number)
        assert len(scores) <= 3
    assert scores.get("steady", 1000) == 1000
    assert scores.get("culprit 0", 1000) == 0
