"""Who this node is: an Ed25519 key, its self-signed certificate, its identifier."""

from __future__ import annotations

import base64
import datetime
import hashlib
import os
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from peernet.errors import IdentityError
from peernet.runtime.files import write_new

KEY_FILE = "key.pem"
CERTIFICATE_FILE = "certificate.pem"

# RFC 5280 4.1.2.5: the value for a certificate without a well-defined end. Peers
# are recognised by their key, so an expiry date would only break nodes one day.
_NOT_BEFORE = datetime.datetime(2000, 1, 1, tzinfo=datetime.timezone.utc)
_NOT_AFTER = datetime.datetime(9999, 12, 31, 23, 59, 59, tzinfo=datetime.timezone.utc)


def identifier_of(public_key: object) -> str:
    """The identifier of whoever holds the private half of ``public_key``.

    Lowercase base32 (RFC 4648) without padding of the SHA-256 of the key's DER
    SubjectPublicKeyInfo (RFC 5280): 52 characters.

    Raises:
        IdentityError: the key is neither Ed25519 nor on the curve P-256. Other key
            types are refused because verifying a huge RSA key is an attack
            (CVE-2023-39533).
    """
    if not isinstance(public_key, ed25519.Ed25519PublicKey) and not _is_p256(public_key):
        raise IdentityError(f"peers have Ed25519 or P-256 keys, not {type(public_key).__name__}; make a new key")
    spki = public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)  # type: ignore[attr-defined]
    return base64.b32encode(hashlib.sha256(spki).digest()).decode().rstrip("=").lower()


class Identity:
    """A private key with its certificate and identifier. Immutable."""

    def __init__(self, private_key: ed25519.Ed25519PrivateKey, certificate: x509.Certificate | None = None) -> None:
        self.private_key = private_key
        self.identifier = identifier_of(private_key.public_key())
        self.certificate = certificate or _self_signed(private_key, self.identifier)

    def __repr__(self) -> str:
        return f"Identity({self.identifier})"

    @classmethod
    def generate(cls) -> Identity:
        """A new identity, kept nowhere."""
        return cls(ed25519.Ed25519PrivateKey.generate())

    @classmethod
    def load(cls, folder: str | Path) -> Identity:
        """The identity kept in ``folder``.

        Raises:
            IdentityError: there is none, or its files are damaged, unreadable, or do not belong together.
        """
        folder = Path(folder)
        key = _load_key(folder / KEY_FILE)
        certificate = _load_certificate(folder / CERTIFICATE_FILE)
        if certificate is not None and certificate.public_key() != key.public_key():
            raise IdentityError(
                f"{folder / CERTIFICATE_FILE} is not the certificate of {folder / KEY_FILE}; "
                "restore the right one, or remove the certificate to have it made again"
            )
        return cls(key, certificate)

    @classmethod
    def load_or_create(cls, folder: str | Path) -> Identity:
        """The identity kept in ``folder``, made there at first use. An existing key is never replaced.

        Raises:
            IdentityError: as :meth:`load`, or the folder cannot be written.
        """
        folder = Path(folder)
        if os.path.exists(folder / KEY_FILE):  # which, unlike Path.exists, never raises
            identity = cls.load(folder)
        else:
            identity = cls.generate()
            _write_new(folder / KEY_FILE, _key_pem(identity.private_key), mode=0o600)
        if not (folder / CERTIFICATE_FILE).exists():
            _write_new(folder / CERTIFICATE_FILE, identity.certificate.public_bytes(Encoding.PEM), mode=0o644)
        return identity


def key_exposure(folder: str | Path) -> str:
    """What lets others read the private key in ``folder``, as a sentence; empty if nothing does."""
    key = Path(folder, KEY_FILE)
    if os.name == "posix" and key.stat().st_mode & 0o077:
        return f"others can read the key; run `chmod 600 {key}`"
    return ""


def _key_pem(key: ed25519.Ed25519PrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _is_p256(public_key: object) -> bool:
    return isinstance(public_key, ec.EllipticCurvePublicKey) and isinstance(public_key.curve, ec.SECP256R1)


def _self_signed(key: ed25519.Ed25519PrivateKey, identifier: str) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, identifier)])
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_NOT_BEFORE)
        .not_valid_after(_NOT_AFTER)
        .sign(key, None)
    )


def _load_key(path: Path) -> ed25519.Ed25519PrivateKey:
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except FileNotFoundError as error:
        raise IdentityError(f"no key at {path}; `peernet-node init` makes one") from error
    except OSError as error:
        raise IdentityError(f"cannot read the key {path}: {error.strerror}") from error
    except TypeError as error:  # what a missing password is called there
        raise IdentityError(
            f"the key {path} is encrypted; store it without a password, readable by its owner only"
        ) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise IdentityError(
            f"the key {path} is damaged; restore it from a backup, or move it away to start with a new identity"
        ) from error
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise IdentityError(f"the key {path} is not an Ed25519 key; move it away to start with a new identity")
    return key


def _load_certificate(path: Path) -> x509.Certificate | None:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise IdentityError(f"the certificate {path} is damaged; remove it to have it made again") from error


def _write_new(path: Path, content: bytes, mode: int) -> None:
    try:
        write_new(path, content, mode)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise IdentityError(f"cannot write {path}: {reason}; choose another home folder") from error
