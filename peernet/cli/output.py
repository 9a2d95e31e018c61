"""How commands show their data: tables for people, JSON for programs, always on stdout."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

import click

from peernet.runtime.text import printable, short

FORMATS = ("table", "json", "jsonl")
Row = Mapping[str, Any]

# Where the output is no terminal, what takes lines apart wants each thing on one of its own. Characters.
ENDLESS = 10_000
# In less a cell would have a few letters on each line. Characters.
LEAST_WIDTH = 40
MAX_CELL = 400
LARGER_UNITS = {
    "bytes": (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)),
    "seconds": (("d", 86_400), ("h", 3600), ("min", 60)),
}
# Date and time on every line for people; the log has the same.
CLOCK = "%Y-%m-%d %H:%M:%S"
# A command that a sentence quotes, unless it names a home, or is for somebody else to run.
_HINT = re.compile(r"`peernet-node (?!--home|id`)")


def to_json(value: object) -> str:
    """JSON on one line and in ASCII: nothing that a peer wrote can act on a terminal or break the line."""
    return json.dumps(value, separators=(",", ":"))


def shortened(row: Row) -> Row:
    """A row about a peer, with what people need of its identifier as ``short``."""
    return {**row, "short": short(row["identifier"])}


def named(entry: str, written: str = "") -> str:
    """An identifier, address or network, for people: in full if they have written less than what is meant.

    Args:
        entry: what is meant.
        written: what the user wrote; if it is not given, the short form is enough.
    """
    if not entry.isalnum():
        return entry
    return short(entry) if written in ("", entry) else entry


def ago(unix_time: float, now: float) -> str:
    """How long ago something was, for people."""
    seconds = max(0, int(now - unix_time))
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds // length} {unit} ago"
    return f"{seconds} s ago"


def clock(unix_time: float) -> str:
    """The local date and time, for people."""
    return datetime.fromtimestamp(unix_time, timezone.utc).astimezone().strftime(CLOCK)


def quantity(value: Any, unit: str) -> str:
    """A limit with its unit, for people; in a larger unit only if that says exactly the same."""
    if isinstance(value, bool):
        return _cell(value)
    word = first_word(unit)
    rest = unit.removeprefix(word)
    for name, length in LARGER_UNITS.get(word, ()):
        if value and value % length == 0:
            return f"{value // length:.0f} {name}{rest}"
    if value == 1:
        unit = word.removesuffix("s") + rest
    return (f"{value:g} {unit}" if isinstance(value, float) else f"{value} {unit}").rstrip()


def first_word(unit: str) -> str:
    """What a unit counts, such as ``seconds`` in ``seconds; 0 keeps no sessions``."""
    return re.split(r"\W", unit, maxsplit=1)[0]


def hinted(text: str, home: str | None) -> str:
    """A sentence whose quoted commands can be pasted.

    Args:
        text: the sentence.
        home: the folder that was given with ``--home``; ``None`` if none was.
    """
    return text if home is None else _HINT.sub(lambda _: f"`peernet-node --home {shlex.quote(home)} ", text)


def width() -> int:
    """How many characters fit on a line of stdout."""
    if sys.stdout.isatty() or os.environ.get("COLUMNS"):
        return max(LEAST_WIDTH, shutil.get_terminal_size().columns)
    return ENDLESS


class Output:
    """The data of one command.

    Args:
        style: one of :data:`FORMATS`.
        home: the folder that was given with ``--home``, for hints.
    """

    def __init__(self, style: str, home: str | None = None) -> None:
        self.style = style
        self._home = home

    @property
    def for_people(self) -> bool:
        """Whether it is read by people."""
        return self.style == "table"

    def record(self, record: Row) -> None:
        """Show one thing with its properties."""
        if not self.for_people:
            return self._json(record)
        margin = max(map(len, record)) + 2
        for name, value in record.items():
            lines = textwrap.wrap(_cell(value), max(LEAST_WIDTH // 2, width() - margin)) or [""]
            click.echo(f"{name.replace('_', ' '):{margin}}" + f"\n{'':{margin}}".join(lines))
        return None

    def rows(self, rows: Sequence[Row], columns: Mapping[str, str], if_none: str = "") -> None:
        """Show a list of things.

        Args:
            rows: the things.
            columns: for the table, key -> heading.
            if_none: for people, instead of an empty table.
        """
        if self.style == "json":
            self._json(list(rows))
        elif self.style == "jsonl":
            for row in rows:
                click.echo(to_json(row))
        elif rows:
            _print_table([{key: hinted(_cell(row.get(key)), self._home) for key in columns} for row in rows], columns)
        else:
            click.echo(hinted(if_none, self._home))

    def done(self, sentence: str, result: Row) -> None:
        """Say that something was done: the sentence for people, the result for programs."""
        if self.for_people:
            click.echo(hinted(printable(sentence, MAX_CELL), self._home))
        else:
            self._json(result)

    def _json(self, value: object) -> None:
        click.echo(json.dumps(value, indent=2) if self.style == "json" else to_json(value))


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        value = ", ".join(f"{key} {each}" for key, each in value.items()) or "-"
    elif isinstance(value, (list, tuple)):
        value = ", ".join(map(str, value)) or "-"
    return "-" if value in (None, "") else printable(value, MAX_CELL)


def _print_table(rows: Sequence[Mapping[str, str]], columns: Mapping[str, str]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, heading in enumerate(columns.values()):
        # The first column says what the row is about, and is what people copy.
        table.add_column(heading, no_wrap=number == 0, overflow="fold")
    for row in rows:
        table.add_row(*(Text(row[key]) for key in columns))
    console = Console(width=width(), highlight=False)
    with console.capture() as drawn:
        console.print(table)
    for line in drawn.get().splitlines():
        click.echo(line.rstrip())
