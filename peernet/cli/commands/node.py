"""`run`, `stop` and `status`: the node itself."""

from __future__ import annotations

from typing import Any

import click

from peernet.cli.base import (
    NodeCommand,
    check_addresses,
    check_listen_addresses,
    network_option,
    timeout_option,
    verbosity_options,
)
from peernet.cli.session import Session, pass_session
from peernet.config import PROFILES
from peernet.node.control import client
from peernet.node.settings import PLACEMENTS, load_settings
from peernet.runtime.text import duration, size
from peernet.state.home import PATIENCE


@click.command(cls=NodeCommand)
@click.option(
    "-l",
    "--listen",
    multiple=True,
    metavar="HOST:PORT",
    callback=check_listen_addresses,
    help="Accept connections here; port 0 lets the system choose.",
)
@click.option(
    "-c",
    "--connect",
    multiple=True,
    metavar="PEER_ADDRESS",
    callback=check_addresses,
    help="Keep a connection to this peer.",
)
@network_option("Talk only to peers that give the same name.")
@click.option("--insecure", is_flag=True, default=None, help="Plain TCP, where nobody can prove who they are.")
@click.option(
    "--placement", type=click.Choice(PLACEMENTS), help="Inbound peers: let them in, or hold them until `accept`."
)
@click.option("--profile", type=click.Choice(list(PROFILES)), help="Limits for a small or a large machine.")
@click.option(
    "--allow-loopback-burst",
    is_flag=True,
    default=None,
    help="Let programs on this machine connect as often as they like.",
)
@pass_session
def run(session: Session, /, **flags: Any) -> None:
    """Run the node in the foreground.

    It runs until SIGTERM, SIGHUP, Ctrl-C, or `stop`, and prints one line for each event: `ready` first, then
    peers that come and go, packets, and what was refused. Peers given with --connect are dialled for
    ever, so they need not be up yet. The options can also be set as PEERNET_LISTEN, PEERNET_CONNECT,
    PEERNET_NETWORK, PEERNET_INSECURE, PEERNET_PLACEMENT, PEERNET_PROFILE and
    PEERNET_ALLOW_LOOPBACK_BURST (lists separated by spaces), or in config.toml.
    """
    settings = load_settings(session.home.config_file, flags)
    session.prepare()
    from peernet.cli.foreground import run_in_foreground

    with session.home.locked(PATIENCE):
        run_in_foreground(session, settings)


@click.command(cls=NodeCommand)
@timeout_option
@pass_session
def stop(session: Session, timeout: float) -> None:
    """Stop the running node.

    Waits until it has said its goodbyes and its home is free.
    """
    client.stop(session.home, timeout)
    session.output.done("stopped", {"stopped": True})


@click.command(cls=NodeCommand)
@pass_session
def status(session: Session) -> None:
    """Show figures of the running node.

    Among them how many channels there are, what is queued, and how often what was refused.
    """
    output, figures = session.output, client.call(session.home, "status")
    output.record(_for_people(figures) if output.for_people else figures)


def _for_people(figures: dict[str, Any]) -> dict[str, Any]:
    return figures | {
        "uptime": duration(figures["uptime"]),
        "queued_bytes": size(figures["queued_bytes"]),
        "rss": size(figures["rss"]),
    }


run.params += verbosity_options()

COMMANDS = (run, stop, status)
