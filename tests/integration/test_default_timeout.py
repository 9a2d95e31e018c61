"""A program that gives its own sockets a timeout (``socket.setdefaulttimeout``) does not give it to peernet's."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from pathlib import Path

import gevent
import pytest

from peernet.node.control.client import call
from peernet.node.control.server import ControlServer
from peernet.state.home import Home
from peernet.testing import FaultProxy
from tests.integration.meetings import Networks, meet, text
from tests.support import handle, scaled

DEFAULT = 0.1
IDLE = 4 * DEFAULT  # longer than any of them would wait. Seconds


@pytest.fixture(autouse=True)
def default_timeout() -> Iterator[None]:
    socket.setdefaulttimeout(DEFAULT)
    yield
    socket.setdefaulttimeout(None)


@pytest.mark.parametrize("insecure", [False, True], ids=["tls", "plain"])
def test_a_network_that_is_idle_for_longer_works_and_warns_of_nothing(
    networks: Networks, caplog: pytest.LogCaptureFixture, insecure: bool
) -> None:
    with caplog.at_level(logging.WARNING):
        early = meet(networks, insecure=insecure)
        gevent.sleep(IDLE)
        late = networks(insecure=insecure).connect(early.bob.addresses[0])
        heard = handle(early.bob)
        for channel in (early.to_bob, late):
            assert channel.send(text("hello")).wait(scaled(5))
        assert len(heard) == 2
    assert early.bob.counters["accept_failed"] == early.alice.counters["accept_failed"] == 0
    assert (early.bob.counters["reconnecting"], early.alice.counters["reconnecting"]) == (0, 0)
    assert caplog.messages == []


def test_a_dial_waits_for_a_peer_that_takes_longer(networks: Networks) -> None:
    """The hello comes later than the timeout."""
    node = networks()
    slow = node.incoming_peer_connection_attempt
    slow.add(lambda attempt: gevent.sleep(IDLE))
    channel = networks().connect(node.addresses[0])
    handle(node)
    assert channel.send(text("hello")).wait(scaled(5))


def test_a_proxy_of_faults_waits_too(networks: Networks) -> None:
    node = networks()
    heard = handle(node)
    with FaultProxy(node.addresses[0]) as proxy:
        channel = networks().connect(proxy.address)
        gevent.sleep(IDLE)
        assert channel.send(text("hello")).wait(scaled(5))
    assert len(heard) == 1


def test_the_control_socket_waits_too(tmp_path: Path) -> None:
    home = Home(tmp_path)

    def answer(command: str, arguments: object) -> str:
        gevent.sleep(IDLE)
        return command

    server = ControlServer(home, answer)
    server.start()
    try:
        gevent.sleep(IDLE)
        assert gevent.get_hub().threadpool.apply(call, (home, "anything", scaled(5))) == "anything"
    finally:
        server.stop()
