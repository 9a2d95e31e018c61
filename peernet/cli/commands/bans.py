"""`bans`, `ban` and `unban`: who is kept out for a while."""

from __future__ import annotations

import time
from typing import Any

import click

from peernet.cli.base import NodeCommand, check_duration, check_peer_argument
from peernet.cli.output import ago, named
from peernet.cli.session import Session, pass_session
from peernet.node.control import client
from peernet.node.failures import NotRunningError
from peernet.runtime.text import duration

COLUMNS = {"name": "WHO", "reason": "WHY", "score": "SCORE", "begun": "SINCE", "left": "EXPIRES", "manual": "BY HAND"}


def check_who(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """Callback for an argument that names a peer or an address."""
    from peernet.trust.bans import ban_key  # only when needed: it takes longer than most commands

    if value is None or ban_key(value) is not None:
        return value
    return check_peer_argument(context, parameter, value)


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
@click.argument("who", metavar="PEER|ADDRESS", callback=check_who)
@click.option("--for", "seconds", callback=check_duration, metavar="TIME", help="How long: 1h, 30min, 7d, or seconds.")
@pass_session
def ban(session: Session, who: str, seconds: float | None) -> None:
    """Keep a peer or an address out for a while.

    A peer that is connected is disconnected, and told for how long. Without --for it is as long as peers
    are banned that misbehave (the limit ban_time). Of an IPv6 address all of its /56 is meant; block a
    network instead to keep a larger one out.
    """

    def otherwise() -> dict[str, Any]:
        from peernet.node.ban_lists import ban_home

        return ban_home(session.home, who, seconds)

    result = client.ask_or(session.home, otherwise, "ban", 5.0, {"who": who, "seconds": seconds})
    time_left = duration(result["expires"] - result["since"])
    session.output.done(f"{named(result['who'], who)} is banned for {time_left}", result)


@click.command(cls=NodeCommand)
@click.argument("who", metavar="[PEER|ADDRESS]", required=False, callback=check_who)
@click.option("--all", "everybody", is_flag=True, help="Lift all bans.")
@pass_session
def unban(session: Session, who: str | None, everybody: bool) -> None:
    """Let a peer or an address in again before its time."""
    if (who is None) != everybody:
        raise click.UsageError("Name a peer or an address, or give --all.")

    def otherwise() -> dict[str, Any]:
        from peernet.node.ban_lists import unban_home

        return unban_home(session.home, who)

    result = client.ask_or(session.home, otherwise, "unban", 5.0, {"who": who})
    names = ", ".join(named(one) for one in result["unbanned"]) or "nobody"
    session.output.done(f"unbanned {names}", result)


def _bans_without_node(session: Session) -> list[dict[str, Any]]:
    from peernet.node.ban_lists import bans_of_home

    return bans_of_home(session.home)


def _for_people(row: dict[str, Any], now: float) -> dict[str, Any]:
    left = ago(now, row["expires"]).replace(" ago", "")  # which is as long as from then to now
    return {**row, "name": named(row["who"]), "begun": ago(row["since"], now), "left": f"in {left}"}


COMMANDS: tuple[click.Command, ...] = (bans, ban, unban)
