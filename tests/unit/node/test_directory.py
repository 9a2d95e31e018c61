"""What may be written for a peer."""

from __future__ import annotations

import pytest

from peernet.errors import AddressError, ConfigurationError
from peernet.node.directory import Directory, check_peer, ip_network_of

ANNA = "anna" + "a" * 48
ANNE = "anne" + "a" * 48
BERT = "bert" + "a" * 48


@pytest.fixture
def directory() -> Directory:
    return Directory([(ANNA, ["127.0.0.1:1"]), (ANNA, []), (ANNE, ["127.0.0.1:2"]), (BERT, ["127.0.0.1:2"])])


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("anna", ANNA),
        ("b", BERT),
        ("c" * 52, "c" * 52),
        ("127.0.0.1:1", ANNA),
        ("peer://127.0.0.1:1", ANNA),
        (f"peer://{'d' * 52}@127.0.0.1:1", "d" * 52),
    ],
)
def test_a_peer_is_found(directory: Directory, text: str, meant: str) -> None:
    assert directory.identifier(text) == meant


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("ann", "2 peers can be meant"),
        ("127.0.0.1:2", "2 peers can be meant"),
        ("zorro", "no known peer"),
        ("", "no known peer"),
        ("127.0.0.1:9", "no known peer is at"),
        ("BERT", "no known peer"),
    ],
)
def test_nobody_or_several_are_meant(directory: Directory, text: str, complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        directory.identifier(text)


@pytest.mark.parametrize(
    "text", ["a b", "a@b", ":", "../x", "", "BERT", "b" * 51 + "B", f"peer://{'B' * 52}@127.0.0.1:1"]
)
def test_what_can_be_no_peer(text: str) -> None:
    with pytest.raises(AddressError):
        check_peer(text)


def test_who_writes_capital_letters_is_told_so() -> None:
    with pytest.raises(AddressError, match="identifiers are written in small"):
        check_peer("Bert")


def test_a_decision_takes_more_than_one_letter(directory: Directory) -> None:
    assert directory.identifier("ber") == BERT
    assert directory.identifier("bert", 4) == BERT
    assert directory.identifier("127.0.0.1:1", 4) == ANNA
    with pytest.raises(ConfigurationError, match=f"'ber' is too short for a decision.* 4 letters of {BERT[:12]}"):
        directory.identifier("ber", 4)
    with pytest.raises(ConfigurationError, match="no known peer"):
        directory.identifier("zzz", 4)


@pytest.mark.parametrize("text", [BERT, "bert", "127.0.0.1:3", f"peer://{BERT}@127.0.0.1:9"])
def test_a_node_is_no_peer_of_its_own(text: str) -> None:
    directory = Directory([(BERT, ["127.0.0.1:3"])], BERT)
    for found in (directory, directory.extended([ANNA])):
        with pytest.raises(ConfigurationError, match=f"{BERT[:12]} is this node itself"):
            found.identifier(text)


def test_networks() -> None:
    assert ip_network_of("10.0.0.0/8") == "10.0.0.0/8"
    assert ip_network_of("10.0.0.1") == "10.0.0.1/32"
    assert ip_network_of("2001:db8::/32") == "2001:db8::/32"
    assert ip_network_of("abc") is None
    assert ip_network_of(f"peer://{ANNA}@10.0.0.1:5") is None
    with pytest.raises(ConfigurationError, match=r"within a network; write 192\.168\.1\.0/24 for the network"):
        ip_network_of("192.168.1.5/24")
    with pytest.raises(ConfigurationError, match="not a network"):
        ip_network_of("10.0.0.1/99")
