"""Text for people: what peers gave, made fit for logs and terminals, and short forms of long values."""

from __future__ import annotations

import traceback

MAX_TEXT = 128
# Of an error that came of others, and of the calls that led to it, those that tell most.
MAX_CHAIN = 4
MAX_CALLS = 20
# As many characters of an identifier as people need; a command takes them for the whole.
SHORT = 12


def printable(text: object, limit: int = MAX_TEXT) -> str:
    """``text`` in at most ``limit`` characters, with everything that could act on a terminal or a log escaped."""
    shown = _text_of(text)
    escaped = shown if shown.isprintable() else "".join(map(_escape, shown[: limit + 1]))
    return escaped if len(escaped) <= limit else escaped[: limit - 1] + "…"


def printable_traceback(error: BaseException) -> str:
    """How an error came about, as Python shows it, with the texts of errors :func:`printable`.

    What a callback raises often quotes what a peer has sent.
    """
    parts: list[str] = []
    cause: BaseException | None = error
    while cause is not None and len(parts) < MAX_CHAIN:
        calls = "".join(traceback.format_tb(cause.__traceback__, -MAX_CALLS))
        parts.append(f"Traceback (most recent call last):\n{calls}{type(cause).__name__}: {printable(cause)}")
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    return "\n\nThe error above led to this one:\n\n".join(reversed(parts))


def short(identifier: str) -> str:
    """The part of an identifier that is shown to people."""
    return identifier[:SHORT]


def duration(seconds: float) -> str:
    """A time for people, such as ``0.25 s``, ``90 s``, ``1 h`` or ``36 h``: in the unit of which there are few."""
    if seconds < 9.5:
        return f"{seconds:.2g} s"
    for unit, length, smaller in (("d", 86_400, 3600), ("h", 3600, 60), ("min", 60, 1)):
        if seconds >= 2 * length or round(seconds / smaller) * smaller == length:  # 1 h, and not 60 min
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def size(count: float) -> str:
    """A number of bytes for people, such as ``512 B`` or ``1.5 MiB``."""
    for unit, length in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= length:
            return f"{count / length:.1f}".removesuffix(".0") + f" {unit}"
    return f"{count:.0f} B"


def _escape(char: str) -> str:
    return char if char.isprintable() else ascii(char)[1:-1]


def _text_of(value: object) -> str:
    try:
        return str(value)
    except BaseException as error:  # of a class that somebody else wrote
        from peernet.runtime.interruptions import is_addressed_here  # not before: quick commands load no gevent

        if is_addressed_here(error):
            raise
        return f"<{type(value).__name__} without a text>"
