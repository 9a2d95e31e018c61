from __future__ import annotations

from OpenSSL import SSL

from peernet.transport.openssl import accept_only


def test_signatures_can_be_chosen() -> None:
    assert accept_only(SSL.Context(SSL.TLS_METHOD), ("ed25519",))


def test_a_signature_that_openssl_does_not_know_is_told() -> None:
    assert not accept_only(SSL.Context(SSL.TLS_METHOD), ("made-up",))


def test_where_there_is_no_such_function_it_is_told() -> None:
    class Other:
        """A context of another version, without the private name."""

    assert not accept_only(Other(), ("ed25519",))  # type: ignore[arg-type]
