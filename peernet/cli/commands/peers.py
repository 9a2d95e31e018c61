"""`peers`, `connect`, `disconnect` and `ping`."""

from __future__ import annotations

import time
from typing import Any

import click

from peernet.cli.base import NodeCommand, peer_argument, timeout_option
from peernet.cli.output import ago, shortened
from peernet.cli.session import Session, pass_session
from peernet.node.control import client
from peernet.node.failures import NotRunningError
from peernet.node.settings import load_settings
from peernet.runtime.deadline import Deadline
from peernet.runtime.text import duration, short, size

COLUMNS = {
    "short": "PEER",
    "condition": "STATE",
    "trusted": "TRUSTED",
    "address": "ADDRESS",
    "queued": "QUEUED",
    "seen": "LAST SEEN",
}


@click.command(cls=NodeCommand)
@pass_session
def peers(session: Session) -> None:
    """List connected and known peers."""
    try:
        rows = client.call(session.home, "peers")
    except NotRunningError:
        rows = _kept_peers(session)
    output = session.output
    if output.for_people:
        now = time.time()
        rows = [_for_people(row, now) for row in rows]
    output.rows(rows, COLUMNS, if_none="no peers are known yet; `peernet-node ping HOST:PORT` meets the first")


@click.command(cls=NodeCommand)
@peer_argument
@timeout_option
@pass_session
def connect(session: Session, peer: str, timeout: float) -> None:
    """Connect the running node to PEER."""
    result = client.call(session.home, "connect", timeout, {"peer": peer, "timeout": timeout})
    session.output.done(f"connected to {result['identifier']} at {result['address']}", result)


@click.command(cls=NodeCommand)
@peer_argument
@pass_session
def disconnect(session: Session, peer: str) -> None:
    """Say goodbye to PEER and close the channel."""
    result = client.call(session.home, "disconnect", arguments={"peer": peer})
    session.output.done(f"disconnected from {result['peer']}", result)


@click.command(cls=NodeCommand)
@peer_argument
@click.option("-c", "--count", type=click.IntRange(1, 1000), default=1, show_default=True, help="How many pings.")
@timeout_option
@pass_session
def ping(session: Session, peer: str, count: int, timeout: float) -> None:
    """Measure how long PEER takes to answer.

    The time is that of one question and its answer on an open channel. With no running node, PEER is
    dialled for the moment with this home's identity.
    """
    for result in _pings(session, peer, count, timeout):
        session.output.done(f"{short(result['peer'])} answered in {1000 * result['seconds']:.2f} ms", result)


def _for_people(row: dict[str, Any], now: float) -> dict[str, Any]:
    condition = row["state"]
    if condition == "reconnecting":
        condition += f" for {duration(row['seconds_reconnecting'])}"
    queued = size(row["queued_bytes"]) if "queued_bytes" in row else None
    return {**shortened(row), "condition": condition, "queued": queued, "seen": ago(row["last_seen"], now)}


def _pings(session: Session, peer: str, count: int, timeout: float) -> list[dict[str, Any]]:
    deadline = Deadline(timeout)

    def otherwise() -> list[dict[str, Any]]:
        session.prepare()
        from peernet.node.once import ping_once

        settings = load_settings(session.home.config_file)
        return ping_once(session.home, settings, peer, timeout, count, deadline)

    arguments = {"peer": peer, "timeout": timeout, "count": count}
    return client.ask_or(session.home, otherwise, "ping", timeout, arguments)


def _kept_peers(session: Session) -> list[dict[str, Any]]:
    from peernet.node.peer_list import peers_of_home

    return peers_of_home(session.home)


COMMANDS: tuple[click.Command, ...] = (peers, connect, disconnect, ping)
