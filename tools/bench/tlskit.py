"""Mutual TLS 1.3 with Ed25519 self-signed certificates, as peernet uses it, for the baselines."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import NameOID
from OpenSSL import SSL, crypto


def make_context(*, release_buffers: bool = False) -> SSL.Context:
    """A context with an identity of its own that demands, and accepts, any certificate.

    Released buffers save an idle connection memory and cost a busy one speed.
    """
    key = Ed25519PrivateKey.generate()
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_min_proto_version(SSL.TLS1_3_VERSION)
    context.use_privatekey(crypto.PKey.from_cryptography_key(key))
    context.use_certificate(crypto.X509.from_cryptography(_self_signed(key)))
    context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, lambda *_: True)
    if release_buffers:
        context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    # A server that asks for client certificates must name its session cache.
    context.set_session_id(b"bench")
    return context


def _self_signed(key: Ed25519PrivateKey) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bench")])
    now = datetime.now(timezone.utc)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
    )
    return builder.sign(key, None)
