from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import gevent
import pytest

from peernet.config import NetworkConfig
from peernet.connections.dial_history import DialHistory
from peernet.connections.dialler import Dialler
from peernet.connections.refusal import Refusal
from peernet.errors import (
    ConnectError,
    ConnectTimeout,
    IdentityError,
    IdentityMismatchError,
    RefusedByPeerError,
    RefusedByPolicyError,
    RemoteProtocolError,
    SelfConnectionError,
    TransportError,
)
from peernet.peers.address import PeerAddress
from peernet.reasons import Reason
from peernet.runtime import clock, rng
from tests.support import stay
from tests.unit.sample_peers import ALICE

WHERE = PeerAddress("192.0.2.1", 4000)


class Tcp:
    """A connection that only knows whether it was closed."""

    remote = (WHERE.host, WHERE.port)

    def __init__(self) -> None:
        self.closed = False

    def close(self) -> None:
        self.closed = True


class World:
    """A world in which dialling always works, introductions do what they are told, and pauses take no time.

    No address is dialled too often in it, unless a test takes another history.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.outcomes: list[Any] = []
        self.connections: list[Tcp] = []
        self.pauses: list[float] = []
        self.longest: list[float] = []
        self.config = NetworkConfig(backoff_base=1.0, backoff_cap=5.0)
        self.history: Any = SimpleNamespace(
            time_left=lambda where, now: 0.0, note_dial=lambda where, now: None, note_name=lambda where, found: None
        )
        monkeypatch.setattr(gevent, "sleep", self.pauses.append)
        monkeypatch.setattr(rng, "uniform", self.uniform)

    def uniform(self, least: float, most: float) -> float:
        assert least == self.config.backoff_base
        self.longest.append(most)
        return most / 2

    def dial(self, address: PeerAddress) -> Tcp:
        assert address is WHERE
        self.connections.append(Tcp())
        return self.connections[-1]

    def introduce(self, tcp: Tcp, address: PeerAddress) -> Any:
        assert tcp is self.connections[-1]
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome() if callable(outcome) else outcome

    def run(self, *outcomes: Any, timeout: float = 1000.0, attempts: int | None = 3) -> Any:
        self.outcomes = list(outcomes)
        dialler = Dialler(self.config, self.dial, self.introduce, self.history)  # type: ignore[arg-type]
        return dialler.dial(WHERE, timeout, attempts)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


def busy(retry_after: float = 0.0, *, do_not_redial: bool = False) -> RefusedByPeerError:
    return RefusedByPeerError("no room", Reason.BUSY, retry_after, do_not_redial)


def test_the_first_attempt_that_works_is_the_last(world: World) -> None:
    assert world.run("introduced") == "introduced"
    assert [one.closed for one in world.connections] == [False]
    assert world.pauses == []


MAY_PASS: dict[str, Callable[[], Exception]] = {
    "the connection broke": lambda: TransportError("broke"),
    "the peer broke the protocol": lambda: RemoteProtocolError("garbage", Reason.BAD_PACKET),
    "the peer has a strange key": lambda: IdentityError("RSA"),
    "the peer is busy": busy,
    "nobody listens": lambda: ConnectError("refused"),
}


@pytest.mark.parametrize("make", MAY_PASS.values(), ids=MAY_PASS)
def test_a_failure_that_may_pass_is_tried_again(world: World, make: Callable[[], Exception]) -> None:
    assert world.run(make(), make(), "introduced") == "introduced"
    assert [one.closed for one in world.connections] == [True, True, False]
    assert len(world.pauses) == 2


@pytest.mark.parametrize("make", MAY_PASS.values(), ids=MAY_PASS)
def test_of_several_attempts_the_last_ones_error_is_raised(world: World, make: Callable[[], Exception]) -> None:
    last = ConnectError("the last one")
    with pytest.raises(ConnectError, match="the last one"):
        world.run(make(), make(), last)
    assert [one.closed for one in world.connections] == [True] * 3
    assert len(world.pauses) == 2


FINAL: dict[str, tuple[Callable[[], Exception], type[ConnectError]]] = {
    "another identity": (lambda: IdentityMismatchError("not her"), IdentityMismatchError),
    "the peer blocks us": (lambda: RefusedByPeerError("no", Reason.BLOCKED), RefusedByPeerError),
    "the peer is busy for good": (lambda: busy(do_not_redial=True), RefusedByPeerError),
    "another network": (lambda: RefusedByPeerError("no", Reason.WRONG_NETWORK), RefusedByPeerError),
    "our own policy": (lambda: Refusal(Reason.BLOCKED, rule="blocked_identifiers"), RefusedByPolicyError),
    "ourselves": (lambda: Refusal(Reason.SELF_CONNECTION), SelfConnectionError),
    "too slow": (lambda: ConnectTimeout("slow"), ConnectTimeout),
}


@pytest.mark.parametrize(("make", "raised"), FINAL.values(), ids=FINAL)
def test_a_failure_that_will_not_pass_is_raised_at_once(
    world: World, make: Callable[[], Exception], raised: type[ConnectError]
) -> None:
    with pytest.raises(raised):
        world.run(make())
    assert [one.closed for one in world.connections] == [True]
    assert world.pauses == []


def test_the_errors_of_the_connection_name_the_address_and_the_cause(world: World) -> None:
    cause = TransportError("the connection broke: reset")
    with pytest.raises(
        ConnectError, match=r"no connection to 192\.0\.2\.1:4000: the connection broke: reset"
    ) as caught:
        world.run(cause, attempts=1)
    assert caught.value.__cause__ is cause


def test_our_own_refusal_names_the_rule_and_the_peer(world: World) -> None:
    refusal = Refusal(Reason.BLOCKED, rule="blocked_identifiers")
    refusal.identifier = ALICE
    with pytest.raises(RefusedByPolicyError, match="this node's own rule blocked_identifiers") as caught:
        world.run(refusal)
    assert (caught.value.rule, caught.value.identifier) == ("blocked_identifiers", ALICE)


def test_pauses_may_double_each_time_up_to_the_cap(world: World) -> None:
    with pytest.raises(ConnectError):
        world.run(*[ConnectError("no")] * 6, attempts=6)
    assert world.longest[:5] == [2, 4, 5, 5, 5]
    assert world.pauses == [1, 2, 2.5, 2.5, 2.5]


def test_a_busy_peer_is_given_the_time_it_asks_for(world: World) -> None:
    assert world.run(busy(30.0), busy(0.1), "introduced") == "introduced"
    assert world.pauses == [30.0, 2.0]


def test_a_pause_longer_than_the_time_left_is_not_made(world: World) -> None:
    with pytest.raises(RefusedByPeerError, match="no room"):
        world.run(busy(30.0), "never asked", timeout=20.0)
    assert world.pauses == []


def nobody_listens() -> ConnectError:
    error = ConnectError("cannot reach 192.0.2.1:4000: nobody listens there")
    error.__cause__ = ConnectionRefusedError(111, "Connection refused")
    return error


def test_an_address_at_which_nobody_listens_is_tried_once_if_no_more_is_asked_for(world: World) -> None:
    with pytest.raises(ConnectError, match="nobody listens there"):
        world.run(nobody_listens(), "never asked", attempts=None)
    assert world.pauses == []


def test_an_address_at_which_nobody_listens_any_more_is_not_tried_again(world: World) -> None:
    with pytest.raises(ConnectError, match="nobody listens there"):
        world.run(TransportError("broke"), nobody_listens(), "never asked", attempts=None)
    assert len(world.pauses) == 1


def test_an_address_at_which_nobody_listens_is_tried_as_often_as_is_asked_for(world: World) -> None:
    assert world.run(nobody_listens(), nobody_listens(), "introduced", attempts=3) == "introduced"
    assert len(world.pauses) == 2


@pytest.mark.parametrize("make", MAY_PASS.values(), ids=MAY_PASS)
def test_other_failures_are_tried_again_as_often_as_the_configuration_says(
    world: World, make: Callable[[], Exception]
) -> None:
    world.config = NetworkConfig(connect_attempts=2)
    with pytest.raises(ConnectError):
        world.run(make(), make(), "never asked", attempts=None)
    assert len(world.pauses) == 1


@pytest.mark.parametrize("attempts", [0, -1])
def test_no_attempt_is_an_error_too(world: World, attempts: int) -> None:
    with pytest.raises(ConnectError, match="attempts must be at least 1"):
        world.run(attempts=attempts)


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> World:
    """The same world, in which time passes."""
    sleep = gevent.sleep
    world = World(monkeypatch)
    monkeypatch.setattr(gevent, "sleep", sleep)
    return world


def test_a_handshake_that_takes_too_long_is_a_timeout_that_is_not_tried_again(slow: World) -> None:
    with pytest.raises(ConnectTimeout, match=r"192\.0\.2\.1:4000 did not complete the handshake in time"):
        slow.run(stay, timeout=0.01)
    assert [one.closed for one in slow.connections] == [True]


def test_a_connection_that_is_not_made_in_time_is_a_timeout(slow: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slow, "dial", stay)
    with pytest.raises(ConnectTimeout):
        slow.run(timeout=0.01)


def test_somebody_elses_timeout_passes_through(slow: World) -> None:
    with pytest.raises(gevent.Timeout) as caught, gevent.Timeout(0.01) as theirs:
        slow.run(stay)
    assert caught.value is theirs
    assert [one.closed for one in slow.connections] == [True]


def test_an_attempt_that_is_killed_closes_its_connection(slow: World) -> None:
    dialling = gevent.spawn(slow.run, stay)
    gevent.sleep(0.01)
    dialling.kill(timeout=1)
    assert [one.closed for one in slow.connections] == [True]


class Turns:
    """A world with a clock that the pauses move."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.world = World(monkeypatch)
        self.world.history = DialHistory(self.world.config)
        self.now = 1000.0
        self.dials: list[float] = []
        monkeypatch.setattr(clock, "monotonic", lambda: self.now)
        monkeypatch.setattr(gevent, "sleep", self.pass_time)

    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    def dial(self, *outcomes: Any, **limits: Any) -> Any:
        try:
            return self.world.run(*outcomes, **limits)
        finally:
            self.dials.append(self.now - 1000)

    def refuse(self, times: int, **limits: Any) -> None:
        for _ in range(times):
            with pytest.raises(ConnectError):
                self.dial(ConnectError("no"), attempts=1, **limits)


@pytest.fixture
def turns(monkeypatch: pytest.MonkeyPatch) -> Turns:
    return Turns(monkeypatch)


def test_whoever_dials_in_a_loop_waits_for_his_turn_each_time_but_the_first(turns: Turns) -> None:
    turns.refuse(12)
    assert turns.dials == pytest.approx([1.2 * number for number in range(10)] + [31, 32.2])


def test_what_was_reached_but_has_not_held_yet_waits_too(turns: Turns) -> None:
    for _ in range(3):
        assert turns.dial("introduced") == "introduced"
    assert turns.dials == pytest.approx([0, 1.2, 2.4])


def test_a_turn_that_comes_too_late_is_a_timeout_when_the_time_is_up_and_no_dial(turns: Turns) -> None:
    turns.refuse(10)
    with pytest.raises(ConnectTimeout, match=r"192\.0\.2\.1:4000 is dialled again in 11 s at the earliest"):
        turns.dial(timeout=9.0)
    assert turns.dials[-1] == pytest.approx(19.8)
    assert len(turns.world.connections) == 10


def test_further_attempts_wait_for_their_turn_unless_there_is_no_time(turns: Turns) -> None:
    turns.refuse(9)
    with pytest.raises(ConnectError, match="the second"):
        turns.dial(ConnectError("the first"), ConnectError("the second"), attempts=2, timeout=40.0)
    assert turns.dials[-1] == pytest.approx(31)
    turns.refuse(8)
    with pytest.raises(ConnectError, match="the last"):
        turns.dial(ConnectError("the last"), "never asked", attempts=2, timeout=10.0)


def test_who_waits_for_a_turn_may_be_told_that_there_is_no_need(turns: Turns) -> None:
    turns.refuse(1)

    def rest(seconds: float) -> None:
        assert seconds == pytest.approx(1.2)
        raise KeyError

    dialler = Dialler(turns.world.config, turns.world.dial, turns.world.introduce, turns.world.history)  # type: ignore[arg-type]
    with pytest.raises(KeyError):
        dialler.dial(WHERE, 10.0, 1, rest)
    assert len(turns.world.connections) == 1


def test_a_name_is_dialled_no_more_often_than_the_address_that_it_stands_for(
    turns: Turns, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns.refuse(1)
    assert turns.world.history.failures((WHERE.host, WHERE.port)) == 1
    monkeypatch.setattr(Tcp, "remote", ("192.0.2.7", 4000))
    turns.refuse(1)
    assert turns.world.history.failures(("192.0.2.7", 4000)) == 2
