"""Broadcasts: one message for many channels, and what became of it for each."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from google.protobuf.message import Message

from peernet.channel.channel import PeerChannel
from peernet.channel.control import ChannelControl
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


def broadcast(
    message: Message, channels: Iterable[PeerChannel], control_of: Callable[[PeerChannel], ChannelControl | None]
) -> dict[str, Outcome]:
    """Queue a message on many channels, serialised once; see :meth:`~peernet.network.PeerNetwork.broadcast`.

    Args:
        message: the body of a packet.
        channels: to whom.
        control_of: the control of a channel; ``None`` for one that is not open, which says so itself.
    """
    encoded = encode_body(message)
    outcomes = {}
    for channel in channels:
        try:
            control = control_of(channel)
            receipt = channel.try_send(message) if control is None else control.send_encoded(encoded, 0)
            outcomes[channel.peer.identifier] = Outcome(True, receipt=receipt)
        except PeerNetError as error:
            outcomes[channel.peer.identifier] = Outcome(False, error)
    return outcomes
