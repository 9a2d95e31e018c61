"""`outbox`: the packets that wait for peers that are away."""

from __future__ import annotations

import time
from typing import Any

import click

from peernet.cli.base import NodeGroup, check_peer_argument
from peernet.cli.output import ago
from peernet.cli.session import Session, pass_session
from peernet.node.control import client
from peernet.runtime.text import short, size

COLUMNS = {"short": "PEER", "packets": "PACKETS", "aside": "ASIDE", "size": "SIZE", "since": "OLDEST"}
PACKET_COLUMNS = {
    "short": "PEER",
    "packet_id": "PACKET",
    "kind": "KIND",
    "size": "SIZE",
    "since": "STORED",
    "attempts": "ATTEMPTS",
    "state": "STATE",
}


@click.group(cls=NodeGroup)
def outbox() -> None:
    """Look after what `send --durable` has stored."""


@outbox.command(name="list")
@click.option("--packets", is_flag=True, help="One line for each packet instead of one for each peer.")
@pass_session
def list_stored(session: Session, packets: bool) -> None:
    """List what is stored for whom.

    How many packets, how many of them are set aside because the peer's callback kept failing, how many bytes, and
    how long the oldest has waited.
    """

    def otherwise() -> list[dict[str, Any]]:
        session.prepare()
        from peernet.node.offline_outbox import describe_outbox_of_home

        return describe_outbox_of_home(session.home, packets)

    rows = client.ask_or(session.home, otherwise, "outbox_list", client.ANSWER_TIMEOUT, {"packets": packets})
    output = session.output
    if output.for_people:
        since, now = "stored_at" if packets else "oldest", time.time()
        rows = [
            {
                **row,
                "short": short(row["peer"]),
                "size": size(row["bytes"]),
                "since": ago(row[since], now),
                "state": _state(row),
            }
            for row in rows
        ]
    output.rows(rows, PACKET_COLUMNS if packets else COLUMNS, if_none="nothing is stored")


@outbox.command()
@click.argument("peer", required=False, callback=check_peer_argument)
@click.option("--all", "everybody", is_flag=True, help="What is stored for all peers.")
@pass_session
def drop(session: Session, peer: str | None, everybody: bool) -> None:
    """Remove what is stored for PEER, or for all.

    What is on its way to a connected peer may still arrive.
    """
    if (peer is None) != everybody:
        raise click.UsageError("give either PEER or --all.")

    def otherwise() -> dict[str, Any]:
        session.prepare()
        from peernet.node.offline_outbox import drop_from_outbox_of_home

        return drop_from_outbox_of_home(session.home, peer)

    result = client.ask_or(session.home, otherwise, "outbox_drop", client.ANSWER_TIMEOUT, {"peer": peer})
    whose = "all peers" if everybody else short(result["peers"][0])
    session.output.done(f"{result['dropped']} packets for {whose} dropped", result)


@outbox.command()
@click.argument("peer", required=False, callback=check_peer_argument)
@pass_session
def retry(session: Session, peer: str | None) -> None:
    """Send again what is set aside for PEER, or for all.

    Packets are set aside when the peer's callback has failed too often. Without a running node the next one sends them.
    """

    def otherwise() -> dict[str, Any]:
        session.prepare()
        from peernet.node.offline_outbox import retry_in_outbox_of_home

        return retry_in_outbox_of_home(session.home, peer)

    result = client.ask_or(session.home, otherwise, "outbox_retry", client.ANSWER_TIMEOUT, {"peer": peer})
    whose = "all peers" if peer is None else short(result["peer"])
    session.output.done(f"{result['retried']} packets for {whose} are to be sent again", result)


def _state(row: dict[str, Any]) -> str:
    if row["aside"]:
        return "aside"
    return "failing" if row.get("attempts") else "waiting"


COMMANDS: tuple[click.Command, ...] = (outbox,)
