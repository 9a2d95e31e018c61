"""Bodies of packets as plain values, bounded whatever a peer has put into them."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from typing import Any

import gevent

from peernet.node.control.arguments import check_type
from peernet.node.failures import RequestError
from peernet.v1 import packet_pb2 as pb

# Data up to this size is shown; of more, size and hash have to do.
MAX_SHOWN_DATA = 1024
MAX_SHOWN_NAME = 255
# Larger data is hashed in a native thread, while other greenlets go on.
MAX_HASHED_HERE = 64 * 1024
MAX_SHOWN_PEERS = 100
MAX_SHOWN_ADDRESSES = 8

FORMATS = {
    "unspecified": pb.DATA_PAYLOAD_FORMAT_UNSPECIFIED,
    "file": pb.DATA_PAYLOAD_FORMAT_FILE,
    "task": pb.DATA_PAYLOAD_FORMAT_TASK,
    "misc_data": pb.DATA_PAYLOAD_FORMAT_MISC_DATA,
}
_FORMAT_NAMES = {number: name for name, number in FORMATS.items()}


def to_json(kind: str, packet: pb.Packet) -> dict[str, Any]:
    """The body of a packet as a JSON object; empty for kinds without one. Waits if its data is large."""
    describe = _BODIES.get(kind)
    return describe(packet) if describe else {}


def is_shown_whole(packet: pb.Packet) -> bool:
    """Whether :func:`to_json` leaves nothing out that its reader cannot do without."""
    return (
        len(packet.data_transmission.data) <= MAX_SHOWN_DATA
        and len(packet.collection_share.peers) <= MAX_SHOWN_PEERS
        and all(len(entry.addresses) <= MAX_SHOWN_ADDRESSES for entry in packet.collection_share.peers)
    )


def from_json(message: dict[str, Any]) -> pb.PureMessagePacket | pb.DataTransmissionPacket:
    """The body that a JSON object describes.

    Args:
        message: ``text``, or ``data`` in base64 with its ``name`` and ``format``.

    Raises:
        RequestError: it describes none.
    """
    for name in ("text",) if "text" in message else ("data", "name", "format"):
        check_type(name, message.get(name), str)
    if "text" in message:
        return pb.PureMessagePacket(message=message["text"])
    if message["format"] not in FORMATS:
        raise RequestError(f"there is no format {message['format']!r}; there are {', '.join(FORMATS)}")
    data = _decoded(message["data"])
    return pb.DataTransmissionPacket(data=data, name=message["name"], format=FORMATS[message["format"]])


def _decoded(data: str) -> bytes:
    try:
        return base64.b64decode(data, validate=True)
    except ValueError as error:
        raise RequestError(f"the data is not in base64 ({error})") from error


def _pure_message(packet: pb.Packet) -> dict[str, Any]:
    return {"message": packet.pure_message.message}


def _identifier(packet: pb.Packet) -> dict[str, Any]:
    body = packet.identifier
    return {"message": body.message, "listen_addresses": list(body.listen_addresses[:MAX_SHOWN_ADDRESSES])}


def _collection_share(packet: pb.Packet) -> dict[str, Any]:
    body = packet.collection_share
    shown = [
        {
            "identifier": entry.identifier,
            "addresses": list(entry.addresses[:MAX_SHOWN_ADDRESSES]),
            "last_seen_seconds": entry.last_seen_seconds,
        }
        for entry in body.peers[:MAX_SHOWN_PEERS]
    ]
    return {"count": len(body.peers), "peers": shown}


def _data_transmission(packet: pb.Packet) -> dict[str, Any]:
    body = packet.data_transmission
    described = {
        "format": _FORMAT_NAMES.get(body.format, "unspecified"),
        "name": body.name[:MAX_SHOWN_NAME],
        "size": len(body.data),
        "sha256": _sha256(body.data),
    }
    if len(body.data) <= MAX_SHOWN_DATA:
        described["data"] = base64.b64encode(body.data).decode()
    return described


def _sha256(data: bytes) -> str:
    if len(data) <= MAX_HASHED_HERE:
        return _digest(data)
    return str(gevent.get_hub().threadpool.apply(_digest, (data,)))


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


_BODIES: dict[str, Callable[[pb.Packet], dict[str, Any]]] = {
    "pure_message": _pure_message,
    "identifier": _identifier,
    "collection_share": _collection_share,
    "data_transmission": _data_transmission,
}
