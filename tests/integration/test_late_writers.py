"""Connections that end under their reader and their writers: the number of the descriptor may soon be another's."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager

import gevent
import pytest

from peernet import IncomingPeerTrustPolicy, PeerChannel, PeerNetwork, Reason
from peernet.errors import PeerNetError, TransportError
from tests.integration import attackers
from tests.integration.attackers import Attacker
from tests.integration.meetings import CHUNK, Networks, config, fill
from tests.support import PartsOf, scaled, wait_until

OPEN_TO_ALL = IncomingPeerTrustPolicy(allow_enhanced_packet_exchange=True)


def descriptor_for(guest: Attacker) -> int:
    """The number of the node's end of a connection."""
    numbers = [int(name) for name in os.listdir("/proc/self/fd")]
    (found,) = (number for number in numbers if peer_of(number) == guest.sock.getsockname())
    return found


def peer_of(number: int) -> object:
    """Who is at the other end of a descriptor; ``None`` if it is no connection."""
    try:
        if not stat.S_ISSOCK(os.fstat(number).st_mode):
            return None
        with socket.socket(fileno=os.dup(number)) as sock:
            return sock.getpeername()
    except OSError:
        return None  # it is closed, or not connected


@contextmanager
def successor(number: int) -> Iterator[socket.socket]:
    """A connection whose one end has the number of a descriptor that was closed; yields the other end."""
    one, other = socket.socketpair()
    if other.fileno() == number:
        one, other = other, one
    if one.fileno() != number:
        os.dup2(one.fileno(), number)
        one.close()
    else:
        one.detach()
    other.setblocking(False)
    try:
        yield other
    finally:
        os.close(number)
        other.close()


def is_free(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return True
    return False


def heard(sock: socket.socket) -> bytes:
    try:
        return sock.recv(65536)
    except BlockingIOError:
        return b""


@pytest.fixture(params=["tls", "plain"])
def node(request: pytest.FixtureRequest, networks: Networks) -> PeerNetwork:
    plain = request.param == "plain"
    return networks(insecure=plain, policy=OPEN_TO_ALL, config=config(session_ttl=0, write_timeout=30))


def deaf_peer(node: PeerNetwork) -> tuple[Attacker, PeerChannel]:
    guest = attackers.dial(node.addresses[0], plain=node.insecure)
    guest.greet()
    channel: PeerChannel = wait_until(lambda: node.channel_to(guest.credentials.identifier))
    return guest, channel


@pytest.mark.parametrize("how", ["closed", "ended", "given up by its peer"])
def test_nothing_reaches_whoever_gets_the_descriptor_next(node: PeerNetwork, parts_of: PartsOf, how: str) -> None:
    guest, channel = deaf_peer(node)
    parts = parts_of(channel)
    fill(channel)  # writes wait for the socket
    number = descriptor_for(guest)
    waiting = [gevent.spawn(_send, channel) for _ in range(3)]
    gevent.sleep(0.02)
    if how == "closed":
        closing = gevent.spawn(channel.close, timeout=0.05)
    elif how == "ended":
        parts.control.end(Reason.CLOSED)
    else:
        guest.vanish()
    wait_until(lambda: is_free(number), what="the descriptor to be free")
    with successor(number) as other:
        link = parts.link
        for late in (
            link.outbox.flush,
            link.abort,
            link.release,
            link.say_no_more,
            channel.close,
            link.outbox.on_writable,
        ):
            late()
        with pytest.raises(TransportError):
            parts.transport.send(b"late")
        assert (_send(channel), link.unread, link.ended()) == (True, 0, True)
        gevent.joinall(waiting, timeout=scaled(5))
        assert [one.value for one in waiting] == [True] * 3
        gevent.sleep(0.05)
        assert heard(other) == b""
        assert not is_free(number)
        other.send(b"for somebody else")
        gevent.sleep(0.02)
        assert os.read(number, 100) == b"for somebody else"
    if how == "closed":
        closing.join(timeout=scaled(5))
    guest.leave()


def test_the_reader_that_waits_is_woken_and_nothing_is_read_or_written_after_it(
    node: PeerNetwork, parts_of: PartsOf
) -> None:
    guest, channel = deaf_peer(node)
    parts = parts_of(channel)
    number, reader = descriptor_for(guest), parts.ownership.greenlet
    parts.control.end(Reason.CLOSED)
    wait_until(lambda: is_free(number))
    with successor(number) as other:
        other.send(b"for somebody else")
        wait_until(lambda: reader.dead, what="the reader's end")
        assert os.read(number, 100) == b"for somebody else"
        with pytest.raises(TransportError):
            parts.transport.send(b"late")
        assert heard(other) == b""
    guest.leave()


def _send(channel: PeerChannel) -> bool:
    """Whether sending fails as it should."""
    try:
        channel.send(CHUNK, timeout=scaled(20))
    except PeerNetError:
        return True
    return False
