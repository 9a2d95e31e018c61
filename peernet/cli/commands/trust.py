"""`trust`, `untrust`, `allow`, `block`, `unblock` and `explain`: whom to let in and what to take from them."""

from __future__ import annotations

from typing import Any

import click

from peernet.cli.base import NodeCommand, check_entry, check_peer_argument, peer_argument
from peernet.cli.output import named
from peernet.cli.session import Session, pass_session
from peernet.node.control import client
from peernet.node.failures import NotRunningError
from peernet.runtime.text import printable

COLUMNS = {"about": "ABOUT", "allowed": "ALLOWED", "rule": "RULE", "why": "WHY"}

SENTENCES = {
    "trust": ("{} is trusted", "{} was trusted already"),
    "untrust": ("{} is no longer trusted", "{} was not trusted"),
    "allow": ("{} is on the allowlist: only peers on it are let in", "{} was on the allowlist already"),
    "disallow": ("{} is no longer on the allowlist", "{} was not on the allowlist"),
    "block": ("{} is blocked", "{} was blocked already"),
    "unblock": ("{} is no longer blocked", "{} was not blocked"),
}


# What people are told of an empty list.
EMPTY = {
    "trusted": "nobody is trusted",
    "allowed": "the allowlist is empty: everybody is let in who is not blocked",
    "blocked": "nobody is blocked",
}


@click.command(cls=NodeCommand)
@click.argument("peer", metavar="[PEER]", required=False, callback=check_peer_argument)
@pass_session
def trust(session: Session, peer: str | None) -> None:
    """Take every kind of packet from PEER, now and in future.

    Without PEER it lists who is trusted.
    """
    if peer is None:
        return _list(session, "trusted")
    return _change(session, "trust", peer)


@click.command(cls=NodeCommand)
@peer_argument
@pass_session
def untrust(session: Session, peer: str) -> None:
    """Take only text messages from PEER again."""
    _change(session, "untrust", peer)


@click.command(cls=NodeCommand)
@click.argument("entry", metavar="[PEER|NETWORK]", required=False, callback=check_entry)
@click.option("--remove", is_flag=True, help="Take it off the allowlist.")
@pass_session
def allow(session: Session, entry: str | None, remove: bool) -> None:
    """Let in only listed peers and networks.

    Puts a peer, or a network such as 10.0.0.0/8, on the allowlist. While the list of peers is not
    empty, only peers on it are let in; the same holds for networks. Whoever is connected and not on it
    is disconnected. Without PEER or NETWORK it shows the list.
    """
    if entry is None and remove:
        raise click.UsageError("name the peer or the network to take off the allowlist.")
    if entry is None:
        return _list(session, "allowed")
    return _change(session, "disallow" if remove else "allow", entry)


@click.command(cls=NodeCommand)
@click.argument("entry", metavar="[PEER|NETWORK]", required=False, callback=check_entry)
@pass_session
def block(session: Session, entry: str | None) -> None:
    """Never let a peer or a network in.

    Whoever it is or comes from there is disconnected. A network is written as 10.0.0.0/8. Without PEER
    or NETWORK it lists who is blocked.
    """
    if entry is None:
        return _list(session, "blocked")
    return _change(session, "block", entry)


@click.command(cls=NodeCommand)
@click.argument("entry", metavar="PEER|NETWORK", callback=check_entry)
@pass_session
def unblock(session: Session, entry: str) -> None:
    """Take a peer or a network off the blocklist."""
    _change(session, "unblock", entry)


@click.command(cls=NodeCommand)
@peer_argument
@pass_session
def explain(session: Session, peer: str) -> None:
    """Tell which rule decides what for PEER.

    With no node running, the lists kept in the home folder decide.
    """

    try:
        result = client.call(session.home, "explain", arguments={"peer": peer})
    except NotRunningError:
        result = _explain_without_node(session, peer)
    if not session.output.for_people:
        session.output.record(result)
        return
    state = "connected" if result["connected"] else "not connected: as it would be"
    whom = f"{result['peer'] or 'whoever'} at {result['address'] or 'an unknown address'}"
    click.echo(f"{printable(whom)} ({state})\n")
    session.output.rows(result["decisions"], COLUMNS)


def _explain_without_node(session: Session, peer: str) -> dict[str, Any]:
    from peernet.node.trust_lists import explain_home

    return explain_home(session.home, peer)


def _change(session: Session, command: str, entry: str) -> None:
    def otherwise() -> dict[str, Any]:
        from peernet.node.trust_lists import change_home

        return change_home(session.home, command, entry)

    result = client.ask_or(session.home, otherwise, command, 5.0, {"entry": entry})
    changed, unchanged = SENTENCES[command]
    name = named(result["entry"], entry)
    session.output.done((changed if result["changed"] else unchanged).format(name), result)


def _list(session: Session, which: str) -> None:
    try:
        rows = client.call(session.home, "entries", arguments={"which": which})
    except NotRunningError:
        rows = _entries_without_node(session, which)
    session.output.rows(rows, {"entry": which.upper()}, if_none=EMPTY[which])


def _entries_without_node(session: Session, which: str) -> list[dict[str, Any]]:
    from peernet.node.trust_lists import entries_of_home

    return entries_of_home(session.home, which)


COMMANDS: tuple[click.Command, ...] = (trust, untrust, allow, block, unblock, explain)
