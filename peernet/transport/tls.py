"""Mutual TLS 1.3 over any transport, through pyOpenSSL.

The standard library's ``ssl`` has no verify callback and cannot read an unknown
self-signed client certificate, so it cannot serve peers who are known by their key.
"""

from __future__ import annotations

from typing import Any

from OpenSSL import SSL

from peernet.peers.identity import Identity, identifier_of
from peernet.transport import openssl
from peernet.transport.base import Transport
from peernet.transport.tcp import TcpTransport
from peernet.transport.tls_transport import BioTlsTransport, TlsTransport

# Those of the two types of key that peers use (peernet.peers.identity): nobody is asked for what would be refused.
SIGNATURES = ("ed25519", "ecdsa_secp256r1_sha256")

# What the ends may agree on a key with, best first, by NetworkConfig.key_exchange. Strangers cannot choose a group that
# costs more. The hybrid is offered with keys for both groups (*), and taken by a listener whenever it is offered (/):
# no other peer costs a round trip more. Where OpenSSL is older than 3.5, it has neither ML-KEM nor these signs.
GROUPS = {"hybrid": ("*X25519MLKEM768/*X25519", "X25519"), "x25519": ("X25519",)}


class TlsContext:
    """What all TLS connections of one identity share.

    Args:
        identity: whom the other ends see.
        calls: how OpenSSL is called; the quickest way by default.
        key_exchange: as in :class:`~peernet.config.NetworkConfig`. Two ends that want different ones use X25519.
    """

    def __init__(
        self, identity: Identity, calls: openssl.MakesCalls = openssl.CALLS, *, key_exchange: str = "hybrid"
    ) -> None:
        context = SSL.Context(SSL.TLS_METHOD)
        context.set_min_proto_version(SSL.TLS1_3_VERSION)
        context.use_certificate(identity.certificate)
        context.use_privatekey(identity.private_key)
        context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, _accept_key)
        context.set_verify_depth(0)  # whoever has signed a certificate, nobody checks with what key
        context.set_mode(SSL.MODE_RELEASE_BUFFERS)  # an idle connection needs no record buffers
        # A resumed session would prove possession of a ticket, not of the key.
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        # Nothing is decompressed for somebody who has not proven who they are.
        context.set_options(SSL.OP_NO_TICKET | openssl.NO_CERTIFICATE_COMPRESSION)
        openssl.accept_only(context, SIGNATURES)
        openssl.agree_with(context, GROUPS[key_exchange])
        self._context = context
        self._calls = calls

    def wrap(self, transport: Transport, *, dialled: bool) -> TlsTransport | BioTlsTransport:
        """Do the handshake over a connected transport; waits, so bound it from outside.

        On failure the transport is left for the caller to close.

        Raises:
            TransportError: the other side does not speak TLS 1.3 with a certificate, or left.
            IdentityError: its key is of a type that peers do not use.
        """
        wrapped = self._over(transport)
        wrapped.shake_hands(dialled=dialled)
        return wrapped

    def _over(self, transport: Transport) -> TlsTransport | BioTlsTransport:
        if isinstance(transport, TcpTransport):  # OpenSSL reads and writes the socket itself, without a copy
            connection = SSL.Connection(self._context, transport.socket)
            return TlsTransport(connection, self._calls(connection), transport)
        connection = SSL.Connection(self._context, None)
        return BioTlsTransport(connection, self._calls(connection), transport)


def groups_offered(key_exchange: str) -> tuple[str, ...]:
    """What connections offer for a key exchange with this version of OpenSSL, best first; empty if it chooses itself.

    Args:
        key_exchange: as in :class:`~peernet.config.NetworkConfig`.
    """
    used = openssl.agree_with(SSL.Context(SSL.TLS_METHOD), GROUPS[key_exchange])
    return tuple(name.strip("*") for name in used.split("/") if name)


def _accept_key(connection: SSL.Connection, certificate: Any, error: int, depth: int, ok: int) -> bool:
    """Accept any certificate whose key is of an accepted type, before its signature is checked.

    Who is trusted is decided from the key's identifier, after the handshake has
    proven its possession; issuer, names and dates say nothing here.
    """
    if depth == 0:
        try:
            identifier_of(certificate.to_cryptography().public_key())
        except Exception:  # whatever is wrong with it: cryptography has errors of many kinds for that
            return False
    return True
