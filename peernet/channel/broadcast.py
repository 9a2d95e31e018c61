"""Broadcasts: one message for many channels, and what became of it for each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from google.protobuf.message import Message

from peernet.channel.channel import PeerChannel
from peernet.channel.receipts import Receipt
from peernet.errors import PeerNetError
from peernet.wire.packets import encode_body


@dataclass(frozen=True)
class Outcome:
    """What became of a broadcast for one peer: queued, or the error that kept it from being queued.

    ``receipt`` tells what becomes of what is queued.
    """

    queued: bool
    error: PeerNetError | None = None
    receipt: Receipt | None = None


def broadcast(message: Message, channels: Iterable[PeerChannel]) -> dict[str, Outcome]:
    """Queue a message on all of the channels, serialised once; see :meth:`~peernet.network.PeerNetwork.broadcast`."""
    encoded = encode_body(message)
    outcomes = {}
    for channel in channels:
        try:
            receipt = channel.send_encoded(encoded, 0)
            outcomes[channel.peer.identifier] = Outcome(True, receipt=receipt)
        except PeerNetError as error:
            outcomes[channel.peer.identifier] = Outcome(False, error)
    return outcomes
