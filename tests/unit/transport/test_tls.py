from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from gevent import socket, ssl
from OpenSSL import SSL

from peernet.errors import TransportError
from peernet.peers.identity import Identity, identifier_of
from peernet.transport import openssl, tls
from peernet.transport.base import Transport
from peernet.transport.openssl import Calls, DirectCalls
from peernet.transport.tcp import TcpTransport
from peernet.transport.tls import TlsContext, groups_offered
from peernet.transport.tls_transport import TlsTransport
from tests.support import scaled
from tests.unit.transport.pairs import (
    ALICE,
    BOB,
    receive,
    receive_rest,
    send_all,
    socket_and_transport,
    tcp_pair,
    tls_pair,
)


@pytest.fixture
def wire() -> Iterator[tuple[socket.socket, TcpTransport]]:
    """A bare socket at one end, a transport at the other."""
    sock, transport = socket_and_transport()
    yield sock, transport
    sock.close()
    transport.close()


def certificate_of(key: Any, name: str = "somebody", years: tuple[int, int] = (2000, 2999)) -> x509.Certificate:
    """A self-signed certificate, as other programs make them."""
    start, end = (datetime.datetime(year, 1, 1, tzinfo=datetime.timezone.utc) for year in years)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(start).not_valid_after(end)
    plain = isinstance(key, (ed25519.Ed25519PrivateKey, ed448.Ed448PrivateKey))
    return builder.sign(key, None if plain else hashes.SHA256())


@pytest.fixture
def context_for(tmp_path: Path) -> Callable[..., ssl.SSLContext]:
    """Makes a TLS context of the standard library, as clients in other languages have one."""

    def make(key: Any, certificate: x509.Certificate | None = None, *, server: bool = False) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        if key is not None:
            path = tmp_path / "both.pem"
            content = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            path.write_bytes(content + (certificate or certificate_of(key)).public_bytes(Encoding.PEM))
            context.load_cert_chain(path)
        return context

    return make


def listen_with_peernet(transport: TcpTransport) -> Any:
    return gevent.spawn(TlsContext(ALICE).wrap, transport, dialled=False)


def test_each_end_learns_the_identity_that_the_other_has_proven() -> None:
    one, other = tls_pair(ALICE, BOB)
    assert (one.identifier, other.identifier) == (BOB.identifier, ALICE.identifier)
    for end in (one, other):
        end.close()


def test_one_context_serves_many_connections() -> None:
    context = TlsContext(ALICE)
    for _ in range(3):
        sock, transport = socket_and_transport()
        other = TcpTransport(sock, ("127.0.0.1", 1))
        wrapping = gevent.spawn(TlsContext(BOB).wrap, other, dialled=True)
        listening = context.wrap(transport, dialled=False)
        assert listening.identifier == BOB.identifier
        wrapping.get(timeout=scaled(5)).close()
        listening.close()


def groups_agreed_on(dialling: str, listening: str) -> set[str]:
    """With what the two ends of a connection agree on a key; one group if they are right."""
    connections: list[SSL.Connection] = []

    def calls(connection: SSL.Connection) -> Calls:
        connections.append(connection)
        return DirectCalls(connection)

    near, far = tcp_pair()
    wrapping = gevent.spawn(TlsContext(ALICE, calls, key_exchange=dialling).wrap, near, dialled=True)
    TlsContext(BOB, calls, key_exchange=listening).wrap(far, dialled=False)
    wrapping.get(timeout=scaled(5))
    found = {str(connection.get_group_name()).upper() for connection in connections}
    near.close()
    far.close()
    return found


def test_two_hybrids_agree_on_the_hybrid() -> None:
    assert groups_agreed_on("hybrid", "hybrid") == {groups_offered("hybrid")[0]}


@pytest.mark.parametrize(("one", "other"), [("hybrid", "x25519"), ("x25519", "hybrid"), ("x25519", "x25519")])
def test_any_other_two_meet_at_x25519(one: str, other: str) -> None:
    assert groups_agreed_on(one, other) == {"X25519"}


def test_the_hybrid_goes_before_what_is_smaller() -> None:
    assert groups_offered("hybrid") == ("X25519MLKEM768", "X25519")[-len(groups_offered("hybrid")) :]
    assert groups_offered("x25519") == ("X25519",)


def test_a_hybrid_without_ml_kem_is_what_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with OpenSSL before 3.5, which knows neither that group nor the signs between the groups."""
    unknown = tls.GROUPS["hybrid"][0].replace("X25519MLKEM768", "unknown")
    monkeypatch.setitem(tls.GROUPS, "hybrid", (unknown, *tls.GROUPS["hybrid"][1:]))
    assert groups_offered("hybrid") == ("X25519",)
    assert groups_agreed_on("hybrid", "hybrid") == {"X25519"}


def test_groups_that_cost_more_are_not_taken_from_strangers(context_for: Any, wire: Any) -> None:
    sock, transport = wire
    listening = listen_with_peernet(transport)
    context = context_for(ed25519.Ed25519PrivateKey.generate())
    context.set_ecdh_curve("secp521r1")
    with pytest.raises(OSError, match="ALERT_HANDSHAKE_FAILURE"):
        context.wrap_socket(sock)
    refused(listening)


ACCEPTED: dict[str, Callable[[], Any]] = {
    "Ed25519": ed25519.Ed25519PrivateKey.generate,
    "P-256": lambda: ec.generate_private_key(ec.SECP256R1()),
}
REFUSED: dict[str, Callable[[], Any]] = {
    "RSA": lambda: rsa.generate_private_key(65537, 2048),
    "P-384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "Ed448": ed448.Ed448PrivateKey.generate,
}


@pytest.mark.parametrize("make", ACCEPTED.values(), ids=ACCEPTED)
def test_a_client_with_an_accepted_key_is_known_by_it(make: Any, context_for: Any, wire: Any) -> None:
    sock, transport = wire
    key = make()
    listening = listen_with_peernet(transport)
    client = context_for(key).wrap_socket(sock)
    assert client.version() == "TLSv1.3"
    transport = listening.get(timeout=scaled(5))
    assert transport.identifier == identifier_of(key.public_key())
    client.sendall(b"hello")
    assert receive(transport, 5) == b"hello"
    send_all(transport, b"good day")
    assert client.recv(100) == b"good day"
    client.close()


@pytest.mark.parametrize("make", ACCEPTED.values(), ids=ACCEPTED)
def test_a_server_with_an_accepted_key_is_known_by_it(make: Any, context_for: Any, wire: Any) -> None:
    sock, transport = wire
    key = make()
    dialling = gevent.spawn(TlsContext(ALICE).wrap, transport, dialled=True)
    server = context_for(key, server=True).wrap_socket(sock, server_side=True)
    assert dialling.get(timeout=scaled(5)).identifier == identifier_of(key.public_key())
    server.close()


def refused(wrapping: Any) -> None:
    with pytest.raises(TransportError, match="TLS handshake"):
        wrapping.get(timeout=scaled(5))


@pytest.mark.parametrize("make", REFUSED.values(), ids=REFUSED)
def test_a_client_with_another_type_of_key_is_refused(make: Any, context_for: Any, wire: Any) -> None:
    sock, transport = wire
    listening = listen_with_peernet(transport)
    # In TLS 1.3 a client has done its part before the server judges it.
    client = context_for(make()).wrap_socket(sock)
    refused(listening)
    transport.abort()
    with pytest.raises(OSError, match="ALERT"):
        client.recv(1)
    client.close()


@pytest.mark.parametrize("make", REFUSED.values(), ids=REFUSED)
def test_a_server_with_another_type_of_key_is_refused(make: Any, context_for: Any, wire: Any) -> None:
    sock, transport = wire
    dialling = gevent.spawn(TlsContext(ALICE).wrap, transport, dialled=True)
    with pytest.raises(OSError, match="NO_SUITABLE_SIGNATURE_ALGORITHM"):  # it hears that its key is of no use
        context_for(make(), server=True).wrap_socket(sock, server_side=True)
    refused(dialling)


@pytest.mark.parametrize("make", REFUSED.values(), ids=REFUSED)
def test_a_key_is_refused_by_its_type_also_where_signatures_cannot_be_chosen(
    make: Any, context_for: Any, wire: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openssl, "accept_only", lambda context, signatures: False)
    sock, transport = wire
    dialling = gevent.spawn(TlsContext(ALICE).wrap, transport, dialled=True)
    with pytest.raises(OSError, match="ALERT"):
        context_for(make(), server=True).wrap_socket(sock, server_side=True)
    refused(dialling)


CERTIFICATE_REQUEST, SIGNATURE_ALGORITHMS, COMPRESS_CERTIFICATE = 13, 13, 27  # RFC 8446 4 and 4.2, RFC 8879


def extensions_of(request: bytes) -> dict[int, bytes]:
    """The extensions of a CertificateRequest (RFC 8446 4.3.2), by number."""
    found, rest = {}, request[4 + 1 + request[4] + 2 :]  # behind its header, its context, and their length
    while rest:
        number, length = int.from_bytes(rest[:2], "big"), int.from_bytes(rest[2:4], "big")
        found[number], rest = rest[4 : 4 + length], rest[4 + length :]
    return found


def test_a_client_is_asked_for_no_more_than_is_accepted(context_for: Any, wire: Any) -> None:
    sock, transport = wire
    requests = []
    context = context_for(ACCEPTED["Ed25519"]())

    def note(connection: object, direction: str, version: object, content: object, kind: int, data: bytes) -> None:
        if kind == CERTIFICATE_REQUEST and direction == "read":
            requests.append(data)

    context._msg_callback = note  # noqa: SLF001  # the only way of the standard library to see what was asked
    listening = listen_with_peernet(transport)
    client = context.wrap_socket(sock)
    listening.get(timeout=scaled(5))
    client.close()
    asked = extensions_of(requests[0])
    # ed25519 and ecdsa_secp256r1_sha256 (RFC 8446 4.2.3), behind the length of the list.
    assert asked[SIGNATURE_ALGORITHMS] == bytes.fromhex("0004 0807 0403")
    assert COMPRESS_CERTIFICATE not in asked


def test_a_client_without_a_certificate_is_refused(context_for: Any, wire: Any) -> None:
    sock, transport = wire
    listening = listen_with_peernet(transport)
    client = context_for(None).wrap_socket(sock)
    with pytest.raises(TransportError, match="peer did not return a certificate"):
        listening.get(timeout=scaled(5))
    client.close()


@pytest.mark.parametrize("server", [False, True], ids=["client", "server"])
def test_tls_1_2_is_refused(server: bool, context_for: Any, wire: Any) -> None:
    sock, transport = wire
    wrapping = gevent.spawn(TlsContext(ALICE).wrap, transport, dialled=server)
    old = context_for(ed25519.Ed25519PrivateKey.generate(), server=server)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(OSError, match=r"VERSION|UNSUPPORTED"):
        old.wrap_socket(sock, server_side=server)
    refused(wrapping)


@pytest.mark.parametrize("years", [(2000, 2001), (2990, 2999)], ids=["expired", "not valid yet"])
@pytest.mark.parametrize("name", ["-", "localhost", ALICE.identifier], ids=["-", "localhost", "its identifier"])
def test_names_and_dates_in_a_certificate_mean_nothing(
    name: str, years: tuple[int, int], context_for: Any, wire: Any
) -> None:
    sock, transport = wire
    key = ed25519.Ed25519PrivateKey.generate()
    listening = listen_with_peernet(transport)
    client = context_for(key, certificate_of(key, name, years)).wrap_socket(sock)
    assert listening.get(timeout=scaled(5)).identifier == identifier_of(key.public_key())
    client.close()


def test_a_certificate_with_an_issuer_counts_for_its_own_key(context_for: Any, wire: Any, tmp_path: Path) -> None:
    sock, transport = wire
    issuer, key = ed25519.Ed25519PrivateKey.generate(), ed25519.Ed25519PrivateKey.generate()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "somebody")])
    builder = x509.CertificateBuilder().subject_name(x509.Name([])).issuer_name(name).public_key(key.public_key())
    start, end = (datetime.datetime(year, 1, 1, tzinfo=datetime.timezone.utc) for year in (2000, 2999))
    leaf = builder.serial_number(2).not_valid_before(start).not_valid_after(end).sign(issuer, None)
    context = context_for(key, leaf)
    chain = tmp_path / "chain.pem"
    plain = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    above = certificate_of(issuer).public_bytes(Encoding.PEM)
    chain.write_bytes(plain + leaf.public_bytes(Encoding.PEM) + above)
    context.load_cert_chain(chain)
    listening = listen_with_peernet(transport)
    client = context.wrap_socket(sock)
    assert listening.get(timeout=scaled(5)).identifier == identifier_of(key.public_key())
    client.close()


class Grudging:
    """An OpenSSL connection that wants to write before it does what it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    def do_handshake(self) -> None:
        self.asked += 1
        if self.asked == 1:
            raise SSL.WantWriteError

    def set_accept_state(self) -> None:
        """It is on the listening side."""

    def recv(self) -> bytes:
        self.do_handshake()
        return b"at last"

    def recv_into(self, buffer: memoryview) -> int:
        raise NotImplementedError

    def send(self, data: bytes | memoryview) -> int:
        raise NotImplementedError

    def get_peer_certificate(self, *, as_cryptography: bool) -> x509.Certificate:
        return ALICE.certificate


def test_openssl_may_want_to_write_while_we_read(wire: Any) -> None:
    connection = Grudging()
    assert TlsTransport(connection, connection, wire[1]).recv() == b"at last"  # type: ignore[arg-type]
    assert connection.asked == 2


def test_openssl_may_want_to_write_in_the_handshake(wire: Any) -> None:
    connection = Grudging()
    transport = TlsTransport(connection, connection, wire[1])  # type: ignore[arg-type]
    transport.shake_hands(dialled=False)
    assert connection.asked == 2
    assert transport.identifier == ALICE.identifier


def test_no_session_can_be_resumed(context_for: Any) -> None:
    node = TlsContext(ALICE)
    context = context_for(ed25519.Ed25519PrivateKey.generate())
    session = None
    for _ in range(3):
        sock, transport = socket_and_transport()
        listening = gevent.spawn(node.wrap, transport, dialled=False)
        client = context.wrap_socket(sock, session=session)
        listened = listening.get(timeout=scaled(5))
        send_all(listened, b"a ticket comes before this, if at all")
        assert client.recv(100)
        assert not client.session_reused
        session = client.session
        client.close()
        listened.close()


@pytest.mark.parametrize("content", [b"GET / HTTP/1.1\r\n\r\n", b"\x03\x82\x01\x00" * 10, bytes(100)])
def test_somebody_who_does_not_speak_tls_is_refused(content: bytes, wire: Any) -> None:
    sock, transport = wire
    listening = listen_with_peernet(transport)
    sock.sendall(content)
    refused(listening)


@pytest.mark.parametrize("content", [b"", b"\x16\x03\x01"])
def test_somebody_who_leaves_in_the_handshake_is_a_transport_error(content: bytes, wire: Any) -> None:
    sock, transport = wire
    listening = listen_with_peernet(transport)
    sock.sendall(content)
    sock.close()
    refused(listening)


def test_a_failed_handshake_leaves_the_transport_to_the_caller(wire: Any) -> None:
    sock, transport = wire
    listening = listen_with_peernet(transport)
    sock.close()
    refused(listening)
    assert not transport.closed


def wrapped(context_for: Any, wire: Any) -> tuple[Any, Transport]:
    """A client of the standard library, and peernet's end."""
    sock, transport = wire
    listening = listen_with_peernet(transport)
    client = context_for(ed25519.Ed25519PrivateKey.generate()).wrap_socket(sock)
    return client, listening.get(timeout=scaled(5))


@pytest.mark.parametrize("read", [lambda end: end.recv(), lambda end: end.recv_into(memoryview(bytearray(9)))])
def test_a_stream_cut_off_without_close_notify_is_an_end(read: Any, context_for: Any, wire: Any) -> None:
    client, transport = wrapped(context_for, wire)
    client.sendall(b"last words")
    bare = socket.socket(fileno=client.detach())
    bare.shutdown(socket.SHUT_WR)
    assert receive(transport, 10) == b"last words"
    assert not read(transport)
    bare.close()


def test_a_proper_goodbye_is_sent_and_understood(context_for: Any, wire: Any) -> None:
    client, transport = wrapped(context_for, wire)
    transport.finish_writing()
    client.sendall(b"last words")
    assert client.recv(1) == b""  # and not an unexpected end
    plain = client.unwrap()
    assert receive_rest(transport) == b"last words"
    plain.close()


def test_bytes_that_are_no_tls_record_break_the_connection(context_for: Any, wire: Any) -> None:
    client, transport = wrapped(context_for, wire)
    bare = socket.socket(fileno=client.detach())
    bare.sendall(b"\x17\x03\x03\x00\x20" + bytes(32))
    with pytest.raises(TransportError, match="the connection broke: "), gevent.Timeout(scaled(5)):
        transport.recv()
    with pytest.raises(TransportError, match="the connection broke: "):
        transport.send(b"hello?")
    bare.close()


def test_a_reset_is_a_transport_error_or_an_end_for_the_reader(context_for: Any, wire: Any) -> None:
    client, transport = wrapped(context_for, wire)
    bare = socket.socket(fileno=client.detach())
    bare.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    bare.close()
    with pytest.raises(TransportError, match="the connection broke: "), gevent.Timeout(scaled(5)):
        transport.recv()


def test_a_handshake_without_a_peer_certificate_fails(wire: Any) -> None:
    class Careless(Grudging):
        def get_peer_certificate(self, *, as_cryptography: bool) -> Any:
            assert as_cryptography

    careless = Careless()
    transport = TlsTransport(careless, careless, wire[1])  # type: ignore[arg-type]
    with pytest.raises(TransportError, match="the other side showed no certificate"):
        transport.shake_hands(dialled=False)
    assert transport.identifier is None


def test_two_nodes_with_one_identity_still_understand_each_other() -> None:
    identity = Identity.generate()
    one, other = tls_pair(identity, identity)
    assert one.identifier == other.identifier == identity.identifier
    for end in (one, other):
        end.close()
