"""Packets for tests: one of every kind, and strategies that make any."""

from __future__ import annotations

from google.protobuf.message import Message
from hypothesis import strategies as st

from peernet.v1 import packet_pb2 as pb

IDENTIFIER = "gopc76ixmmcqpnveeo244ccofbor7js5soz6e6tbsxj3x26jvyrq"

# One full body of every kind.
BODIES: dict[str, Message] = {
    "hello": pb.HelloPacket(
        protocol_min=1,
        protocol_max=1,
        network_name="demo",
        agent="peernet/0.1.0",
        listen_addresses=["192.0.2.1:40123", "[2001:db8::1]:40123"],
        observed_address="198.51.100.7:50001",
        heartbeat_interval_ms=15000,
        capabilities=["example"],
        identifier=IDENTIFIER,
        session_id=0x0123456789ABCDEF,
        peer_session_id=0xFEDCBA9876543210,
        last_sequence_received=300,
        max_frame=1048576,
        last_acknowledgement_received=299,
    ),
    "heartbeat": pb.HeartbeatPacket(),
    "acknowledge": pb.AcknowledgePacket(
        refusals=[
            pb.Refusal(sequence=7, reason=pb.REFUSAL_REASON_NOT_PERMITTED),
            pb.Refusal(sequence=300, reason=pb.REFUSAL_REASON_TOO_BIG),
        ]
    ),
    "disconnect": pb.DisconnectPacket(
        reason=pb.DISCONNECT_REASON_BUSY, message="no room now", retry_after_ms=5000, do_not_redial=True
    ),
    "pure_message": pb.PureMessagePacket(message="grüß dich 👋"),
    "identifier": pb.IdentifierPacket(message="at home", listen_addresses=["192.0.2.1:40123"]),
    "collection_share": pb.CollectionSharePacket(
        peers=[
            pb.PeerEntry(identifier=IDENTIFIER, addresses=["192.0.2.1:40123"], last_seen_seconds=61),
            pb.PeerEntry(),
        ]
    ),
    "data_transmission": pb.DataTransmissionPacket(
        format=pb.DATA_PAYLOAD_FORMAT_FILE, data=bytes(range(8)), name="eight.bin"
    ),
    "withdrawn": pb.WithdrawnPacket(),
}

_uint64 = st.integers(0, 2**64 - 1)
_uint32 = st.integers(0, 2**32 - 1)
_texts = st.lists(st.text(max_size=20), max_size=3)

_bodies = {
    "hello": st.builds(
        pb.HelloPacket,
        protocol_min=_uint32,
        network_name=st.text(max_size=20),
        listen_addresses=_texts,
        capabilities=_texts,
        session_id=_uint64,
        max_frame=_uint32,
    ),
    "heartbeat": st.just(pb.HeartbeatPacket()),
    "acknowledge": st.builds(
        pb.AcknowledgePacket,
        refusals=st.lists(st.builds(pb.Refusal, sequence=_uint64, reason=st.integers(0, 2**31 - 1)), max_size=3),
    ),
    "disconnect": st.builds(
        pb.DisconnectPacket,
        reason=st.integers(-(2**31), 2**31 - 1),
        message=st.text(max_size=20),
        retry_after_ms=_uint32,
        do_not_redial=st.booleans(),
    ),
    "pure_message": st.builds(pb.PureMessagePacket, message=st.text(max_size=200)),
    "identifier": st.builds(pb.IdentifierPacket, message=st.text(max_size=20), listen_addresses=_texts),
    "collection_share": st.builds(
        pb.CollectionSharePacket,
        peers=st.lists(
            st.builds(pb.PeerEntry, identifier=st.text(max_size=60), addresses=_texts, last_seen_seconds=_uint64),
            max_size=3,
        ),
    ),
    "data_transmission": st.builds(
        pb.DataTransmissionPacket,
        format=st.integers(0, 2**31 - 1),
        data=st.binary(max_size=20_000),
        name=st.text(max_size=20),
    ),
    "withdrawn": st.just(pb.WithdrawnPacket()),
}


@st.composite
def packets(draw: st.DrawFn) -> pb.Packet:
    """Any packet with a body."""
    kind = draw(st.sampled_from(sorted(_bodies)))
    packet = pb.Packet(
        sequence=draw(st.one_of(st.just(0), _uint64)),
        acknowledged=draw(st.one_of(st.just(0), _uint64)),
        request_id=draw(st.one_of(st.just(0), _uint64)),
        reply_to=draw(st.one_of(st.just(0), _uint64)),
        source_origin_identifier=draw(st.sampled_from(["", IDENTIFIER, "short", "x" * 200])),
        source_origin_time=draw(st.one_of(st.just(0), st.integers(-(2**63), 2**63 - 1))),
        packet_id=draw(st.sampled_from([b"", bytes(range(16)), b"short", b"x" * 200])),
        acknowledge_now=draw(st.booleans()),
    )
    getattr(packet, kind).CopyFrom(draw(_bodies[kind]))
    getattr(packet, kind).SetInParent()
    return packet
