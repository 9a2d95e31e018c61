"""KeptConnections: dialled for ever, unless that makes no sense."""

from __future__ import annotations

import gevent.event
import pytest

from peernet.config import NetworkConfig
from peernet.errors import AddressError, ConnectError, PeerNetError, RefusedByPeerError, SelfConnectionError
from peernet.network import PeerNetwork
from peernet.reasons import Reason
from peernet.switch.persistent import PersistentPeers, backoff

CONFIG = NetworkConfig(backoff_base=0.01, backoff_cap=0.02)


class Failures:
    """Remembers what was told, and lets a test wait for it."""

    def __init__(self, wanted: int) -> None:
        self.pauses: list[float | None] = []
        self._wanted = wanted
        self.enough = gevent.event.Event()

    def __call__(self, address: str, error: PeerNetError, pause: float | None) -> None:
        self.pauses.append(pause)
        if len(self.pauses) == self._wanted:
            self.enough.set()


def keep(monkeypatch: pytest.MonkeyPatch, error: PeerNetError, wanted: int) -> list[float | None]:
    """The pauses that follow when every attempt fails with `error`."""
    network = PeerNetwork(config=CONFIG)

    def connect(address: str, *, attempts: int) -> None:
        raise error

    monkeypatch.setattr(network, "connect", connect)
    failures = Failures(wanted)
    kept = PersistentPeers(network, failures)
    kept.keep("127.0.0.1:1")
    assert failures.enough.wait(5)
    gevent.sleep(0)
    kept.stop()
    return failures.pauses


def test_it_tries_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses = keep(monkeypatch, ConnectError("nobody"), 5)
    assert all(pause is not None and 0 <= pause <= CONFIG.backoff_cap for pause in pauses)


@pytest.mark.parametrize(
    "error",
    [
        SelfConnectionError("it is me"),
        AddressError("no address"),
        RefusedByPeerError("it is me", Reason.SELF_CONNECTION),
        RefusedByPeerError("never again", Reason.REJECTED, do_not_redial=True),
    ],
)
def test_it_gives_up_what_makes_no_sense(monkeypatch: pytest.MonkeyPatch, error: PeerNetError) -> None:
    assert keep(monkeypatch, error, 1) == [None]


def test_it_waits_as_long_as_the_peer_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    (pause,) = keep(monkeypatch, RefusedByPeerError("busy", Reason.BUSY, retry_after=7.0), 1)
    assert pause == 7.0


def test_pauses_grow_up_to_the_limit() -> None:
    config = NetworkConfig(backoff_base=1, backoff_cap=4)
    pauses = [[backoff(config, failures) for _ in range(200)] for failures in (0, 1, 100)]
    assert [max(each) <= longest for each, longest in zip(pauses, (2, 4, 4), strict=True)] == [True] * 3
    assert min(map(min, pauses)) >= 1
    assert max(pauses[2]) > 2
