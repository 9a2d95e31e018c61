"""What speaks at the other end, told from how it begins."""

from __future__ import annotations

import pytest

from peernet.transport.foreign import BEGINNING, SIGNS, not_peernet, not_tls, protocol_of


@pytest.mark.parametrize(
    ("beginning", "name"),
    [
        (b"SSH-2.0-OpenSSH_9.6", "SSH"),
        (b"HTTP/1.1 400 Bad Request", "HTTP"),
        (b"<!DOCTYPE HTML>", "HTTP"),
        (b"GET / HTTP/1.1", "HTTP"),
        (b"\x15\x03\x01\x00\x02\x02\x46", "TLS"),
        (b"\x16\x03\x01\x02\x00\x01", "TLS"),
        (b"220 mail.example.org ESMTP", ""),
        (b"\xff" * 16, ""),
        (b"", ""),
    ],
)
def test_protocols_are_known_by_their_beginning(beginning: bytes, name: str) -> None:
    assert protocol_of(beginning[:BEGINNING]) == name
    assert name in not_tls(beginning, "wrong version number")
    assert name in not_peernet(beginning, "no hello came", encrypted=True)


def test_every_sign_fits_into_what_is_looked_at() -> None:
    assert max(len(sign) for sign, _ in SIGNS) <= BEGINNING


def test_without_a_byte_and_without_tls_it_may_be_tls_that_is_expected() -> None:
    assert "expect TLS" in not_peernet(b"", "it hung up", encrypted=False)
    assert "TLS" not in not_peernet(b"", "it hung up", encrypted=True)
    assert "may not be peernet" in not_peernet(b"\xff", "it hung up", encrypted=False)
