"""The limits on instructions per message: what is counted becomes ratios, and ratios too high become complaints."""

from __future__ import annotations

import math

import pytest

from tools.bench.instructions import MESSAGES, PEERNET, Cost, Pair, costs_of, ratios, total_of
from tools.bench.runner import PairError
from tools.bench.systems import BARE
from tools.bench.targets import INSTRUCTION_LIMITS, LIMITS_BY_PYTHON, judge_instructions


@pytest.mark.parametrize("scenario", INSTRUCTION_LIMITS)
def test_a_ratio_at_its_limit_is_kept_and_one_above_it_is_not(scenario: str) -> None:
    limit = INSTRUCTION_LIMITS[scenario]
    assert judge_instructions({scenario: limit}) == []
    [complaint] = judge_instructions({scenario: limit + 0.001})
    assert complaint.startswith(f"{scenario}: ")


def test_each_ratio_is_judged_by_its_own_limit() -> None:
    too_high = {scenario: limit + 0.1 for scenario, limit in INSTRUCTION_LIMITS.items()}
    assert len(judge_instructions(too_high)) == len(INSTRUCTION_LIMITS)


def test_what_is_not_a_number_keeps_no_limit() -> None:
    assert judge_instructions({"rtt": math.nan})


def test_every_scenario_that_is_counted_has_a_limit() -> None:
    assert set(MESSAGES) == set(INSTRUCTION_LIMITS)


def test_every_python_has_limits_for_the_same_scenarios() -> None:
    assert INSTRUCTION_LIMITS in LIMITS_BY_PYTHON.values()
    assert {frozenset(limits) for limits in LIMITS_BY_PYTHON.values()} == {frozenset(MESSAGES)}


def test_start_and_end_cancel_and_three_times_the_messages_count_twice() -> None:
    few = MESSAGES["rtt"]
    totals = {
        Pair(BARE, "rtt", few): {"listen": 7_000_000 + few * 60_000, "dial": 9_000_000 + few * 40_000},
        Pair(BARE, "rtt", 3 * few): {"listen": 7_000_000 + 3 * few * 60_000, "dial": 9_000_000 + 3 * few * 40_000},
    }
    assert costs_of(totals) == {("rtt", BARE): Cost(listen=60.0, dial=40.0)}


def test_the_ratio_is_that_of_both_sides_together() -> None:
    costs = {
        ("rtt", BARE): Cost(listen=60.0, dial=40.0),
        ("rtt", PEERNET): Cost(listen=60.0, dial=90.0),
        ("small", BARE): Cost(listen=9.0, dial=11.0),
        ("small", PEERNET): Cost(listen=10.0, dial=20.0),
    }
    assert ratios(costs) == {"rtt": 1.5, "small": 1.5}


def test_the_total_is_read_from_what_callgrind_writes() -> None:
    assert total_of("version: 1\nevents: Ir\nsummary: 12\n\nfn=(1) main\n16 12\n\ntotals: 1234567\n") == 1234567


def test_a_file_without_a_total_is_an_error() -> None:
    with pytest.raises(PairError, match="counted nothing"):
        total_of("version: 1\nevents: Ir\n")
