from __future__ import annotations

from typing import Any

import gevent
import pytest
from OpenSSL import SSL

from peernet.transport import openssl
from peernet.transport.base import Transport
from peernet.transport.openssl import CALLS, DirectCalls, ReadBuffer, accept_only, can_call_directly
from peernet.transport.tls import TlsContext
from tests.support import scaled
from tests.unit.transport.pairs import ALICE, BOB, receive, send_all, tcp_pair


def test_signatures_can_be_chosen() -> None:
    assert accept_only(SSL.Context(SSL.TLS_METHOD), ("ed25519",))


def test_a_signature_that_openssl_does_not_know_is_told() -> None:
    assert not accept_only(SSL.Context(SSL.TLS_METHOD), ("made-up",))


def test_where_there_is_no_such_function_it_is_told() -> None:
    class Other:
        """A context of another version, without the private name."""

    assert not accept_only(Other(), ("ed25519",))  # type: ignore[arg-type]


def test_the_version_that_is_installed_is_called_directly() -> None:
    assert CALLS is DirectCalls


def test_a_version_without_a_private_name_is_not_called_directly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(SSL.Connection, "_raise_ssl_error")
    assert not can_call_directly()


@pytest.mark.parametrize("name", ["_read", "_write"])
def test_a_library_without_a_function_is_not_called_directly(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openssl, name, None)
    assert not can_call_directly()


@pytest.mark.parametrize("use", [lambda c: c.recv(), lambda c: c.recv_into(memoryview(bytearray(9)))])
def test_a_direct_read_that_finds_nothing_says_so_as_a_method_does(use: Any) -> None:
    connection = SSL.Connection(SSL.Context(SSL.TLS_METHOD), None)
    connection.set_connect_state()
    with pytest.raises(SSL.WantReadError):
        use(DirectCalls(connection, ReadBuffer()))


def test_a_failure_that_nobody_explains_is_an_error_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SSL.Connection, "_raise_ssl_error", lambda *_: None)
    connection = SSL.Connection(SSL.Context(SSL.TLS_METHOD), None)
    connection.set_connect_state()
    with pytest.raises(SSL.Error):
        DirectCalls(connection, ReadBuffer()).recv()


def test_connections_of_one_context_do_not_mix_what_they_read() -> None:
    context = TlsContext(ALICE)
    pairs = [secured_with(context) for _ in range(3)]
    for number, (far, _) in enumerate(pairs):
        send_all(far, bytes([number]) * 1000)
    read = [receive(near, 1000) for _, near in pairs]
    assert read == [bytes([number]) * 1000 for number in range(3)]
    for pair in pairs:
        for end in pair:
            end.close()


def secured_with(context: TlsContext) -> tuple[Transport, Transport]:
    """Somebody else's end, and one that uses the context."""
    dialled, listened = tcp_pair()
    wrapping = gevent.spawn(TlsContext(BOB).wrap, dialled, dialled=True)
    near = context.wrap(listened, dialled=False)
    return wrapping.get(timeout=scaled(5)), near
