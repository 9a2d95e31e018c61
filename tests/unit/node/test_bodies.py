"""Bodies of packets as JSON objects, bounded whatever a peer has put into them."""

from __future__ import annotations

import base64
from types import SimpleNamespace
from typing import Any

import pytest
from gevent.monkey import get_original

from peernet.node import bodies
from peernet.node.bodies import MAX_HASHED_HERE, MAX_SHOWN_DATA, MAX_SHOWN_PEERS
from peernet.node.failures import RequestError
from peernet.v1 import packet_pb2 as pb

get_ident = get_original("_thread", "get_ident")

SOMEBODY = "a" * 52


def test_a_message() -> None:
    packet = pb.Packet(pure_message=pb.PureMessagePacket(message="hi"))
    assert bodies.to_json("pure_message", packet) == {"message": "hi"}


def test_small_data_is_shown_and_big_data_described() -> None:
    small = pb.Packet(
        data_transmission=pb.DataTransmissionPacket(
            data=b"x" * MAX_SHOWN_DATA, name="n" * 999, format=pb.DATA_PAYLOAD_FORMAT_FILE
        )
    )
    body = bodies.to_json("data_transmission", small)
    assert base64.b64decode(body["data"]) == b"x" * MAX_SHOWN_DATA
    assert (body["format"], len(body["name"])) == ("file", 255)
    big = pb.Packet(data_transmission=pb.DataTransmissionPacket(data=b"x" * (MAX_SHOWN_DATA + 1), format=99))  # type: ignore[arg-type]
    body = bodies.to_json("data_transmission", big)
    assert "data" not in body
    assert (body["size"], len(body["sha256"]), body["format"]) == (MAX_SHOWN_DATA + 1, 64, "unspecified")


def test_lists_are_cut() -> None:
    entries = [pb.PeerEntry(identifier=SOMEBODY, addresses=["h:1"] * 20)] * (MAX_SHOWN_PEERS + 5)
    body = bodies.to_json("collection_share", pb.Packet(collection_share=pb.CollectionSharePacket(peers=entries)))
    assert (body["count"], len(body["peers"]), len(body["peers"][0]["addresses"])) == (
        MAX_SHOWN_PEERS + 5,
        MAX_SHOWN_PEERS,
        8,
    )
    packet = pb.Packet(identifier=pb.IdentifierPacket(message="x", listen_addresses=["h:1"] * 20))
    assert len(bodies.to_json("identifier", packet)["listen_addresses"]) == 8


def test_a_kind_without_a_body() -> None:
    assert bodies.to_json("heartbeat", pb.Packet()) == {}


def test_large_data_is_hashed_while_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[int] = []

    def sha256(data: bytes) -> SimpleNamespace:
        threads.append(get_ident())
        return SimpleNamespace(hexdigest=lambda: "hash")

    monkeypatch.setattr(bodies, "hashlib", SimpleNamespace(sha256=sha256))
    for size in (MAX_HASHED_HERE, MAX_HASHED_HERE + 1):
        packet = pb.Packet(data_transmission=pb.DataTransmissionPacket(data=b"x" * size))
        assert bodies.to_json("data_transmission", packet)["sha256"] == "hash"
    assert threads[0] == get_ident() != threads[1]


def test_messages_that_are_sent() -> None:
    assert bodies.from_json({"text": "hi"}) == pb.PureMessagePacket(message="hi")
    data = {"data": base64.b64encode(b"x").decode(), "name": "n", "format": "file"}
    assert bodies.from_json(data) == pb.DataTransmissionPacket(data=b"x", name="n", format=pb.DATA_PAYLOAD_FORMAT_FILE)


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"text": ["hi"]},
        {"text": None},
        {"data": "*", "name": "", "format": "file"},
        {"data": "", "name": 5, "format": "file"},
        {"data": "", "name": "", "format": "party"},
        {"data": "", "name": "", "format": {}},
    ],
    ids=repr,
)
def test_messages_that_are_none(message: dict[str, Any]) -> None:
    with pytest.raises(RequestError):
        bodies.from_json(message)
