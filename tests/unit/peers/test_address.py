from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peernet.errors import AddressError
from peernet.peers.address import PeerAddress, endpoint, is_identifier, listen_hints, parse_ip
from tests.unit.sample_peers import ALICE

READABLE = [
    ("127.0.0.1:4000", PeerAddress("127.0.0.1", 4000)),
    ("127.0.0.1:0", PeerAddress("127.0.0.1", 0)),
    ("127.0.0.1:65535", PeerAddress("127.0.0.1", 65535)),
    ("127.0.0.1:00080", PeerAddress("127.0.0.1", 80)),
    ("example.org:4000", PeerAddress("example.org", 4000)),
    ("bücher.example:4000", PeerAddress("bücher.example", 4000)),
    ("my_host-1:4000", PeerAddress("my_host-1", 4000)),
    ("[::1]:4000", PeerAddress("::1", 4000)),
    ("[fe80::1%eth0]:4000", PeerAddress("fe80::1%eth0", 4000)),
    ("[::ffff:192.0.2.1]:4000", PeerAddress("::ffff:192.0.2.1", 4000)),
    ("peer://127.0.0.1:4000", PeerAddress("127.0.0.1", 4000)),
    ("peer://127.0.0.1:4000/", PeerAddress("127.0.0.1", 4000)),
    (f"peer://{ALICE}@127.0.0.1:4000", PeerAddress("127.0.0.1", 4000, ALICE)),
    (f"peer://{ALICE}@[::1]:4000", PeerAddress("::1", 4000, ALICE)),
    (f"{ALICE}@127.0.0.1:4000", PeerAddress("127.0.0.1", 4000, ALICE)),
]


@pytest.mark.parametrize(("text", "address"), READABLE, ids=[text for text, _ in READABLE])
def test_an_address_is_read(text: str, address: PeerAddress) -> None:
    assert PeerAddress.parse(text) == address


@pytest.mark.parametrize("address", dict.fromkeys(address for _, address in READABLE), ids=str)
def test_what_an_address_prints_it_also_reads(address: PeerAddress) -> None:
    assert PeerAddress.parse(str(address)) == address
    assert PeerAddress.parse(address.endpoint).port == address.port


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "4000",
        "127.0.0.1",
        "127.0.0.1:",
        ":4000",
        "127.0.0.1:65536",
        "127.0.0.1:100000",
        "127.0.0.1:-1",
        "127.0.0.1:+1",
        "127.0.0.1:4000x",
        "127.0.0.1:4000\n",
        " 127.0.0.1:4000",
        "127.0.0.1 :4000",
        "127.0.0.1:٤٠",
        "::1:4000",
        "[]:4000",
        "[::1]",
        "[::1:4000",
        "[example.org]:4000",
        "[::1\0]:4000",
        "[::12345]:4000",
        "a..b:4000",
        ".:4000",
        "x" * 64 + ":4000",
        "ü" * 64 + ":4000",
        "http://127.0.0.1:4000",
        "peer://127.0.0.1:4000/path",
        "peer://127.0.0.1:4000//",
        "peer:127.0.0.1:4000",
        "me@you@127.0.0.1:4000",
    ],
)
def test_what_is_no_address_is_refused_with_the_right_forms(text: str) -> None:
    with pytest.raises(AddressError, match=r"is not a peer address; write host:port, \[ipv6\]:port or peer://"):
        PeerAddress.parse(text)


@pytest.mark.parametrize("identifier", ["", "abc", ALICE.upper(), ALICE[:-1], ALICE + "a", "1" + ALICE[1:]])
@pytest.mark.parametrize("scheme", ["", "peer://"])
def test_a_pin_that_is_no_identifier_is_refused(scheme: str, identifier: str) -> None:
    with pytest.raises(AddressError, match="which is not an identifier; `peernet-node id` on the peer prints"):
        PeerAddress.parse(f"{scheme}{identifier}@127.0.0.1:4000")


@given(st.text(max_size=60))
def test_any_other_text_is_an_address_or_an_address_error(text: str) -> None:
    try:
        address = PeerAddress.parse(text)
    except AddressError:
        address = None
    assert address is None or PeerAddress.parse(str(address)) == address


@pytest.mark.parametrize(
    ("host", "shown"), [("192.0.2.1", "192.0.2.1:5"), ("::1", "[::1]:5"), ("example.org", "example.org:5")]
)
def test_an_endpoint_has_brackets_around_ipv6_only(host: str, shown: str) -> None:
    assert endpoint(host, 5) == PeerAddress(host, 5).endpoint == shown


@pytest.mark.parametrize(
    ("text", "answer"), [(ALICE, True), ("2" * 52, True), ("", False), (ALICE + "\n", False), ("8" * 52, False)]
)
def test_identifiers_are_52_characters_of_lowercase_base32(text: str, answer: bool) -> None:
    assert is_identifier(text) is answer


@pytest.mark.parametrize(
    ("host", "ip"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("::ffff:c000:201", "192.0.2.1"),
        ("::192.0.2.1", "::c000:201"),
        ("fe80::1%eth0", "fe80::1"),
        ("fe80::1%3", "fe80::1"),
        ("::1", "::1"),
        ("localhost", None),
        ("memory", None),
        ("", None),
        ("192.0.2", None),
    ],
)
def test_an_ip_address_is_recognised_however_it_is_written(host: str, ip: str | None) -> None:
    parsed = parse_ip(host)
    assert (None if parsed is None else str(parsed)) == ip


def test_of_what_a_peer_says_a_few_addresses_in_ascii_are_kept() -> None:
    good = [f"192.0.2.1:{port}" for port in range(4000, 4010)]
    assert listen_hints(good) == tuple(good[:8])
    assert listen_hints(["xn--bcher-kva.example:1", "bücher.example:1", "nowhere", ""]) == ("xn--bcher-kva.example:1",)
