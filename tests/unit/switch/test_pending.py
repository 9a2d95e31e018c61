from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gevent
import pytest

from peernet.errors import ConfigurationError
from peernet.reasons import Reason
from peernet.switch import pending
from peernet.switch.pending import InboundConnectingPeersQueue, IncomingPeerConnectionAttempt
from tests.support import scaled
from tests.unit.sample_peers import ALICE, BOB, FakeChannel, peer_at


@dataclass
class PendingControl:
    """The control of a channel whose peer waits, and may leave."""

    channel: FakeChannel
    lost: bool = False

    def lost_while_pending(self) -> bool:
        return self.lost


def attempt_of(identifier: str = ALICE) -> Any:
    control: Any = PendingControl(FakeChannel(peer=peer_at(identifier=identifier)))
    return IncomingPeerConnectionAttempt(control)


def outcome(attempt: IncomingPeerConnectionAttempt) -> tuple[bool | None, Reason, str]:
    return attempt.verdict, attempt.reason, attempt.message


def test_an_attempt_is_undecided_at_first() -> None:
    attempt = attempt_of()
    assert (attempt.verdict, attempt.deferred, attempt.peer.identifier) == (None, False, ALICE)


def test_an_accepted_peer_is_in() -> None:
    attempt = attempt_of()
    attempt.accept()
    assert attempt.verdict is True
    assert attempt.wait(0) is True


def test_a_rejected_peer_is_told_why() -> None:
    attempt = attempt_of()
    attempt.reject("not today", reason=Reason.BUSY)
    assert outcome(attempt) == (False, Reason.BUSY, "not today")
    assert attempt.wait(0) is False


def test_the_first_decision_counts() -> None:
    accepted, rejected = attempt_of(), attempt_of()
    accepted.accept()
    accepted.reject("too late")
    rejected.reject("no")
    rejected.accept()
    rejected.reject("really not", reason=Reason.BUSY)
    assert outcome(accepted) == (True, Reason.REJECTED, "")
    assert outcome(rejected) == (False, Reason.REJECTED, "no")


def test_an_accepted_peer_is_refused_if_things_have_changed() -> None:
    attempt = attempt_of()
    attempt.accept()
    attempt.overrule(Reason.DUPLICATE)
    assert outcome(attempt) == (False, Reason.DUPLICATE, "")


def test_deferring_decides_nothing() -> None:
    attempt = attempt_of()
    attempt.defer()
    assert (attempt.deferred, attempt.verdict) == (True, None)


@pytest.mark.parametrize(("decide", "verdict"), [("accept", True), ("reject", False)])
def test_a_decision_wakes_who_waits_for_it(decide: str, verdict: bool) -> None:
    attempt = attempt_of()
    waiting = gevent.spawn(attempt.wait, 60)
    gevent.sleep(0)
    getattr(attempt, decide)()
    assert waiting.get(timeout=scaled(1)) is verdict


@pytest.mark.parametrize("timeout", [0, 0.01])
def test_time_that_runs_out_is_a_rejection(timeout: float) -> None:
    attempt = attempt_of()
    assert attempt.wait(timeout) is False
    assert outcome(attempt) == (False, Reason.DECISION_TIMEOUT, "")


def test_a_peer_that_leaves_while_it_waits_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pending, "LOOK_EVERY", 0.001)
    attempt = attempt_of()
    waiting = gevent.spawn(attempt.wait, 60)
    gevent.sleep(0)
    attempt.control.lost = True
    assert waiting.get(timeout=scaled(1)) is False
    assert attempt.reason is Reason.CONNECTION_LOST


def test_held_attempts_are_found_by_identifier_oldest_first() -> None:
    queue = InboundConnectingPeersQueue()
    one, other = attempt_of(BOB), attempt_of(ALICE)
    queue.put(one)
    queue.put(other)
    assert (len(queue), list(queue), queue[ALICE], BOB in queue) == (2, [one, other], other, True)


def test_the_queue_accepts_and_rejects_by_identifier() -> None:
    queue = InboundConnectingPeersQueue()
    one, other = attempt_of(ALICE), attempt_of(BOB)
    queue.put(one)
    queue.put(other)
    queue.accept(ALICE)
    queue.reject(BOB, "not you")
    assert outcome(one)[0] is True
    assert outcome(other) == (False, Reason.REJECTED, "not you")


@pytest.mark.parametrize("use", [InboundConnectingPeersQueue.accept, InboundConnectingPeersQueue.reject])
def test_deciding_about_nobody_is_an_error_that_says_so(use: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"no pending peer '{ALICE}'; it may have been decided"):
        use(InboundConnectingPeersQueue(), ALICE)


def test_an_attempt_is_removed_once_and_may_be_removed_again() -> None:
    queue, attempt = InboundConnectingPeersQueue(), attempt_of()
    queue.put(attempt)
    queue.remove(attempt)
    queue.remove(attempt)
    assert (len(queue), list(queue), ALICE in queue) == (0, [], False)


def test_removing_an_attempt_leaves_a_newer_one_of_the_same_peer() -> None:
    queue, older, newer = InboundConnectingPeersQueue(), attempt_of(), attempt_of()
    queue.put(older)
    queue.put(newer)
    queue.remove(older)
    assert list(queue) == [newer]


def test_attempts_may_be_removed_while_the_queue_is_read() -> None:
    queue = InboundConnectingPeersQueue()
    for identifier in (ALICE, BOB):
        queue.put(attempt_of(identifier))
    for attempt in queue:
        queue.remove(attempt)
    assert len(queue) == 0
