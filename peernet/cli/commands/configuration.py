"""`limits` and `config`: what a node is run with."""

from __future__ import annotations

import os
from typing import Any

import click

from peernet.cli.base import NodeCommand, NodeGroup
from peernet.cli.output import LARGER_UNITS, first_word, quantity
from peernet.cli.session import Session, pass_session
from peernet.config import PROFILES
from peernet.errors import ConfigurationError
from peernet.node.failures import CheckFailedError
from peernet.node.settings import DEFAULTS, Settings, SettingsError, load_settings

LIMIT_COLUMNS = {
    "name": "NAME",
    "value": "VALUE",
    "default": "DEFAULT",
    "source": "FROM",
    "at_limit": "AT THE LIMIT",
}
SETTING_COLUMNS = {"name": "SETTING", "value": "VALUE", "source": "FROM"}


@click.command(cls=NodeCommand)
@click.option("--profile", type=click.Choice(list(PROFILES)), help="As `run` with this profile would have them.")
@pass_session
def limits(session: Session, /, **flags: Any) -> None:
    """List every limit and timeout.

    Each with its value and its default, where the value comes from, and what happens when it is reached.
    """
    from peernet.config import limits as all_limits

    settings = load_settings(session.home.config_file, flags)
    sources = settings.limit_sources
    rows = [{**vars(limit), "source": sources.get(limit.name, "default")} for limit in all_limits(settings.limits)]
    output = session.output
    output.rows([_for_people(row) for row in rows] if output.for_people else rows, LIMIT_COLUMNS)


@click.group(cls=NodeGroup)
def config() -> None:
    """Look at the node's settings."""


@config.command()
@pass_session
def show(session: Session) -> None:
    """Show the settings in force, and where each comes from.

    They are those that `run` without flags would have now. The flags of a node that runs are not among them;
    `status` tells where that one listens.
    """
    rows = _rows(load_settings(session.home.config_file))
    session.output.rows(rows, SETTING_COLUMNS)


@config.command()
@pass_session
def path(session: Session) -> None:
    """Print the path of the file of settings, which need not exist."""
    file = session.home.config_file
    session.output.done(str(file), {"path": str(file), "exists": os.path.exists(file)})


@config.command()
@pass_session
def validate(session: Session) -> None:
    """Check the file of settings and the environment.

    Tells everything that is wrong, and then exits with 6.
    """
    file = session.home.config_file
    mistakes = _mistakes(session)
    if mistakes:
        if not session.output.for_people:
            session.output.record({"path": str(file), "valid": False, "mistakes": list(map(session.hinted, mistakes))})
        raise CheckFailedError(*mistakes)
    found = "is valid" if os.path.exists(file) else "does not exist, and need not: everything has its default"
    session.output.done(f"{file} {found}", {"path": str(file), "valid": True, "mistakes": []})


def _mistakes(session: Session) -> list[str]:
    try:
        load_settings(session.home.config_file)
    except SettingsError as error:
        return list(error.mistakes)
    except ConfigurationError as error:
        return [str(error)]
    return []


def _for_people(row: dict[str, Any]) -> dict[str, Any]:
    unit = row["unit"]
    word = first_word(unit)
    short_unit = word if word in LARGER_UNITS else ""  # of the default; the value beside it has the other words
    return row | {"value": quantity(row["value"], unit), "default": quantity(row["default"], short_unit)}


def _rows(settings: Settings) -> list[dict[str, Any]]:
    from peernet.config import limits as all_limits

    node = [{"name": name, "value": getattr(settings, name), "source": settings.sources[name]} for name in DEFAULTS]
    changed = [limit for limit in all_limits(settings.limits) if limit.value != limit.default]
    sources = settings.limit_sources
    return node + [
        {"name": f"limits.{limit.name}", "value": limit.value, "source": sources[limit.name]} for limit in changed
    ]


COMMANDS: tuple[click.Command, ...] = (limits, config)
