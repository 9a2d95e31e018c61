"""The golden vectors in tests/vectors, which clients in other languages test themselves against.

A change of the packets that peernet writes fails here. Kinds are only ever added:
``python -m tests.unit.wire.test_vectors`` then writes the files anew.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message import Message

from peernet.errors import RemoteProtocolError
from peernet.reasons import Reason
from peernet.v1 import packet_pb2 as pb
from peernet.wire.framing import FrameDecoder, encode_varint
from peernet.wire.packets import KINDS, UNKNOWN, decode, encode_frame, peek
from tests.unit.wire.samples import BODIES, IDENTIFIER
from tests.unit.wire.test_packets import BROKEN, FUTURE, UNPARSABLE

FOLDER = Path(__file__).parents[2] / "vectors"
ENVELOPE = pb.Packet(
    sequence=300,
    acknowledged=299,
    request_id=2**64 - 1,
    reply_to=127,
    source_origin_identifier=IDENTIFIER,
    source_origin_time=1767225600000,
)
# As packets come that are sent until they are delivered.
REPEATED = pb.Packet(packet_id=bytes(range(0xA0, 0xB0)))


def make_packets() -> list[dict[str, Any]]:
    """Every kind: empty, full, and with an envelope."""
    vectors = []
    for name, body in BODIES.items():
        vectors.append(_vector(f"{name}, empty", pb.Packet(), type(body)(), name))
        vectors.append(_vector(f"{name}, full", pb.Packet(), body, name))
        vectors.append(_vector(f"{name}, with an envelope", ENVELOPE, body, name))
    vectors.append(_vector("pure_message, with an id", REPEATED, BODIES["pure_message"], "pure_message"))
    return vectors


def make_refused() -> list[dict[str, str]]:
    """Packets that must be skipped, and packets that must end the connection."""
    skipped = [("skipped", name, frame) for name, frame in FUTURE.items()]
    broken = [("bad_packet", name, frame) for name, (frame, _) in BROKEN.items()]
    unparsable = [("bad_packet", name, frame) for name, frame in UNPARSABLE.items()]
    return [
        {"name": name, "outcome": outcome, "frame": (encode_varint(len(frame)) + frame).hex()}
        for outcome, name, frame in skipped + broken + unparsable
    ]


def _vector(name: str, envelope: Message, body: Message, kind: str) -> dict[str, Any]:
    packet = pb.Packet()
    packet.MergeFrom(envelope)
    getattr(packet, kind).SetInParent()
    getattr(packet, kind).MergeFrom(body)
    content = packet.SerializeToString(deterministic=True)
    return {
        "name": name,
        "kind": kind,
        "packet": MessageToDict(packet, preserving_proto_field_name=True),
        "frame": (encode_varint(len(content)) + content).hex(),
    }


MAKERS = {"packets.json": make_packets, "refused.json": make_refused}


def read(name: str) -> list[dict[str, Any]]:
    vectors: list[dict[str, Any]] = json.loads((FOLDER / name).read_text(encoding="utf-8"))
    return vectors


def named(vectors: list[dict[str, Any]]) -> dict[str, Any]:
    return {"argvalues": vectors, "ids": [vector["name"] for vector in vectors]}


@pytest.mark.parametrize("name", MAKERS)
def test_the_committed_vectors_are_the_ones_of_this_version(name: str) -> None:
    assert read(name) == MAKERS[name]()


def test_there_are_vectors_for_every_kind() -> None:
    assert {vector["kind"] for vector in read("packets.json")} == set(KINDS)


@pytest.mark.parametrize("vector", **named(read("packets.json")))
def test_peernet_writes_the_vector_byte_for_byte(vector: dict[str, Any]) -> None:
    packet = ParseDict(vector["packet"], pb.Packet())
    body = getattr(packet, vector["kind"])
    envelope = pb.Packet()
    envelope.CopyFrom(packet)
    envelope.ClearField(vector["kind"])
    assert encode_frame(body, envelope.SerializeToString()).hex() == vector["frame"]


@pytest.mark.parametrize("vector", **named(read("packets.json")))
def test_peernet_reads_the_vector(vector: dict[str, Any]) -> None:
    (frame,) = frames_in(vector)
    assert peek(frame).name == vector["kind"]
    assert decode(frame) == ParseDict(vector["packet"], pb.Packet())


@pytest.mark.parametrize("vector", **named(read("refused.json")))
def test_peernet_skips_or_refuses_the_vector(vector: dict[str, Any]) -> None:
    (frame,) = frames_in(vector)
    if vector["outcome"] == "skipped":
        assert peek(frame) is UNKNOWN
        return
    with pytest.raises(RemoteProtocolError) as caught:
        decode_checked(frame)
    assert caught.value.reason == Reason(vector["outcome"])


def decode_checked(frame: bytes | bytearray) -> pb.Packet:
    peek(frame)
    return decode(frame)


def frames_in(vector: dict[str, Any]) -> list[bytes | bytearray]:
    decoder = FrameDecoder(4096)
    decoder.receive_data(bytes.fromhex(vector["frame"]))
    return list(decoder.frames())


def write_vectors() -> None:
    """Write the files anew, for a kind that was added."""
    for name, make in MAKERS.items():
        text = json.dumps(make(), indent=1, ensure_ascii=False)
        (FOLDER / name).write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    write_vectors()
