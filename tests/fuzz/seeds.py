"""What fuzzing starts from: the test vectors, and parts of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

VECTORS = Path(__file__).parents[1] / "vectors"


def vectors(name: str) -> list[dict[str, Any]]:
    """The vectors in a file."""
    read: list[dict[str, Any]] = json.loads((VECTORS / name).read_text(encoding="utf-8"))
    return read


FRAMES = [bytes.fromhex(vector["frame"]) for name in ("packets.json", "refused.json") for vector in vectors(name)]
"""Frames, with their lengths."""

PACKETS = [frame[2 if frame[0] >= 0x80 else 1 :] for frame in FRAMES]
"""The same without."""

# Fields of packets and of bodies, legal and not.
FRAGMENTS = [
    *PACKETS,
    b"\x08\x01",
    b"\x10\x02",
    b"\x18\x05",
    b"\x20\x07",
    b"\x2a\x02me",
    b"\x30\x01",
    b"\x38\x07",
    b"\x7a\x03new",
    b"\x0a\x00",
    b"\x0a\x01\xff",
    b"\x0a\x02hi",
    b"\x12\x00",
    b"\x12\x02hi",
    b"\x51" + bytes(8),
    b"\x4d" + bytes(4),
    b"\x0b\x0c",
    b"\x0b" * 20,
    b"\x0f",
    b"\x02\x00",
    b"\xa2\x01\x00",
    b"\x8a\x01\x00",
    b"\x92\x01\x00",
    b"\xc2\x01\x00",
    b"\xa0\x01\x05",
    b"\xfa\xff\xff\xff\x0f\x00",
    b"\xff" * 11,
]
