"""How commands show their data: tables for people, JSON for programs, always on stdout."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

import click

from peernet.runtime.text import printable, short

FORMATS = ("table", "json", "jsonl")
Row = Mapping[str, Any]

# Wider than any terminal: what does not fit is wrapped by the terminal, not cut off by us.
WIDTH = 10_000
MAX_CELL = 400


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
    """The local time of day, for people."""
    return datetime.fromtimestamp(unix_time, timezone.utc).astimezone().strftime("%H:%M:%S")


class Output:
    """The data of one command.

    Args:
        style: one of :data:`FORMATS`.
    """

    def __init__(self, style: str) -> None:
        self.style = style

    @property
    def for_people(self) -> bool:
        """Whether it is read by people."""
        return self.style == "table"

    def record(self, record: Row) -> None:
        """Show one thing with its properties."""
        if not self.for_people:
            return self._json(record)
        width = max(map(len, record))
        for name, value in record.items():
            click.echo(f"{name.replace('_', ' '):{width}}  {_cell(value)}")
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
            _print_table(rows, columns)
        else:
            click.echo(if_none)

    def done(self, sentence: str, result: Row) -> None:
        """Say that something was done: the sentence for people, the result for programs."""
        if self.for_people:
            click.echo(printable(sentence, MAX_CELL))
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


def _print_table(rows: Sequence[Row], columns: Mapping[str, str]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in columns.values():
        table.add_column(heading, no_wrap=True)
    for row in rows:
        table.add_row(*(Text(_cell(row.get(key))) for key in columns))
    console = Console(width=WIDTH, highlight=False, soft_wrap=True)
    with console.capture() as drawn:
        console.print(table)
    for line in drawn.get().splitlines():
        click.echo(line.rstrip())
