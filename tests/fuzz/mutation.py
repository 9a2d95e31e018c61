"""Mutations that know protobuf: fields dropped, doubled, swapped, retyped, and lengths that lie.

Plain mutations of bytes break the length of a packet almost always, and so never get
behind the first check; these keep the lengths right, most of the time.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from peernet.wire.framing import encode_varint
from tests.fuzz.seeds import FRAGMENTS, PACKETS

CUT = b"\xff\xff\xffCUT"
"""Stands between the connections of one conversation."""

INTERESTING = (
    0,
    1,
    2,
    127,
    128,
    255,
    4095,
    4096,
    2**16,
    2**20,
    2**20 + 1,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**63,
    2**64 - 1,
)
MAX_DEPTH = 4

Plain = Callable[[bytes, int], bytes]
"""A mutation of bytes: of these, to at most so many."""


def mutate_packet(data: bytes, max_size: int, seed: int, plain: Plain) -> bytes:
    """A frame, changed."""
    rng = random.Random(seed)
    if rng.random() < 0.25:
        return plain(data, max_size)
    return message(rng, data)[:max_size]


def mutate_conversation(data: bytes, max_size: int, seed: int, plain: Plain) -> bytes:
    """A byte of choices and then connections of frames, changed in one of them."""
    rng = random.Random(seed)
    if not data or rng.random() < 0.2:
        return plain(data, max_size)
    head, connections = data[:1], data[1:].split(CUT)
    if rng.random() < 0.1:
        head = rng.randbytes(1)
    at = rng.randrange(len(connections))
    chance = rng.random()
    if chance < 0.1:
        connections.insert(at, connections[rng.randrange(len(connections))])
    elif chance < 0.15 and len(connections) > 1:
        del connections[at]
    else:
        connections[at] = stream(rng, connections[at])
    return (head + CUT.join(connections))[:max_size]


def stream(rng: random.Random, data: bytes) -> bytes:
    """Frames, one of them changed."""
    contents = split_frames(data)
    at = rng.randrange(len(contents) + 1)
    action = rng.randrange(8)
    if action == 0 or at == len(contents):
        contents.insert(at, rng.choice(PACKETS))
    elif action == 1:
        del contents[at]
    elif action == 2:
        contents.insert(rng.randrange(len(contents) + 1), contents[at])
    elif action == 3:
        contents.append(contents.pop(at))
    else:
        contents[at] = message(rng, contents[at])
    frames = [encode_varint(len(content)) + content for content in contents]
    if rng.random() < 0.1 and frames:  # a length that lies
        frames[rng.randrange(len(frames))] = number(rng) + rng.choice(contents)
    return b"".join(frames)


def message(rng: random.Random, data: bytes, depth: int = 0) -> bytes:
    """A protobuf message, one or a few of its fields changed."""
    fields = split_fields(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        at = rng.randrange(len(fields) + 1)
        action = rng.randrange(9)
        if action <= 1 or at == len(fields):
            fields.insert(at, rng.choice(FRAGMENTS))
        elif action == 2:
            del fields[at]
        elif action == 3:
            fields.insert(rng.randrange(len(fields) + 1), fields[at])
        elif action == 4:
            fields[at : at + 1] = fields[at : at + 1] * rng.choice((2, 30, 300))
        elif action == 5 and len(fields[at]) > 1:
            fields[at] = bytes([fields[at][0] ^ rng.randrange(256)]) + fields[at][1:]
        else:
            fields[at] = value(rng, fields[at], depth)
    return b"".join(fields)


def value(rng: random.Random, field: bytes, depth: int) -> bytes:
    """A field with another value."""
    tag, start = varint(field, 0)
    kind, head = tag & 7, field[:start]
    if kind == 0:
        return head + number(rng)
    if kind != 2:
        return head + rng.randbytes(8)
    _, start = varint(field, start)
    content = field[start:]
    if depth < MAX_DEPTH and rng.random() < 0.6:
        content = message(rng, content, depth + 1)
    elif content:
        at = rng.randrange(len(content))
        content = content[:at] + rng.randbytes(rng.randrange(3)) + content[at + 1 :]
    length = number(rng) if rng.random() < 0.05 else encode_varint(len(content))
    return head + length + content


def number(rng: random.Random) -> bytes:
    """A varint, perhaps longer than need be."""
    encoded = encode_varint(max(0, rng.choice(INTERESTING) + rng.choice((0, 0, 0, -1, 1))))
    if rng.random() < 0.1:
        encoded = encoded[:-1] + bytes([encoded[-1] | 0x80]) + b"\x80" * rng.randrange(8) + b"\x00"
    return encoded


def split_frames(data: bytes) -> list[bytes]:
    """The contents of the frames; what is left over is the last."""
    contents, position = [], 0
    while position < len(data):
        length, start = varint(data, position)
        position = start + length
        contents.append(data[start:position])
    return contents


def split_fields(data: bytes) -> list[bytes]:
    """The fields of a message, tags included; what is left over is the last."""
    fields, position = [], 0
    while position < len(data):
        tag, end = varint(data, position)
        kind = tag & 7
        if kind == 0:
            end = varint(data, end)[1]
        elif kind == 2:
            length, end = varint(data, end)
            end += length
        else:
            end += {1: 8, 5: 4}.get(kind, 0)
        fields.append(data[position:end])
        position = end
    return fields


def varint(data: bytes, position: int) -> tuple[int, int]:
    """The varint at a position and where it ends, also of one that is cut off."""
    read = 0
    for index, byte in enumerate(data[position : position + 10]):
        read |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return read, position + index + 1
    return read, min(len(data), position + 10)
