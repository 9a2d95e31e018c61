"""Texts that want to act on a log or a terminal, and what must be true of whatever shows them."""

from __future__ import annotations

HOSTILE = (
    "two\nlines\r\n2030-01-01 00:00:00 CRITICAL peernet: forged",
    "\x1b[2J\x1b[31mred\x1b]0;title\x07",
    "\x9b31m C1",
    "left\u202eright\u2066\u200b",
    "a\0b",
    "\u2028\u2029\x85\x0b\x0c",
    "\ud800\udc80",
    "x" * 65536,
    "\n" * 65536,
    "%s %d %(name)s {0} [bold]markup[/bold]",
)

# The texts that UTF-8 can carry, which is what a packet can hold.
SENDABLE = tuple(text for text in HOSTILE if not any("\ud800" <= char <= "\udfff" for char in text))


def assert_harmless(line: str, longest: int = 2400) -> None:
    """Fail if a line could act on a terminal, or is longer than anybody reads."""
    assert line.isprintable(), ascii(line[:200])
    assert len(line) <= longest
