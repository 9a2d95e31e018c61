"""What all commands of one run of ``peernet-node`` share."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import click

from peernet.cli.lines import line_of
from peernet.cli.output import CLOCK, Output, hinted, to_json
from peernet.state.home import Home, default_folder

# How much is logged, by what -v adds and -q takes away.
LEVELS = {-1: logging.ERROR, 0: logging.WARNING, 1: logging.INFO, 2: logging.DEBUG}


def _nothing() -> None:
    """For tests and documentation tools, which decide about patching themselves."""


@dataclass
class Session:
    """The global options, and what follows from them.

    Attributes:
        prepare: call it before importing whatever runs a network.
        folder: the home folder that was asked for; ``None`` means the platform's.
        named_home: the same if it was given with ``--home``, and so has to stand in hints.
        output_format: ``table``, ``json`` or ``jsonl``.
        verbosity: how often ``-v`` was given, less how often ``-q`` was.
    """

    prepare: Callable[[], None] = _nothing
    folder: str | None = None
    named_home: str | None = None
    output_format: str = "table"
    verbosity: int = 0

    @cached_property
    def home(self) -> Home:
        """The home folder; it need not exist.

        Raises:
            HomeError: it is no folder.
        """
        home = self.unchecked_home
        home.check_folder()
        return home

    @property
    def unchecked_home(self) -> Home:
        """The home folder, whatever it is."""
        return Home(self.folder or default_folder())

    @property
    def output(self) -> Output:
        """Where the command's data goes."""
        return Output(self.output_format, self.named_home)

    def hinted(self, text: str) -> str:
        """A sentence whose quoted commands can be pasted."""
        return hinted(text, self.named_home)

    def line_of(self, event: dict[str, Any]) -> str:
        """An event as a line, in the format that was asked for."""
        return self.hinted(line_of(event)) if self.output.for_people else to_json(event)

    def log_to(self, stream: object | None = None) -> None:
        """Send the log to ``stream``, by default stderr, in as much detail as was asked for."""
        handler = logging.StreamHandler(stream or sys.stderr)  # type: ignore[arg-type]  # only its write() is used
        handler.setFormatter(_Formatter(self.named_home))
        level = LEVELS[min(max(self.verbosity, min(LEVELS)), max(LEVELS))]
        logging.basicConfig(handlers=[handler], level=level, force=True)


class _Formatter(logging.Formatter):
    """A record as a line, with the clock of all other lines, and hints that can be pasted."""

    def __init__(self, home: str | None) -> None:
        super().__init__("%(asctime)s  %(levelname)s %(name)s: %(message)s", CLOCK)
        self._home = home

    def format(self, record: logging.LogRecord) -> str:
        return hinted(super().format(record), self._home)


pass_session = click.make_pass_decorator(Session, ensure=True)
