"""What speaks at the other end if it is not peernet, told from the first bytes that it has sent."""

from __future__ import annotations

# As much as the longest sign below takes. Bytes.
BEGINNING = 16

# How protocols begin: SSH (RFC 4253 4.2), HTTP (RFC 9112 3 and 4, and pages without a status line), and records of TLS
# that hold an alert or a handshake (RFC 8446 5.1). In small letters.
SIGNS: tuple[tuple[bytes, str], ...] = (
    (b"ssh-", "SSH"),
    (b"http/", "HTTP"),
    (b"<!doctype html", "HTTP"),
    (b"<html", "HTTP"),
    (b"get /", "HTTP"),
    (b"head /", "HTTP"),
    (b"post /", "HTTP"),
    (b"options ", "HTTP"),
    (b"\x15\x03", "TLS"),
    (b"\x16\x03", "TLS"),
)


def protocol_of(beginning: bytes) -> str:
    """The name of the protocol that begins so; empty if it is none of those that are often met."""
    lowered = beginning.lower()
    return next((name for sign, name in SIGNS if lowered.startswith(sign)), "")


def not_tls(beginning: bytes, problem: str) -> str:
    """Why a TLS handshake failed, as a sentence.

    Args:
        beginning: the first bytes of the other side.
        problem: what TLS itself has to say.
    """
    name = protocol_of(beginning)
    if name == "TLS":
        return f"the TLS handshake failed: {problem}; the other side speaks TLS, but is not peernet"
    if name:
        return f"the TLS handshake failed: the other side speaks {name}, and is not peernet"
    return (
        f"the TLS handshake failed: {problem}; the other side does not speak TLS: it is not peernet, or runs "
        "with --insecure"
    )


def not_peernet(beginning: bytes, problem: str, *, encrypted: bool) -> str:
    """Why no hello came, as a sentence.

    Args:
        beginning: the first bytes of the other side, after decryption.
        problem: what went wrong.
        encrypted: whether there is TLS.
    """
    name = protocol_of(beginning)
    if name == "TLS":
        return f"{problem}: the other side speaks TLS; leave out --insecure, or it is not peernet"
    if name:
        return f"{problem}: the other side speaks {name}, and is not peernet"
    if beginning or encrypted:
        return f"{problem}; the other side may not be peernet"
    return f"{problem}; the other side may expect TLS (leave out --insecure), or not be peernet"
