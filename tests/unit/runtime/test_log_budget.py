from __future__ import annotations

import pytest

from peernet.runtime.log_budget import HOUR, LogSites, Site

HERE: Site = ("peernet.somewhere", 20, "somewhere.py", 1)
THERE: Site = ("peernet.somewhere", 20, "somewhere.py", 2)


def admit(sites: LogSites, now: float = 0.0, size: int = 10, site: Site = HERE) -> int:
    return sites.admit(site, now, lambda: size)


def test_a_place_may_log_as_much_as_its_budget_and_no_more() -> None:
    sites = LogSites(bytes_per_hour=100)
    assert [admit(sites) for _ in range(12)] == [0] * 10 + [1, 2]


def test_a_message_that_does_not_fit_any_more_ends_the_budget() -> None:
    sites = LogSites(bytes_per_hour=100)
    assert [admit(sites, size=size) for size in (60, 60, 1)] == [0, 1, 2]


def test_what_is_dropped_is_not_measured() -> None:
    sites = LogSites(bytes_per_hour=100)
    admit(sites, size=200)
    assert sites.admit(HERE, 0.0, lambda: pytest.fail("nobody needs to know")) == 2


def test_one_place_takes_nothing_from_another() -> None:
    sites = LogSites(bytes_per_hour=100)
    admit(sites, size=200)
    assert admit(sites, site=THERE) == 0


def test_the_next_hour_of_a_place_begins_an_hour_after_its_first_message() -> None:
    sites = LogSites(bytes_per_hour=100)
    assert admit(sites, now=5.0, size=100) == 0
    assert admit(sites, now=4.9 + HOUR) == 1
    assert sites.seconds_left(HERE, 4.5 + HOUR) == pytest.approx(0.5)
    assert admit(sites, now=5.0 + HOUR) == 0


def test_an_hour_that_has_ended_is_told_of_once() -> None:
    sites = LogSites(bytes_per_hour=100)
    for now in (0.0, 1.0, 2.0):
        admit(sites, now, size=90)
        admit(sites, now + 10, size=90, site=THERE)
    assert list(sites.settle(HOUR - 1)) == []
    assert list(sites.settle(HOUR)) == [(HERE, 2)]
    assert list(sites.settle(HOUR)) == []
    assert list(sites.settle(HOUR + 10)) == [(THERE, 2)]
    assert list(sites.settle(float("inf"))) == []


def test_an_hour_without_losses_is_not_worth_a_word() -> None:
    sites = LogSites(bytes_per_hour=100)
    admit(sites)
    assert list(sites.settle(float("inf"))) == []


def test_places_beyond_the_table_share_one_budget() -> None:
    sites = LogSites(bytes_per_hour=100, max_sites=3)
    counts = [admit(sites, size=50, site=("peernet", 20, "generated.py", line)) for line in range(100)]
    assert counts == [0] * 5 + list(range(1, 96))
    assert len(sites) == 4
