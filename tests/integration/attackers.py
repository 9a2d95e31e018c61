"""Clients and servers that speak the protocol of ``docs/protocol.rst`` on their own, rightly or wrongly.

Nothing here uses peernet except the classes generated from ``packet.proto``, so that a
mistake the library makes on both sides of a connection cannot hide.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import gevent
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from gevent import socket, ssl

from peernet.v1 import packet_pb2 as pb
from tests.support import scaled

NETWORK_NAME = "test"
PATIENCE = 10.0  # seconds, scaled: how long an attacker waits for an answer


class Credentials:
    """A key, its certificate, and the identifier that the specification computes from it."""

    def __init__(self, private_key: Any) -> None:
        self.private_key = private_key
        spki = private_key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        self.identifier = base64.b32encode(hashlib.sha256(spki).digest()).decode().lower().rstrip("=")

    @classmethod
    def ed25519(cls) -> Credentials:
        return cls(ed25519.Ed25519PrivateKey.generate())

    @classmethod
    def p256(cls) -> Credentials:
        return cls(ec.generate_private_key(ec.SECP256R1()))

    @classmethod
    @cache
    def rsa(cls) -> Credentials:
        return cls(rsa.generate_private_key(65537, 2048))

    def load_into(self, context: ssl.SSLContext) -> None:
        """Make this the certificate that a TLS context shows."""
        pem = self.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "both.pem"
            path.write_bytes(pem + self._certificate().public_bytes(Encoding.PEM))
            context.load_cert_chain(path)

    def _certificate(self) -> x509.Certificate:
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "whoever")])
        long_ago = datetime.datetime(2001, 1, 1)
        algorithm = None if isinstance(self.private_key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
        return (
            x509.CertificateBuilder(name, name, self.private_key.public_key(), 1, long_ago)
            .not_valid_after(long_ago + datetime.timedelta(days=1))  # dates mean nothing
            .sign(self.private_key, algorithm)
        )


class Attacker:
    """One connection that does what a test tells it, byte by byte."""

    def __init__(self, sock: Any, credentials: Credentials) -> None:
        self.sock = sock
        self.credentials = credentials
        self._buffer = b""
        sock.settimeout(scaled(PATIENCE))

    # Saying something.

    def send_bytes(self, data: bytes) -> None:
        """Put bytes on the wire as they are."""
        self.sock.sendall(data)

    def send_frame(self, content: bytes) -> None:
        """A frame with any content."""
        self.send_bytes(varint(len(content)) + content)

    def send(self, **fields: Any) -> None:
        """A packet: ``send(pure_message=PureMessagePacket(...))``."""
        self.send_frame(pb.Packet(**fields).SerializeToString())

    def say(self, text: str) -> None:
        """A text message."""
        self.send(pure_message=pb.PureMessagePacket(message=text))

    def send_hello(self, **changes: Any) -> None:
        """The hello that is expected, but for the ``changes``."""
        fields: dict[str, Any] = {
            "protocol_min": 1,
            "protocol_max": 1,
            "network_name": NETWORK_NAME,
            "agent": "attacker/1.0",
            "heartbeat_interval_ms": 0,
            "identifier": self.credentials.identifier,
        }
        self.send(hello=pb.HelloPacket(**(fields | changes)))

    def greet(self, **changes: Any) -> pb.HelloPacket:
        """Say hello and hear the answer, which must be a hello."""
        self.send_hello(**changes)
        answer = self.receive()
        assert answer is not None, "hung up on instead of a hello"
        assert answer.WhichOneof("body") == "hello", answer
        return answer.hello

    # Hearing something.

    def receive(self) -> pb.Packet | None:
        """The next packet, or ``None`` when the other side has hung up or gone."""
        while True:
            length, start = read_varint(self._buffer)
            if start and len(self._buffer) >= start + length:
                frame, self._buffer = self._buffer[start : start + length], self._buffer[start + length :]
                return pb.Packet.FromString(frame)
            data = self._receive_bytes()
            if not data:
                return None
            self._buffer += data

    def receive_all(self) -> list[pb.Packet]:
        """All packets until the other side hangs up."""
        packets = []
        while (packet := self.receive()) is not None:
            packets.append(packet)
        return packets

    def farewell(self) -> str | None:
        """The name of the reason in the disconnect that ends the connection; ``None`` if it ends without."""
        packets = self.receive_all()
        if not packets or packets[-1].WhichOneof("body") != "disconnect":
            return None
        name = pb.DisconnectReason.Name(packets[-1].disconnect.reason)
        return name.removeprefix("DISCONNECT_REASON_").lower()

    def is_hung_up_on(self) -> bool:
        """Whether the other side hangs up without a word."""
        return not self.receive_all()

    # Leaving.

    def leave(self) -> None:
        """Close the connection in an orderly way, with no goodbye of the protocol."""
        with suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()

    def vanish(self) -> None:
        """Close the connection with a reset."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def _receive_bytes(self) -> bytes:
        try:
            data: bytes = self.sock.recv(65536)
        except (ConnectionError, ssl.SSLError) as error:
            if isinstance(error, TimeoutError):
                raise
            return b""
        return data


def dial(address: str, *, plain: bool = False, credentials: Credentials | None = None) -> Attacker:
    """Connect to a network's address, and through TLS unless ``plain``; no hello is said yet."""
    credentials = credentials or Credentials.ed25519()
    sock = connect(address)
    try:
        return Attacker(sock if plain else client_context(credentials).wrap_socket(sock), credentials)
    except BaseException:
        sock.close()
        raise


def connect(address: str) -> socket.socket:
    """A TCP connection to a network's address, and nothing else."""
    host, _, port = address.rpartition("@")[2].removeprefix("peer://").rpartition(":")
    return socket.create_connection((host.strip("[]"), int(port)), timeout=scaled(PATIENCE))


def client_context(credentials: Credentials | None) -> ssl.SSLContext:
    """TLS as a client should speak it; without a certificate if there are no credentials."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    if credentials is not None:
        credentials.load_into(context)
    return context


@contextmanager
def serving(handle: Any, *, plain: bool = False, credentials: Credentials | None = None) -> Iterator[str]:
    """A server that gives each connection to ``handle(attacker)``; yields its ``host:port``.

    With ``plain`` the attacker gets the bare connection, else one through TLS. It must
    not close it: that happens when ``handle`` returns.
    """
    credentials = credentials or Credentials.ed25519()
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    greenlets: list[gevent.Greenlet[..., Any]] = []

    def serve(sock: Any) -> None:
        try:
            if not plain:
                sock = server_context(credentials).wrap_socket(sock, server_side=True)
            handle(Attacker(sock, credentials))
        except (OSError, gevent.GreenletExit):
            pass  # the other side had enough, or the test has
        finally:
            sock.close()

    def accept() -> None:
        while True:
            greenlets.append(gevent.spawn(serve, listener.accept()[0]))

    accepting = gevent.spawn(accept)
    try:
        yield f"127.0.0.1:{listener.getsockname()[1]}"
    finally:
        gevent.killall([accepting, *greenlets])
        listener.close()


def server_context(credentials: Credentials) -> ssl.SSLContext:
    """TLS as a server speaks it that does not care who calls."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    credentials.load_into(context)
    return context


def beginning(size: int) -> bytes:
    """The first bytes of a frame with a text, of which ``size`` bytes of whatever content are to follow."""
    body = b"\xa2\x01" + varint(size)
    return varint(len(body) + size) + body


def varint(value: int) -> bytes:
    """The length of a frame as it stands on the wire."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(encoded) + bytes([value])


def read_varint(data: bytes) -> tuple[int, int]:
    """A varint and where it ends; ``(0, 0)`` if it is not complete."""
    value = 0
    for index, byte in enumerate(data[:5]):
        value |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return value, index + 1
    return 0, 0
