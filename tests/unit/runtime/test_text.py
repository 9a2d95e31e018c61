from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peernet.runtime.greenlets import spawn
from peernet.runtime.text import MAX_CALLS, MAX_TEXT, duration, printable, printable_traceback, size
from tests.support import FAILURES, scaled
from tests.unit.hostile import HOSTILE, assert_harmless


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", ""),
        ("grüß dich 👋", "grüß dich 👋"),
        ("two\nlines", r"two\nlines"),
        ("\x1b[31mred", r"\x1b[31mred"),
        ("a\0b", r"a\x00b"),
        ("\x9b1m", r"\x9b1m"),
        ("left\u202eright", r"left\u202eright"),
        ("\u2028", r"\u2028"),
        ("\ud800", r"\ud800"),
        (ValueError("oh\tdear"), r"oh\tdear"),
    ],
)
def test_what_could_act_on_a_terminal_or_a_log_is_escaped(text: object, shown: str) -> None:
    assert printable(text) == shown


@pytest.mark.parametrize(("length", "shown"), [(MAX_TEXT, "x" * MAX_TEXT), (MAX_TEXT + 1, "x" * (MAX_TEXT - 1) + "…")])
def test_long_text_is_cut(length: int, shown: str) -> None:
    assert printable("x" * length) == shown


def test_the_limit_can_be_chosen() -> None:
    assert printable("abcdef", limit=3) == "ab…"


@given(st.text(alphabet=st.characters(), max_size=200))
def test_whatever_comes_is_printable_and_can_be_encoded(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    assert len(shown) <= MAX_TEXT
    assert shown.encode().decode() == shown


@pytest.mark.parametrize("text", HOSTILE)
def test_what_wants_to_act_on_a_terminal_cannot(text: str) -> None:
    assert_harmless(printable(text), MAX_TEXT)


def test_an_object_that_has_no_text_is_no_error() -> None:
    class Broken:
        def __str__(self) -> str:
            raise ValueError("no text")

    assert printable(Broken()) == "<Broken without a text>"


@pytest.mark.parametrize("failure", FAILURES)
def test_in_a_greenlet_of_ours_an_object_may_raise_anything_for_a_text(failure: Callable[[], BaseException]) -> None:
    class Broken:
        def __str__(self) -> str:
            raise failure()

    assert spawn("text", printable, Broken()).get(timeout=scaled(5)) == "<Broken without a text>"


def fail_after(calls: int, text: str) -> None:
    if calls:
        fail_after(calls - 1, text)
    raise ValueError(text)


def caught(text: str, calls: int = 0) -> ValueError:
    with pytest.raises(ValueError) as failure:
        fail_after(calls, text)
    return failure.value


@pytest.mark.parametrize("text", HOSTILE)
def test_a_traceback_shows_where_but_not_what_acts_on_a_terminal(text: str) -> None:
    lines = printable_traceback(caught(text)).splitlines()
    for line in lines:
        assert_harmless(line)
    assert (lines[0], lines[-1]) == ("Traceback (most recent call last):", f"ValueError: {printable(text)}")
    assert any("in fail_after" in line for line in lines)


def test_a_traceback_tells_what_an_error_came_of() -> None:
    later, sooner, hidden = caught("later"), caught("sooner"), caught("hidden")
    later.__cause__ = sooner
    sooner.__context__ = caught("first")
    sooner.__context__.__context__ = hidden
    sooner.__context__.__suppress_context__ = True
    shown = printable_traceback(later)
    assert [line for line in shown.splitlines() if line.startswith("ValueError")] == [
        "ValueError: first",
        "ValueError: sooner",
        "ValueError: later",
    ]


def test_a_traceback_has_an_end() -> None:
    error = caught("the last", calls=200)
    error.__cause__ = error
    shown = printable_traceback(error)
    assert shown.count("in fail_after") <= 4 * MAX_CALLS
    assert len(shown) < 16 * 1024


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0 s"),
        (0.253, "0.25 s"),
        (9, "9 s"),
        (90, "90 s"),
        (60, "1 min"),
        (3580, "1 h"),
        (3600, "1 h"),
        (3660, "61 min"),
        (5400, "90 min"),
        (7200, "2 h"),
        (86_400, "1 d"),
        (129_600, "36 h"),
        (9e5, "10 d"),
    ],
)
def test_times_are_shown_in_the_unit_of_which_there_are_few(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (1024 * 1023, "1023 KiB"),
        (47_500_000, "45.3 MiB"),
        (3 << 30, "3 GiB"),
    ],
)
def test_sizes(count: int, shown: str) -> None:
    assert size(count) == shown
