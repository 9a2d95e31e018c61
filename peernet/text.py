"""Text that peers gave, made fit for logs and terminals."""

from __future__ import annotations

MAX_TEXT = 128


def printable(text: object, limit: int = MAX_TEXT) -> str:
    """At most ``limit`` characters of ``text``, with everything that could act on a terminal or a log escaped."""
    shown = str(text)
    if len(shown) > limit:
        shown = shown[: limit - 1] + "…"
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in shown)
