from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peernet.text import MAX_TEXT, printable


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
    assert shown.encode().decode() == shown
