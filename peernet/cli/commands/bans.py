"""`bans` and `unban`: who is kept out for a while."""

from __future__ import annotations

import time
from typing import Any

import click

from peernet.cli.base import NodeCommand
from peernet.cli.output import ago
from peernet.cli.session import Session, pass_session
from peernet.errors import AddressError
from peernet.node.control import client
from peernet.node.directory import check_peer
from peernet.node.failures import NotRunningError
from peernet.runtime.text import short

COLUMNS = {"name": "WHO", "reason": "WHY", "score": "SCORE", "begun": "SINCE", "left": "EXPIRES", "manual": "BY HAND"}


@click.command(cls=NodeCommand)
@pass_session
def bans(session: Session) -> None:
    """List who is banned, why, and until when.

    With no node running, those that the next node will refuse are listed.
    """
    output = session.output
    try:
        rows = client.call(session.home, "bans")
    except NotRunningError:
        rows = _bans_without_node(session)
    if output.for_people:
        now = time.time()
        rows = [_for_people(row, now) for row in rows]
    output.rows(rows, COLUMNS, if_none="nobody is banned")


@click.command(cls=NodeCommand)
@click.argument("who", metavar="[PEER|ADDRESS]", required=False)
@click.option("--all", "everybody", is_flag=True, help="Lift all bans.")
@pass_session
def unban(session: Session, who: str | None, everybody: bool) -> None:
    """Let a peer or an address in again before its time."""
    if (who is None) != everybody:
        raise click.UsageError("Name a peer or an address, or give --all.")
    _check(who)

    def otherwise() -> dict[str, Any]:
        from peernet.node.ban_lists import unban_home

        return unban_home(session.home, who)

    result = client.ask_or(session.home, otherwise, "unban", 5.0, {"who": who})
    names = ", ".join(map(_name, result["unbanned"])) or "nobody"
    session.output.done(f"unbanned {names}", result)


def _check(who: str | None) -> None:
    try:
        if who is not None and not _may_be_an_address(who):
            check_peer(who)
    except AddressError as error:
        raise click.BadParameter(str(error)) from error


def _may_be_an_address(text: str) -> bool:
    from peernet.trust.bans import ban_key  # only when needed: it takes longer than most commands

    return ban_key(text) is not None


def _bans_without_node(session: Session) -> list[dict[str, Any]]:
    from peernet.node.ban_lists import bans_of_home

    return bans_of_home(session.home)


def _for_people(row: dict[str, Any], now: float) -> dict[str, Any]:
    left = ago(now, row["expires"]).replace(" ago", "")  # which is as long as from then to now
    return {**row, "name": _name(row["who"]), "begun": ago(row["since"], now), "left": f"in {left}"}


def _name(who: str) -> str:
    return short(who) if who.isalnum() else who


COMMANDS: tuple[click.Command, ...] = (bans, unban)
