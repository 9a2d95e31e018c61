from __future__ import annotations

import pytest

from peernet.switch.budget import FAR_OVER, PATIENCE, Budget, Holding, Verdict, without_repetitions

LIMIT = 1000


def holdings(*sizes: int, trusted: str = "") -> list[Holding[str]]:
    """Of channels that are named a, b, c and so on."""
    names = "abcdefghij"
    return [Holding(name, size, trusted=name in trusted) for name, size in zip(names, sizes, strict=False)]


def judged(*sizes: int, after: float = PATIENCE, trusted: str = "") -> Verdict[str]:
    """The verdict when the same channels have held the same for a while."""
    budget = Budget(LIMIT)
    budget.judge(holdings(*sizes, trusted=trusted), 100.0)
    return budget.judge(holdings(*sizes, trusted=trusted), 100.0 + after)


class TestGranting:
    def test_what_is_granted_counts_until_the_next_count(self) -> None:
        budget = Budget(LIMIT)
        assert [budget.grant(400) for _ in range(3)] == [True, True, False]
        assert budget.held == 800
        budget.count(100)
        assert [budget.grant(900), budget.grant(1)] == [True, False]

    def test_what_is_given_to_one_after_the_other_counts_once(self) -> None:
        budget, content, equal = Budget(LIMIT), bytes(bytearray(700)), bytes(bytearray(700))
        assert [budget.grant(710, [content]) for _ in range(10)] == [True] * 10
        assert budget.held == 710 + 9 * 10
        assert not budget.grant(710, [equal])

    def test_nothing_is_granted_while_too_much_is_held(self) -> None:
        budget = Budget(LIMIT)
        budget.judge(holdings(1001), 0.0)
        assert budget.exceeded
        assert not budget.grant(0)


class TestJudging:
    @pytest.mark.parametrize("sizes", [(), (1000,), (500, 500), (0, 0)])
    def test_within_the_limit_nothing_is_to_be_done(self, sizes: tuple[int, ...]) -> None:
        assert judged(*sizes) == Verdict()

    def test_who_holds_more_than_an_equal_share_is_crowding(self) -> None:
        assert judged(600, 250, 10, 251).crowding == ["a", "d"]

    def test_a_little_too_much_closes_nobody_however_long(self) -> None:
        assert judged(int(FAR_OVER * LIMIT), after=1e6).closed == []

    def test_far_too_much_closes_nobody_at_once(self) -> None:
        assert judged(2000, after=PATIENCE - 0.1).closed == []

    def test_the_largest_is_closed_first_and_no_more_than_needed(self) -> None:
        assert judged(300, 500, 400, 200).closed == ["b"]
        assert judged(300, 1500, 900, 200).closed == ["b", "c"]
        assert judged(2001, 2000).closed == ["a", "b"]

    def test_the_trusted_are_closed_last(self) -> None:
        assert judged(900, 300, 400, trusted="a").closed == ["c", "b"]
        assert judged(1100, 100, 200, trusted="a").closed == ["c", "b", "a"]

    def test_the_time_counts_from_when_it_became_too_much_again(self) -> None:
        budget = Budget(LIMIT)
        budget.judge(holdings(2000), 0.0)
        budget.judge(holdings(1100), PATIENCE)
        assert budget.judge(holdings(2000), PATIENCE + 1).closed == []
        budget.count(10)
        assert budget.judge(holdings(2000), 2 * PATIENCE).closed == []
        assert budget.judge(holdings(2000), 3 * PATIENCE).closed == ["a"]


class TestContents:
    def test_what_many_hold_takes_up_memory_once(self) -> None:
        shared, own = bytes(900), bytes(100)
        found = [Holding("a", 1000, [shared, own]), Holding("b", 950, [shared]), Holding("c", 920, [shared])]
        assert without_repetitions(found) == [400, 350, 320]
        budget = Budget(1100)
        assert budget.judge(found, 0.0) == Verdict()
        assert budget.held == 1070

    def test_equal_contents_of_two_are_two(self) -> None:
        found = [Holding("a", 900, [bytes(bytearray(900))]), Holding("b", 900, [bytes(bytearray(900))])]
        assert without_repetitions(found) == [900, 900]
