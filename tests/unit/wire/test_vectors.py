"""The golden vectors in tests/vectors, which clients in other languages test themselves against.

A change of the packets that peernet writes fails here. Kinds and rules are only ever added:
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
from peernet.wire.connection import max_frame_of
from peernet.wire.framing import FrameDecoder, encode_varint
from peernet.wire.packets import KINDS, UNKNOWN, WITHDRAWN_FRAME, decode, encode_frame, peek
from tests.unit.wire.frames import BROKEN, FUTURE, READABLE, UNPARSABLE, WRONG_HELLOS, Sample
from tests.unit.wire.samples import BODIES, IDENTIFIER

FOLDER = Path(__file__).parents[2] / "vectors"
ENVELOPE = pb.Packet(
    sequence=300,
    acknowledged=299,
    request_id=2**53 - 1,
    reply_to=127,
    source_origin_identifier=IDENTIFIER,
    source_origin_time=1767225600000,
)
# As packets come that are sent until they are delivered.
REPEATED = pb.Packet(packet_id=bytes(range(0xA0, 0xB0)))


# Packets of which a rule speaks: name -> the packet, and the rule.
RULES: dict[str, tuple[pb.Packet, str]] = {
    "hello, with the least max_frame": (
        pb.Packet(hello=pb.HelloPacket(protocol_min=1, protocol_max=1, network_name="demo", max_frame=4096)),
        "4096 is the least that max_frame may be, besides 0.",
    ),
    "heartbeat, that asks": (
        pb.Packet(request_id=2**53 - 1, heartbeat=pb.HeartbeatPacket()),
        "A question; 2^53 - 1 is the highest number that a sender gives to one.",
    ),
    "heartbeat, that asks with a larger number": (
        pb.Packet(request_id=2**64 - 1, heartbeat=pb.HeartbeatPacket()),
        "No sender should use it. A receiver repeats the number in reply_to all the same, and loses no digit.",
    ),
    "heartbeat, that answers": (
        pb.Packet(reply_to=2**53 - 1, heartbeat=pb.HeartbeatPacket()),
        "The answer carries the number in reply_to.",
    ),
    "heartbeat, with a sequence": (
        pb.Packet(sequence=7, heartbeat=pb.HeartbeatPacket()),
        "A heartbeat is not numbered, so its sequence is ignored, whatever it is.",
    ),
    "acknowledge, with every refusal": (
        pb.Packet(
            acknowledged=9,
            acknowledge=pb.AcknowledgePacket(
                refusals=[pb.Refusal(sequence=5 + number, reason=number) for number in pb.RefusalReason.values()]
            ),
        ),
        "Packets 5 to 9 were refused, each for another reason.",
    ),
    "acknowledge, with a failed handler": (
        pb.Packet(
            acknowledged=3,
            acknowledge=pb.AcknowledgePacket(refusals=[pb.Refusal(sequence=3, reason=4)]),  # type: ignore[arg-type]
        ),
        "HANDLER_FAILED: the callback for packet 3 took it and failed.",
    ),
    "acknowledge, with a refusal from the future": (
        pb.Packet(
            acknowledged=3,
            acknowledge=pb.AcknowledgePacket(refusals=[pb.Refusal(sequence=3, reason=99)]),  # type: ignore[arg-type]
        ),
        "A reason that is not known is a refusal all the same.",
    ),
    "acknowledge, that asks": (
        pb.Packet(acknowledge_now=True, acknowledge=pb.AcknowledgePacket()),
        "Somebody waits for the packets sent before: the receiver acknowledges at once what it has handled.",
    ),
    "acknowledge, that tells and asks": (
        pb.Packet(acknowledged=300, acknowledge_now=True, acknowledge=pb.AcknowledgePacket()),
        "An acknowledgement goes along with the question.",
    ),
    "pure_message, that asks": (
        pb.Packet(acknowledged=1, acknowledge_now=True, pure_message=pb.PureMessagePacket(message="hello")),
        "Any packet may ask; it is acknowledged as soon as it is handled, with all before it.",
    ),
    "hello, of a peer that asks": (
        pb.Packet(
            hello=pb.HelloPacket(
                protocol_min=1,
                protocol_max=1,
                network_name="demo",
                capabilities=["acknowledge_now"],
                session_id=0x1122334455667788,
            )
        ),
        "Towards this peer acknowledgements may be rare, because it asks when it waits.",
    ),
    "disconnect, with a reason from the future": (
        pb.Packet(disconnect=pb.DisconnectPacket(reason=99, message="because")),  # type: ignore[arg-type]
        "A reason that is not known counts as unspecified.",
    ),
    "withdrawn, with a sequence": (
        pb.Packet(sequence=4, withdrawn=pb.WithdrawnPacket()),
        "It is numbered, so that a sequence on it is the number that the receiver has counted.",
    ),
}


def make_packets() -> list[dict[str, Any]]:
    """Every kind: empty, full, and with an envelope; what rules speak of; and what few encoders write."""
    vectors = []
    for name, body in BODIES.items():
        what = f"A packet of kind {name}"
        vectors.append(_vector(f"{name}, empty", f"{what}; its body has no fields.", pb.Packet(), type(body)(), name))
        vectors.append(_vector(f"{name}, full", f"{what}, with every field of its body.", pb.Packet(), body, name))
        vectors.append(
            _vector(f"{name}, with an envelope", f"{what}, with fields of the envelope.", ENVELOPE, body, name)
        )
    body = BODIES["pure_message"]
    vectors.append(
        _vector(
            "pure_message, with an id", "A packet that is sent until it is handled.", REPEATED, body, "pure_message"
        )
    )
    for name, (packet, rule) in RULES.items():
        kind = name.partition(",")[0]
        envelope = _without(packet, kind)
        vectors.append(_vector(name, rule, envelope, getattr(packet, kind), kind))
    return vectors + [
        _unusual(name, sample) for name, sample in READABLE.items() if sample.content != _canonical(sample)
    ]


def make_refused() -> list[dict[str, str]]:
    """Packets that must be skipped, and packets that must end the connection."""
    broken = BROKEN | UNPARSABLE | WRONG_HELLOS
    outcomes = [("skipped", *item) for item in FUTURE.items()] + [("bad_packet", *item) for item in broken.items()]
    return [
        {"name": name, "description": sample.description, "outcome": outcome, "frame": _frame(sample.content)}
        for outcome, name, sample in outcomes
    ]


def _vector(name: str, description: str, envelope: pb.Packet, body: Message, kind: str) -> dict[str, Any]:
    packet = pb.Packet()
    packet.MergeFrom(envelope)
    getattr(packet, kind).SetInParent()
    getattr(packet, kind).MergeFrom(body)
    return _described(name, description, packet, packet.SerializeToString(deterministic=True), canonical=True)


def _unusual(name: str, sample: Sample) -> dict[str, Any]:
    packet = pb.Packet.FromString(sample.content)
    packet.DiscardUnknownFields()
    return _described(name, sample.description, packet, sample.content, canonical=False)


def _described(name: str, description: str, packet: pb.Packet, content: bytes, *, canonical: bool) -> dict[str, Any]:
    return {
        "name": name,
        "description": description,
        "kind": packet.WhichOneof("body"),
        "canonical": canonical,
        "packet": MessageToDict(packet, preserving_proto_field_name=True),
        "frame": _frame(content),
    }


def _frame(content: bytes) -> str:
    return (encode_varint(len(content)) + content).hex()


def _canonical(sample: Sample) -> bytes:
    return pb.Packet.FromString(sample.content).SerializeToString(deterministic=True)


def _without(packet: pb.Packet, kind: str) -> pb.Packet:
    envelope = pb.Packet()
    envelope.CopyFrom(packet)
    envelope.ClearField(kind)  # type: ignore[arg-type]
    return envelope


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


def test_every_vector_says_in_a_sentence_what_it_tries_and_has_a_name_of_its_own() -> None:
    vectors = [vector for name in MAKERS for vector in read(name)]
    assert all(vector["description"].endswith(".") and " " in vector["description"] for vector in vectors)
    names = [vector["name"] for vector in vectors]
    assert len(set(names)) == len(names)


def test_what_is_sent_for_a_withdrawn_packet_is_a_vector() -> None:
    (vector,) = (one for one in read("packets.json") if one["name"] == "withdrawn, empty")
    assert vector["frame"] == WITHDRAWN_FRAME.hex()


def test_a_refusal_by_a_failed_handler_is_known_and_one_from_the_future_is_a_refusal() -> None:
    by_name = {vector["name"]: vector for vector in read("packets.json")}
    reasons = {}
    for name in ("acknowledge, with a failed handler", "acknowledge, with a refusal from the future"):
        (frame,) = frames_in(by_name[name])
        (refusal,) = decode(frame).acknowledge.refusals
        reasons[name.rpartition(" a ")[2]] = Reason.from_refusal_number(refusal.reason)
    assert reasons == {"failed handler": Reason.HANDLER_FAILED, "refusal from the future": Reason.REFUSED}


@pytest.mark.parametrize("vector", **named([one for one in read("packets.json") if one["canonical"]]))
def test_peernet_writes_the_vector_byte_for_byte(vector: dict[str, Any]) -> None:
    packet = ParseDict(vector["packet"], pb.Packet())
    envelope = _without(packet, vector["kind"])
    assert encode_frame(getattr(packet, vector["kind"]), envelope.SerializeToString()).hex() == vector["frame"]


@pytest.mark.parametrize("vector", **named(read("packets.json")))
def test_peernet_reads_the_vector(vector: dict[str, Any]) -> None:
    (frame,) = frames_in(vector)
    assert peek(frame).name == vector["kind"]
    packet = decode_checked(frame)
    packet.DiscardUnknownFields()
    assert packet == ParseDict(vector["packet"], pb.Packet())


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
    packet = decode(frame)
    max_frame_of(packet.hello)
    return packet


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
