"""Packets as bytes, legal and broken, each with the sentence that tells a client's author what it tries."""

from __future__ import annotations

from typing import NamedTuple

from peernet.wire.framing import encode_varint
from peernet.wire.packets import FIRST_BODY_FIELD, MAX_FIELD, MAX_FIELDS
from tests.unit.wire.samples import IDENTIFIER

VARINT, FIXED64, BYTES, GROUP, GROUP_END, FIXED32 = range(6)


class Sample(NamedTuple):
    """One packet without its length, and why it is what it is.

    ``complaint`` is a part of what the error says about a broken one.
    """

    content: bytes
    description: str
    complaint: str = ""


def tag(field: int, wire_type: int, size: int = 0) -> bytes:
    """A tag; of ``size`` bytes if that is more than it needs."""
    return padded(encode_varint(field << 3 | wire_type), size)


def padded(varint: bytes, size: int) -> bytes:
    """A varint made longer by groups of zeros, which change nothing."""
    if len(varint) >= size:
        return varint
    return varint[:-1] + bytes([varint[-1] | 0x80]) + b"\x80" * (size - len(varint) - 1) + b"\x00"


def field(number: int, content: bytes) -> bytes:
    """A length-delimited field."""
    return tag(number, BYTES) + encode_varint(len(content)) + content


def number(field_number: int, value: int) -> bytes:
    """A varint field."""
    return tag(field_number, VARINT) + encode_varint(value)


HELLO_TEXT = field(1, b"hello")
TEXT = field(20, HELLO_TEXT)
"""A pure_message that says hello."""

FULL_ENVELOPE = [
    number(1, 300),
    number(2, 2**35 - 1),
    number(3, 1),
    number(4, 127),
    field(5, IDENTIFIER.encode()),
    number(6, 128),
    number(8, 1),
]

READABLE: dict[str, Sample] = {
    "as usual": Sample(TEXT, "Most packets look like this: a body and no envelope."),
    "an empty body": Sample(field(20, b""), "A body may be empty."),
    "an origin that is no identifier": Sample(
        field(5, b"me") + TEXT, "It can be parsed; a peer that handles it then finds that the origin is not the sender."
    ),
    "a long origin": Sample(field(5, b"x" * 300) + TEXT, "The length of the origin has two bytes."),
    "the body before the envelope": Sample(TEXT + number(6, 5), "Fields come in any order."),
    "an unknown envelope number": Sample(number(9, 5) + TEXT, "Fields below 16 that are not known are ignored."),
    "an unknown envelope text": Sample(
        TEXT + field(15, b"\xff\xfe"), "What is ignored may be anything, even if it is no UTF-8."
    ),
    "as many fields as may be": Sample(number(4, 5) * (MAX_FIELDS - 1) + TEXT, "64 fields, of which the last counts."),
    "an unknown fixed64": Sample(tag(10, FIXED64) + bytes(8) + TEXT, "A field of wire type 1 is skipped by its size."),
    "an unknown fixed32": Sample(tag(9, FIXED32) + bytes(4) + TEXT, "A field of wire type 5 is skipped by its size."),
    "an envelope field of another wire type": Sample(
        field(1, b"abc") + TEXT, "A known envelope field of another wire type is ignored."
    ),
    "a number padded to ten bytes": Sample(
        number(3, 1)[:1] + padded(b"\x01", 10) + TEXT, "Numbers have up to ten bytes and need not be minimal."
    ),
    "a padded body length": Sample(tag(20, BYTES) + padded(b"\x07", 4) + HELLO_TEXT, "Lengths need not be minimal."),
    "a body length of five bytes": Sample(
        tag(20, BYTES) + padded(b"\x07", 5) + HELLO_TEXT, "A length has at most five bytes."
    ),
    "a padded body tag": Sample(tag(20, BYTES, 3) + TEXT[2:], "Tags need not be minimal."),
    "a body tag of five bytes": Sample(tag(20, BYTES, 5) + TEXT[2:], "A tag has at most five bytes."),
    "a padded envelope tag": Sample(tag(6, VARINT, 2) + b"\x05" + TEXT, "Nor need the tags of the envelope."),
    "unknown fields inside the body": Sample(
        field(20, number(77, 1) + HELLO_TEXT + field(78, b"\xff")), "Fields of a body that are not known are ignored."
    ),
}
"""Packets with one known body, pure_message, as few encoders write them."""

FUTURE: dict[str, Sample] = {
    "the first number kept for later": Sample(field(24, b"anything"), "Field 24 is kept for a kind of later versions."),
    "an empty one": Sample(field(31, b""), "A kind that is not known may have an empty body."),
    "a two-byte tag beyond the reserved ones": Sample(field(32, b""), "Every number from 16 on may become a kind."),
    "the largest field number": Sample(field(MAX_FIELD, b"abc"), "2^29 - 1 is the largest number that a field has."),
    "a padded tag": Sample(tag(24, BYTES, 5) + b"\x00", "The tag of a kind that is not known need not be minimal."),
    "with an envelope": Sample(
        number(2, 0) + number(3, 7) + field(5, b"\xff") + field(24, b"\xff\xff"),
        "It is skipped whatever its envelope and its body hold: here an origin that is no UTF-8.",
    ),
}
"""Packets of kinds that only newer peers know."""

BROKEN: dict[str, Sample] = {
    "nothing": Sample(b"", "A packet has a body.", "no body"),
    "an envelope only": Sample(number(1, 5), "Fields below 16 are no body.", "no body"),
    "an unknown envelope field only": Sample(field(15, b"x"), "Nor is one below 16 that is not known.", "no body"),
    "two bodies": Sample(TEXT + field(17, b""), "A packet has one body only.", "more than one body"),
    "the same body twice": Sample(TEXT + TEXT, "Bodies are not merged, as protobuf does.", "more than one body"),
    "a known and an unknown body": Sample(
        TEXT + field(24, b""), "A body that is not known counts as one.", "more than one body"
    ),
    "an unknown and a known body": Sample(field(24, b"") + TEXT, "So it does if it comes first.", "more than one body"),
    "two unknown bodies": Sample(field(24, b"") + field(25, b""), "And if there are two.", "more than one body"),
    "two bodies with an envelope between": Sample(
        TEXT + number(1, 5) + TEXT, "Whatever stands between them.", "more than one body"
    ),
    "too many fields": Sample(number(7, 1) * MAX_FIELDS + TEXT, "65 fields, the repeated ones counted.", "64 fields"),
    "too many fields after the body": Sample(
        TEXT + number(1, 5) * MAX_FIELDS, "Those behind the body count as well.", "64 fields"
    ),
    "a body as a number": Sample(number(20, 1), "A body is length-delimited.", "not a message"),
    "a body as a number beside a body": Sample(
        TEXT + number(17, 1), "A field of a known kind is length-delimited, also beside another body.", "not a message"
    ),
    "an unknown high field that is no message": Sample(
        number(99, 1), "A field from 16 on is a body, known or not, and so is length-delimited.", "not a message"
    ),
    "an unknown high number beside a body": Sample(
        number(99, 1) + TEXT, "The same beside a body: a varint field numbered 16 or higher.", "not a message"
    ),
    "an unknown high number behind a body": Sample(
        TEXT + number(FIRST_BODY_FIELD + 8, 1), "The same, behind the body.", "not a message"
    ),
    "an unknown high fixed64 beside a body": Sample(
        tag(24, FIXED64) + b"\xff" * 8 + TEXT, "The same with wire type 1.", "not a message"
    ),
    "an unknown high fixed32 beside a body": Sample(
        TEXT + tag(2**20, FIXED32) + bytes(4), "The same with wire type 5.", "not a message"
    ),
    "a body as a fixed64": Sample(tag(20, FIXED64) + bytes(8), "A body is length-delimited.", "not a message"),
    "a body as a fixed32": Sample(tag(20, FIXED32) + bytes(4), "A body is length-delimited.", "not a message"),
    "a body as a group": Sample(tag(20, GROUP) + tag(20, GROUP_END), "A body is length-delimited.", "not a message"),
    "a group in the envelope": Sample(
        tag(7, GROUP) + tag(7, GROUP_END) + TEXT, "There are no groups in proto3.", "wire type 3"
    ),
    "the end of a group": Sample(tag(7, GROUP_END) + TEXT, "There are no groups in proto3.", "wire type 4"),
    "wire type 6": Sample(tag(7, 6) + TEXT, "There is no wire type 6.", "wire type 6"),
    "wire type 7": Sample(tag(7, 7) + TEXT, "There is no wire type 7.", "wire type 7"),
    "a field number 0": Sample(b"\x02\x00" + TEXT, "There is no field 0.", "number 0"),
    "a field number 0 beside a kind from the future": Sample(
        field(24, b"") + b"\x00\x05", "There is no field 0, beside whatever body.", "number 0"
    ),
    "field number 2^29": Sample(
        field(MAX_FIELD + 1, b"abc"), "2^29 is no number of a field: its tag has more than 32 bits.", "number 536870912"
    ),
    "field number 2^29 beside a body": Sample(
        TEXT + number(MAX_FIELD + 1, 1), "The same beside a body.", "number 536870912"
    ),
    "field number 2^29 + 20 as a body": Sample(
        field(MAX_FIELD + 21, HELLO_TEXT), "Who keeps only 32 bits of the tag would take it for field 20.", "number"
    ),
    "a tag of six bytes": Sample(tag(20, BYTES, 6) + TEXT[2:], "A tag has at most five bytes.", "broken varint"),
    "a tag of ten bytes": Sample(tag(6, VARINT, 10) + b"\x05" + TEXT, "A tag has at most five bytes.", "broken varint"),
    "a body length of six bytes": Sample(
        tag(20, BYTES) + padded(b"\x07", 6) + HELLO_TEXT, "A length has at most five bytes.", "broken varint"
    ),
    "a tag cut off": Sample(TEXT + b"\xa2", "The packet ends within a tag.", "broken varint"),
    "a tag without end": Sample(b"\xff" * 12, "No byte ends the tag.", "broken varint"),
    "a number cut off": Sample(TEXT + tag(1, VARINT) + b"\x80", "The packet ends within a number.", "broken varint"),
    "a number missing": Sample(TEXT + tag(1, VARINT), "The packet ends behind a tag.", "broken varint"),
    "a number of eleven bytes": Sample(
        tag(1, VARINT) + b"\x80" * 10 + b"\x00" + TEXT, "A number has at most ten bytes.", "broken varint"
    ),
    "a length missing": Sample(tag(20, BYTES), "The packet ends behind a tag.", "broken varint"),
    "a body cut off": Sample(TEXT[:-1], "The body's length reaches beyond the packet.", "beyond the frame"),
    "a body that claims 4 GiB": Sample(
        tag(20, BYTES) + encode_varint(2**32 - 1), "So does this one, by 4 GiB.", "beyond the frame"
    ),
    "a body that claims 32 GiB": Sample(
        tag(20, BYTES) + encode_varint(2**35 - 1), "Five bytes hold 35 bits.", "beyond the frame"
    ),
    "a body that claims 2^63 bytes": Sample(
        tag(20, BYTES) + b"\xff" * 8 + b"\x7f", "A length has at most five bytes.", "broken varint"
    ),
    "a text cut off": Sample(
        TEXT + field(5, b"abc")[:-1], "A length in the envelope reaches beyond the packet.", "beyond the frame"
    ),
    "a fixed64 cut off": Sample(
        TEXT + tag(8, FIXED64) + bytes(7), "The packet ends within a field of wire type 1.", "beyond the frame"
    ),
    "a fixed32 cut off": Sample(
        TEXT + tag(8, FIXED32) + bytes(3), "The packet ends within a field of wire type 5.", "beyond the frame"
    ),
}
"""Packets that must be refused by looking at the envelope."""

UNPARSABLE: dict[str, Sample] = {
    "text that is not UTF-8": Sample(field(20, field(1, b"\xff")), "Texts are UTF-8."),
    "half a character": Sample(field(20, field(1, "ü".encode()[:1])), "Texts are UTF-8 to their end."),
    "a surrogate": Sample(field(20, field(1, b"\xed\xa0\x80")), "UTF-8 has no surrogates."),
    "an origin that is not UTF-8": Sample(field(5, b"\xff" * 52) + TEXT, "The origin is a text as well."),
    "a nested field cut off": Sample(field(20, HELLO_TEXT[:-1]), "A field of the body reaches beyond the body."),
    "a nested length beyond the body": Sample(field(20, tag(1, BYTES) + b"\x7f"), "So does this one."),
    "a nested message cut off": Sample(
        field(22, field(1, field(1, b"abc")[:-1])), "A field of a message in the body reaches beyond that."
    ),
    "a nested tag cut off": Sample(field(20, b"\x80"), "The body ends within a tag."),
    "a nested group without end": Sample(field(20, tag(9, GROUP)), "A group in the body has no end."),
    "a nested end of a group": Sample(field(20, tag(9, GROUP_END)), "A group in the body has no beginning."),
    "a nested field number 0": Sample(field(20, b"\x02\x00"), "There is no field 0 in a body either."),
    "random bytes": Sample(field(20, bytes(range(255, 205, -1))), "The body is no message at all."),
}
"""Packets that look right from outside and are refused when they are parsed."""

WRONG_HELLOS: dict[str, Sample] = {
    f"a hello with max_frame {size}": Sample(
        field(16, number(1, 1) + number(2, 1) + field(3, b"demo") + number(13, size)),
        "max_frame is 0, which means 1,048,576, or at least 4096.",
    )
    for size in (1, 4095)
}
"""Packets that can be parsed and say what cannot be."""
