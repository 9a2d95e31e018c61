"""What OpenSSL can and pyOpenSSL does not offer in public: the only module that uses pyOpenSSL's private names.

Each function says what happens where a version of pyOpenSSL has not got the private name.
"""

from __future__ import annotations

from typing import Any

from OpenSSL import SSL, _util

# SSL_OP_NO_TX_CERTIFICATE_COMPRESSION and SSL_OP_NO_RX_CERTIFICATE_COMPRESSION (openssl/ssl.h, since OpenSSL 3.2).
# Older versions have no compression of certificates, and ignore bits that they do not know.
NO_CERTIFICATE_COMPRESSION = 1 << 32 | 1 << 33


def accept_only(context: SSL.Context, signatures: tuple[str, ...]) -> bool:
    """Offer, and ask for, no other signatures than these.

    Args:
        context: of the connections that are made from now on.
        signatures: names as in ``SSL_CTX_set1_sigalgs_list(3)``.

    Returns:
        Whether it could be said. Where it cannot, OpenSSL goes on offering all that it knows.
    """
    library: Any = _util.lib
    set_list = getattr(library, "SSL_CTX_set1_sigalgs_list", None)
    handle = getattr(context, "_context", None)
    return bool(set_list and handle and set_list(handle, ":".join(signatures).encode()) == 1)
