"""What all commands of one run of ``peernet-node`` share."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import click

from peernet.cli.output import Output
from peernet.state.home import Home, default_folder


def _nothing() -> None:
    """For tests and documentation tools, which decide about patching themselves."""


@dataclass
class Session:
    """The global options, and what follows from them.

    Attributes:
        prepare: call it before importing whatever runs a network.
        folder: the home folder that was asked for; ``None`` means the platform's.
        output_format: ``table``, ``json`` or ``jsonl``.
        verbosity: how often ``-v`` was given.
    """

    prepare: Callable[[], None] = _nothing
    folder: str | None = None
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
        return Output(self.output_format)

    def log_to(self, stream: object | None = None) -> None:
        """Send the log to ``stream``, by default stderr, in as much detail as was asked for."""
        level = {0: logging.WARNING, 1: logging.INFO}.get(self.verbosity, logging.DEBUG)
        logging.basicConfig(
            stream=stream or sys.stderr,  # type: ignore[arg-type]  # only its write() is used
            level=level,
            format="%(asctime)s %(levelname)s %(name)s: %(message)s",
            force=True,
        )


pass_session = click.make_pass_decorator(Session, ensure=True)
