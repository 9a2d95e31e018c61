"""What a peer says to a listening side, from which the fuzzing of whole exchanges starts."""

from __future__ import annotations

from peernet.v1 import packet_pb2 as pb
from peernet.wire.framing import encode_varint
from tests.fuzz.mutation import CUT
from tests.fuzz.seeds import FRAMES

OWN_SESSION = 0x5E5510
"""The number of the listening side's session, which is random otherwise."""
PEERS_SESSION = 7
NETWORK_NAME = "test"
PEER = "b" * 52


def framed(**fields: object) -> bytes:
    """A packet on the wire."""
    content = pb.Packet(**fields).SerializeToString()  # type: ignore[arg-type]
    return encode_varint(len(content)) + content


def hello(**fields: object) -> bytes:
    """A hello that is welcome, on an insecure connection too."""
    expected = {"protocol_min": 1, "protocol_max": 1, "network_name": NETWORK_NAME, "identifier": PEER}
    return framed(hello={**expected, **fields})


def text(message: str = "hi", **envelope: object) -> bytes:
    """A text message."""
    return framed(pure_message={"message": message}, **envelope)


def conversations() -> list[bytes]:
    """A byte of choices and connections: with each kind of packet, a long one, ones that are resumed, a goodbye."""
    begin = hello(session_id=PEERS_SESSION)
    both = {"session_id": PEERS_SESSION, "peer_session_id": OWN_SESSION}
    resume = hello(**both, last_sequence_received=1)
    told = framed(acknowledge={"refusals": [{"sequence": 2, "reason": 1}]}, acknowledged=3)
    unknown = b"\x03\xc2\x01\x00"
    return [
        *(b"\x00" + begin + frame for frame in FRAMES),
        b"\x03" + begin + text() * 70,
        b"\x05" + begin + unknown * 70,
        b"\x81" + begin + text() * 6 + told,
        b"\x02" + begin + told + text("", sequence=1, acknowledged=3),
        b"\x04" + CUT.join([begin + text() * 3, resume + told + text() * 2, resume, begin]),
        b"\x40" + CUT.join([begin + text() * 3, hello(**both), hello(**both, last_acknowledgement_received=2)]),
        b"\x28" + begin + text() + framed(heartbeat={}) * 20 + framed(acknowledge={}, acknowledged=1),
        b"\x85" + hello() + framed(heartbeat={}, request_id=5) + framed(disconnect={"reason": 1}) + text(),
        b"\x06" + begin + framed(disconnect={"reason": 16}) + CUT + resume + framed(disconnect={"message": "bye"}),
    ]
