from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa, x25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from peernet.errors import IdentityError
from peernet.peers.address import is_identifier
from peernet.peers.identity import CERTIFICATE_FILE, KEY_FILE, Identity, identifier_of

# The test vector of docs/protocol.rst.
ZERO_KEY = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(32))
ZERO_SPKI = "302a300506032b65700321003b6a27bcceb6a42d62a3a8d02a6f0d73653215771de243a63ac048a18b59da29"
ZERO_IDENTIFIER = "gopc76ixmmcqpnveeo244ccofbor7js5soz6e6tbsxj3x26jvyrq"


def test_the_identifier_is_the_one_that_the_protocol_computes_for_its_test_vector() -> None:
    spki = ZERO_KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert spki.hex() == ZERO_SPKI
    assert identifier_of(ZERO_KEY.public_key()) == Identity(ZERO_KEY).identifier == ZERO_IDENTIFIER


def test_p256_keys_have_identifiers_too() -> None:
    assert is_identifier(identifier_of(ec.generate_private_key(ec.SECP256R1()).public_key()))


@pytest.mark.parametrize(
    "make",
    [
        lambda: rsa.generate_private_key(65537, 2048),
        lambda: ec.generate_private_key(ec.SECP384R1()),
        lambda: ec.generate_private_key(ec.SECP256K1()),
        ed448.Ed448PrivateKey.generate,
        x25519.X25519PrivateKey.generate,
        lambda: dsa.generate_private_key(1024),
    ],
    ids=["RSA", "P-384", "secp256k1", "Ed448", "X25519", "DSA"],
)
def test_keys_of_other_types_are_refused(make: Callable[[], Any]) -> None:
    with pytest.raises(IdentityError, match="peers have Ed25519 or P-256 keys, not"):
        identifier_of(make().public_key())


def test_every_generated_identity_is_another_one() -> None:
    one, other = Identity.generate(), Identity.generate()
    assert one.identifier != other.identifier
    assert repr(one) == f"Identity({one.identifier})"


def test_a_certificate_holds_the_key_and_is_signed_with_it() -> None:
    identity = Identity.generate()
    certificate = identity.certificate
    assert identifier_of(certificate.public_key()) == identity.identifier
    identity.private_key.public_key().verify(certificate.signature, certificate.tbs_certificate_bytes)


def test_an_identity_is_made_at_first_use_and_kept(tmp_path: Path) -> None:
    home = tmp_path / "deep" / "home"
    made = Identity.load_or_create(home)
    assert sorted(os.listdir(home)) == [CERTIFICATE_FILE, KEY_FILE]
    for again in (Identity.load_or_create(home), Identity.load(str(home))):
        assert again.identifier == made.identifier
        assert again.certificate == made.certificate


def test_nobody_else_can_read_the_key(tmp_path: Path) -> None:
    Identity.load_or_create(tmp_path)
    assert stat.S_IMODE((tmp_path / KEY_FILE).stat().st_mode) == 0o600


def test_a_missing_certificate_is_made_again_for_the_same_key(tmp_path: Path) -> None:
    made = Identity.load_or_create(tmp_path)
    (tmp_path / CERTIFICATE_FILE).unlink()
    assert Identity.load(tmp_path).identifier == made.identifier
    assert not (tmp_path / CERTIFICATE_FILE).exists()
    Identity.load_or_create(tmp_path)
    assert (tmp_path / CERTIFICATE_FILE).exists()


def test_without_a_key_there_is_nothing_to_load(tmp_path: Path) -> None:
    with pytest.raises(IdentityError, match=r"no key at .*; `peernet-node init` makes one"):
        Identity.load(tmp_path)


def pem(key: Any, encryption: Any = None) -> bytes:
    data: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption())
    return data


BAD_KEYS: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "is damaged; restore it"),
    "garbage": (lambda: os.urandom(200), "is damaged; restore it"),
    "cut off": (lambda: pem(ZERO_KEY)[:-40], "is damaged; restore it"),
    "encrypted": (lambda: pem(ZERO_KEY, BestAvailableEncryption(b"secret")), "is encrypted; store it without"),
    "of another type": (lambda: pem(ec.generate_private_key(ec.SECP256R1())), "is not an Ed25519 key"),
}


@pytest.mark.parametrize(("make", "complaint"), BAD_KEYS.values(), ids=BAD_KEYS)
def test_a_corrupt_key_is_refused_and_never_overwritten(
    make: Callable[[], bytes], complaint: str, tmp_path: Path
) -> None:
    content = make()
    (tmp_path / KEY_FILE).write_bytes(content)
    for use in (Identity.load, Identity.load_or_create):
        with pytest.raises(IdentityError, match=complaint):
            use(tmp_path)
    assert (tmp_path / KEY_FILE).read_bytes() == content
    assert os.listdir(tmp_path) == [KEY_FILE]


def test_a_corrupt_certificate_is_refused_with_the_way_out(tmp_path: Path) -> None:
    Identity.load_or_create(tmp_path)
    (tmp_path / CERTIFICATE_FILE).write_bytes(b"garbage")
    with pytest.raises(IdentityError, match="is damaged; remove it to have it made again"):
        Identity.load_or_create(tmp_path)


def test_a_certificate_of_another_key_is_refused(tmp_path: Path) -> None:
    Identity.load_or_create(tmp_path / "one")
    Identity.load_or_create(tmp_path / "other")
    (tmp_path / "other" / CERTIFICATE_FILE).replace(tmp_path / "one" / CERTIFICATE_FILE)
    with pytest.raises(IdentityError, match="is not the certificate of"):
        Identity.load(tmp_path / "one")


def test_a_key_that_is_a_folder_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / KEY_FILE).mkdir()
    with pytest.raises(IdentityError, match="cannot read the key"):
        Identity.load_or_create(tmp_path)


def file_in_the_way(folder: Path) -> Path:
    (folder / "file").touch()
    return folder / "file"


@pytest.mark.parametrize(
    "home",
    [file_in_the_way, lambda folder: folder / ("x" * 300), lambda folder: folder / "a\0b"],
    ids=["a file", "too long a name", "a name with a NUL"],
)
def test_a_home_that_cannot_be_a_folder_is_an_identity_error(home: Callable[[Path], Path], tmp_path: Path) -> None:
    with pytest.raises(IdentityError, match=r"cannot write .*; choose another home folder"):
        Identity.load_or_create(home(tmp_path))


def test_a_home_that_is_not_writable_is_an_identity_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("os.open", refuse)  # taking the right to write away would not stop root
    with pytest.raises(IdentityError, match=r"cannot write .*Permission denied; choose another home folder"):
        Identity.load_or_create(tmp_path / "home")


def test_a_key_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(IdentityError, match=r"cannot write .*key\.pem: No space left on device"):
        Identity.load_or_create(tmp_path)
    assert os.listdir(tmp_path) == []


def test_a_key_that_appears_meanwhile_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.fsync", lambda descriptor: (tmp_path / KEY_FILE).write_bytes(b"somebody else's"))
    with pytest.raises(IdentityError, match=r"cannot write .*key\.pem: File exists"):
        Identity.load_or_create(tmp_path)
    assert (tmp_path / KEY_FILE).read_bytes() == b"somebody else's"
    assert os.listdir(tmp_path) == [KEY_FILE]
