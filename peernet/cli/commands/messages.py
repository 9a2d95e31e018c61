"""`send` and `listen`: packets to and from peers."""

from __future__ import annotations

import base64
import sys
from pathlib import Path
from typing import Any, BinaryIO

import click

from peernet.cli.base import (
    NodeCommand,
    check_beginnings,
    check_text,
    is_sendable,
    network_option,
    peer_argument,
    timeout_option,
)
from peernet.cli.lines import LINES
from peernet.cli.session import Session, pass_session
from peernet.errors import PacketTooBigError
from peernet.node.control import client
from peernet.node.failures import ControlTimeout, TimeIsUp
from peernet.node.settings import load_settings
from peernet.runtime.deadline import Deadline
from peernet.runtime.text import duration, short


@click.command(cls=NodeCommand)
@peer_argument
@click.argument("text", required=False, callback=check_text)
@click.option("-d", "--data", type=click.File("rb"), help="Send this file as a data_transmission; - is stdin.")
@click.option("--name", callback=check_text, help="What to call the data; by default the file's name.")
@network_option("Without a running node: the network to join.")
@click.option("--insecure", is_flag=True, default=None, help="Without a running node: plain TCP.")
@click.option(
    "--durable", is_flag=True, help="Store it, and have the node send it until PEER has acknowledged it, even if away."
)
@click.option(
    "--wait/--no-wait", default=None, help="Wait until the peer has acknowledged it; the default without --durable."
)
@timeout_option
@pass_session
def send(
    session: Session, /, peer: str, text: str | None, data: BinaryIO | None, timeout: float, **options: Any
) -> None:
    """Send TEXT, or data, to PEER.

    With - as TEXT it is read from stdin to its end, without one final newline.

    Succeeds when PEER has acknowledged the packet. Exits with 4 if PEER refuses it (a peer takes data only
    from those it trusts), with 5 if the time is over, with 1 if it was lost. With no node running on this
    home, PEER is dialled for the moment with the home's identity: one packet, and goodbye.

    With --durable it succeeds when the packet is on the disk; a running node, or the next one on this home,
    delivers it at least once. With --wait too, 5 means that it is not delivered yet and stays stored.
    """
    if (text is None) == (data is None):
        raise click.UsageError("give either TEXT or --data FILE.")
    if options["name"] is not None and data is None:
        raise click.UsageError("--name is for --data; a text has no name.")
    flags = {"network": options["network"], "insecure": options["insecure"]}
    settings = load_settings(session.home.config_file, flags)
    limit = settings.limits.max_frame
    message = {"text": _text(text or "", limit)} if data is None else _read(data, options["name"], limit)
    durable = options["durable"]
    confirm = not durable if options["wait"] is None else options["wait"]
    deadline = Deadline(timeout)

    def otherwise() -> dict[str, Any]:
        session.prepare()
        if durable:
            from peernet.node.offline_outbox import say_durably_once as send_once
        else:
            from peernet.node.once import send_once

        return send_once(session.home, settings, peer, message, timeout, confirm, deadline)

    arguments = {"peer": peer, "message": message, "timeout": timeout, "confirm": confirm}
    result = client.ask_or(session.home, otherwise, "send_durable" if durable else "send", timeout, arguments)
    done = "stored for" if durable and not confirm else "sent to"
    session.output.done(f"{done} {short(result['peer'])}", result)


def _check_kinds(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    if values:
        from peernet.wire.packets import KINDS, UNKNOWN  # only when needed: it takes longer than most commands

        known = [kind for kind in KINDS if not KINDS[kind].control] + [UNKNOWN.name]
        for value in values:
            if value not in known:
                raise click.BadParameter(f"{value!r} is not one of {', '.join(known)}.")
    return values


@click.command(cls=NodeCommand)
@click.option(
    "-e", "--event", "events", multiple=True, type=click.Choice(list(LINES)), help="Only events of this name."
)
@click.option(
    "-k",
    "--kind",
    "kinds",
    multiple=True,
    callback=_check_kinds,
    help="Only packets of this kind, such as pure_message.",
)
@click.option(
    "-f",
    "--from",
    "senders",
    multiple=True,
    callback=check_beginnings,
    help="Only from peers whose identifier starts with this.",
)
@click.option("-c", "--count", type=click.IntRange(min=1), help="End after so many events.")
@click.option("-t", "--timeout", type=click.FloatRange(min=0), metavar="SECONDS", help="End after this time.")
@pass_session
def listen(session: Session, /, count: int | None, timeout: float | None, **filters: tuple[str, ...]) -> None:
    """Print events as they happen.

    They are the lines of `run`, from now until the node stops. Exits with 5 if --timeout passes before
    --count events came; without --count, the end of the time is no failure.
    """
    shown = 0
    try:
        for event in client.stream(session.home, "listen", timeout):
            if not _wanted(event, **filters):
                continue
            click.echo(session.line_of(event))
            shown += 1
            if shown == count:
                return
    except TimeIsUp:
        if count is not None:
            raise ControlTimeout(f"only {shown} of {count} events came within {duration(timeout or 0)}") from None


def _wanted(event: dict[str, Any], events: tuple[str, ...], kinds: tuple[str, ...], senders: tuple[str, ...]) -> bool:
    sender = event.get("from", event.get("peer", ""))
    return (
        (not events or event["event"] in events)
        and (not kinds or event.get("kind") in kinds)
        and (not senders or sender.startswith(senders))
    )


def _text(written: str, limit: int) -> str:
    """The text that is meant, which is that of stdin for ``-``."""
    text = _from_stdin(limit) if written == "-" else written
    if not text:
        raise click.UsageError("the text is empty; there is nothing to send.")
    return text


def _from_stdin(limit: int) -> str:
    data = _read_all(sys.stdin.buffer, limit)
    try:
        return data.decode().removesuffix("\n")
    except UnicodeDecodeError as error:
        raise click.UsageError("what stdin holds is not UTF-8 text; send it with --data -") from error


def _read_all(file: BinaryIO, limit: int) -> bytes:
    """What is in a file; never reads more than can be sent."""
    data = file.read(limit + 1)
    if len(data) > limit:
        raise PacketTooBigError(f"the data does not fit into one packet of {limit} bytes (max_frame); send less")
    return data


def _read(file: BinaryIO, name: str | None, limit: int) -> dict[str, Any]:
    """The message in a file."""
    data = _read_all(file, limit)
    from_file = file.name not in ("-", "<stdin>")
    if name is None:
        name = Path(file.name).name if from_file else ""
        if not is_sendable(name):
            raise click.UsageError("the file's name is not UTF-8 text; give the data another with --name.")
    return {
        "data": base64.b64encode(data).decode(),
        "name": name,
        "format": "file" if from_file else "misc_data",
    }


COMMANDS: tuple[click.Command, ...] = (send, listen)
