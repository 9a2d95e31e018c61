"""Who gives way when two peers dial each other. The same scenes are looked at from both sides."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from peernet.connections.tiebreak import Claim, TieBreak

SMALL, LARGE, THIRD = "aaaa", "bbbb", "cccc"


def small() -> TieBreak:
    """Those of the node that decides."""
    return TieBreak(SMALL)


def large() -> TieBreak:
    """Those of the other one."""
    return TieBreak(LARGE)


DIALLED, ANSWERED = TieBreak.dial, TieBreak.answer
Move = Callable[[TieBreak, str], Claim | None]


# What a node may do while it has done something else with the same peer.
@pytest.mark.parametrize(
    ("first", "then", "small_may", "large_may"),
    [
        (DIALLED, DIALLED, False, False),
        (DIALLED, ANSWERED, False, True),
        (ANSWERED, DIALLED, False, False),
        (ANSWERED, ANSWERED, False, False),
    ],
    ids=["dials twice", "is dialled while it dials", "dials while it answers", "is dialled twice"],
)
def test_who_gives_way(first: Move, then: Move, small_may: bool, large_may: bool) -> None:
    for claims, peer, may in ((small(), LARGE, small_may), (large(), SMALL, large_may)):
        assert first(claims, peer) is not None
        assert (then(claims, peer) is not None) is may


def test_two_that_have_both_said_hello_end_with_the_dial_of_the_smaller() -> None:
    one, other = small(), large()
    assert one.dial(LARGE)
    assert other.dial(SMALL)
    assert one.answer(LARGE) is None
    assert other.answer(SMALL)


def test_the_smaller_that_answers_gives_its_own_dial_up_before_it_says_hello() -> None:
    one, other = small(), large()
    assert other.dial(SMALL)
    assert one.answer(LARGE)
    assert one.dial(LARGE) is None


def test_the_larger_does_not_dial_again_while_it_answers() -> None:
    other = large()
    own, answered = other.dial(SMALL), other.answer(SMALL)
    assert own
    assert answered
    own.release()
    assert other.dial(SMALL) is None
    answered.release()
    assert other.dial(SMALL)


@pytest.mark.parametrize("make", [small, large])
@pytest.mark.parametrize("move", [DIALLED, ANSWERED])
@pytest.mark.parametrize("then", [DIALLED, ANSWERED])
def test_a_claim_that_is_released_is_in_nobodys_way(make: Callable[[], TieBreak], move: Move, then: Move) -> None:
    claims, peer = make(), THIRD
    claim = move(claims, peer)
    assert claim is not None
    claim.release()
    assert then(claims, peer)


def test_releasing_twice_does_not_release_what_somebody_else_claimed_meanwhile() -> None:
    claims = small()
    first = claims.dial(LARGE)
    assert first is not None
    first.release()
    assert claims.dial(LARGE)
    first.release()
    assert claims.dial(LARGE) is None


def test_peers_are_not_in_each_others_way() -> None:
    claims = small()
    assert claims.dial(LARGE)
    assert claims.answer(THIRD)
    assert claims.dial(THIRD) is None
