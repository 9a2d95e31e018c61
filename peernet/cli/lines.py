"""Events as lines that people read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from peernet.cli.output import clock, named
from peernet.runtime.text import duration, printable, short

# What is shown of one text.
MAX_TEXT = 400

Fields = dict[str, Any]


def line_of(event: Fields) -> str:
    """An event as one line for people."""
    name = event["event"]
    describe = LINES.get(name)
    return f"{clock(event['time'])}  {name:13}  {describe(event) if describe else ''}".rstrip()


def _ready(event: Fields) -> str:
    return f"{event['identifier']} at {', '.join(event['addresses']) or 'no address'}"


def _peer_added(event: Fields) -> str:
    trust = "trusted" if event["trusted"] else "untrusted"
    claimed = "" if event["proven"] else ", identity not proven"
    direction = "dialled" if event["dialled"] else "inbound"
    return f"{short(event['peer'])} at {printable(event['address'])} ({direction}, {trust}{claimed})"


def _peer_removed(event: Fields) -> str:
    who = "said by the peer" if event["by_peer"] else "noticed here"
    message = f": {printable(event['message'], MAX_TEXT)}" if event["message"] else ""
    return f"{short(event['peer'])}: {event['reason']} ({who}){message}"


def _packet(event: Fields) -> str:
    body = event["body"]
    if event["kind"] == "pure_message":
        what = printable(body["message"], MAX_TEXT)
    else:
        what = ", ".join(f"{name} {printable(value)}" for name, value in body.items() if value not in ("", []))
    return f"{event['kind']} from {short(event['from'])}: {what}"


def _refused(event: Fields) -> str:
    count = event.get("count", 1)  # a node older than this command tells of each
    many = f" ({count} packets)" if count > 1 else ""
    return f"{event['kind']} from {short(event['from'])}: {printable(event['why'], MAX_TEXT)}{many}"


def _handler_failing(event: Fields) -> str:
    error = printable(event["error"])
    return f"the callback for {event['kind']} fails on every packet from {short(event['from'])}: {error}"


def _set_aside(event: Fields) -> str:
    peer = short(event["peer"])
    return (
        f"a stored packet for {peer}, whose callback failed {event['attempts']} times: "
        f"`peernet-node outbox retry {peer}` sends it again"
    )


def _pending(event: Fields) -> str:
    peer = short(event["peer"])
    return (
        f"{peer} at {printable(event['address'])}: `peernet-node accept {peer}` or reject it "
        f"within {duration(event['decision_timeout'])}"
    )


def _list_changed(event: Fields) -> str:
    return f"{named(event['entry'])} is {'now' if event['added'] else 'no longer'} {event['list']}"


def _trust_changed(event: Fields) -> str:
    return f"{short(event['peer'])} is now {'trusted' if event['trusted'] else 'untrusted'}"


def _banned(event: Fields) -> str:
    return f"{named(event['who'])} for {duration(event['expires'] - event['since'])}: {event['reason']}"


def _reconnecting(event: Fields) -> str:
    return f"{short(event['peer'])}: the connection is lost, the channel waits for another one"


def _resumed(event: Fields) -> str:
    return f"{short(event['peer'])}: connected again, nothing is lost"


def _dial_failed(event: Fields) -> str:
    after = "given up" if event["retry_in"] is None else f"next attempt in {duration(event['retry_in'])}"
    return f"{printable(event['address'])}: {printable(event['error'], MAX_TEXT)} ({after})"


def _dropped(event: Fields) -> str:
    return f"{event['count']} events could not be shown, because they were not read fast enough"


LINES: dict[str, Callable[[Fields], str]] = {
    "ready": _ready,
    "peer_added": _peer_added,
    "peer_removed": _peer_removed,
    "packet": _packet,
    "refused": _refused,
    "handler_failing": _handler_failing,
    "set_aside": _set_aside,
    "pending": _pending,
    "trust_changed": _trust_changed,
    "list_changed": _list_changed,
    "banned": _banned,
    "reconnecting": _reconnecting,
    "resumed": _resumed,
    "dial_failed": _dial_failed,
    "dropped": _dropped,
}
"""What makes each event a line, by its name: there are no other events."""
