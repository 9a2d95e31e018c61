"""`pending`, `accept` and `reject`: inbound peers that wait for a decision."""

from __future__ import annotations

import click

from peernet.cli.base import NodeCommand, check_text, peer_argument
from peernet.cli.output import shortened
from peernet.cli.session import Session, pass_session
from peernet.node.control import client

COLUMNS = {"short": "PEER", "address": "ADDRESS", "proven": "PROVEN", "agent": "AGENT"}


@click.command(cls=NodeCommand)
@pass_session
def pending(session: Session) -> None:
    """List the inbound peers that wait to be let in."""
    output = session.output
    rows = client.call(session.home, "pending")
    if output.for_people:
        rows = [shortened(row) for row in rows]
    output.rows(rows, COLUMNS, if_none="nobody is waiting")


@click.command(cls=NodeCommand)
@peer_argument
@pass_session
def accept(session: Session, peer: str) -> None:
    """Let the pending PEER in."""
    result = client.call(session.home, "accept", arguments={"peer": peer})
    session.output.done(f"accepted {result['peer']}", result)


@click.command(cls=NodeCommand)
@peer_argument
@click.option("-m", "--message", default="", callback=check_text, help="One sentence for the peer's log.")
@pass_session
def reject(session: Session, peer: str, message: str) -> None:
    """Refuse the pending PEER and tell it so."""
    result = client.call(session.home, "reject", arguments={"peer": peer, "message": message})
    session.output.done(f"rejected {result['peer']}", result)


COMMANDS: tuple[click.Command, ...] = (pending, accept, reject)
