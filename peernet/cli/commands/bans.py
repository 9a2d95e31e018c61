"""`bans`, `ban` and `unban`: who is kept out for a while."""

from __future__ import annotations

import time
from typing import Any

import click

from peernet.cli.base import NodeCommand, check_duration
from peernet.cli.output import ago, named
from peernet.cli.session import Session, pass_session
from peernet.errors import ConfigurationError
from peernet.node.control import client
from peernet.node.directory import check_peer, ip_network_of
from peernet.node.failures import NotRunningError
from peernet.runtime.text import duration

COLUMNS = {"name": "WHO", "reason": "WHY", "score": "SCORE", "begun": "SINCE", "left": "EXPIRES", "manual": "BY HAND"}


def check_who(context: click.Context, _: click.Parameter, value: str | None) -> str | None:
    """Callback for an argument that names a peer or an address."""
    from peernet.trust.bans import ban_key  # only when needed: it takes longer than most commands

    if value is None or ban_key(value) is not None:
        return value
    try:
        network = ip_network_of(value)
        if network is None:
            return check_peer(value, ", or an IP address")
    except ConfigurationError as error:
        raise click.BadParameter(str(error)) from error
    hint = context.ensure_object(Session).hinted(f"`peernet-node block {network}`")
    raise click.BadParameter(f"networks are blocked and not banned; {hint} keeps this one out")


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

    A peer that is connected is disconnected, and told for how long. Without --for the ban lasts as long as
    that of a peer that misbehaves (the limit ban_time). An IPv6 address stands for its whole /56. To keep a
    larger network out, use `block`.
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
        raise click.UsageError("give either a peer or an address, or --all.")

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
