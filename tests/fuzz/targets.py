"""The fuzz targets: what each runs, how its inputs are changed, and where it starts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.fuzz import admission, bans, connection, exchange, framing, node, packets, receipts, session
from tests.fuzz.conversations import conversations
from tests.fuzz.mutation import Plain, mutate_conversation, mutate_packet
from tests.fuzz.seeds import FRAMES, PACKETS

CORPUS = Path(__file__).parent / "corpus"

Mutator = Callable[[bytes, int, int, Plain], bytes]


@dataclass(frozen=True)
class Target:
    """One thing to fuzz.

    Attributes:
        run: takes any bytes; what it raises is a finding.
        seeds: inputs to start from beside the corpus.
        mutate: changes an input; ``None`` leaves that to libFuzzer.
        max_size: longest input in bytes.
    """

    run: Callable[[bytes], None]
    seeds: list[bytes] = field(default_factory=list)
    mutate: Mutator | None = None
    max_size: int = 1024


def streams() -> list[bytes]:
    """Streams to start from, cut and limited in different ways."""
    return [bytes([number % 8, number % 9]) + frame * 3 for number, frame in enumerate(FRAMES)]


TARGETS: dict[str, Target] = {
    "framing": Target(framing.fuzz, streams(), max_size=256),
    "packets": Target(packets.fuzz, PACKETS, mutate_packet, max_size=512),
    "connection": Target(connection.fuzz, [b"\x00\x80\x04\x04\x03", b"\x80\x00\x84\x83\x02"], max_size=64),
    "receipts": Target(receipts.fuzz, [b"\x28\x04\x01\x0b\x13", b"\x10\x06\x03\xff"], max_size=64),
    "session": Target(session.fuzz, [bytes(8), b"\x01\x00\x00\x09", bytes(range(0, 256, 5))], max_size=128),
    "admission": Target(admission.fuzz, [bytes(9), b"\x05" + bytes(range(64))], max_size=128),
    "bans": Target(bans.fuzz, [b"\x00\x00\x05", b"\x01" + bytes(range(0, 256, 3))], max_size=128),
    "exchange": Target(exchange.fuzz, conversations(), mutate_conversation, max_size=1024),
    "node": Target(node.fuzz, conversations(), mutate_conversation, max_size=2048),
}


def corpus(name: str) -> list[Path]:
    """The committed inputs of a target."""
    return sorted((CORPUS / name).iterdir())
