"""Which of two connections with one peer wins, and which session it goes on with."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

import pytest

from peernet.channel.state import ChannelState
from peernet.config import NetworkConfig
from peernet.connections.handshake import HandshakeResult
from peernet.connections.refusal import Refusal
from peernet.reasons import Reason
from peernet.switch.arbiter import Arbiter
from peernet.switch.table import ChannelTable
from peernet.v1 import packet_pb2 as pb
from tests.unit.sample_peers import ALICE, BOB, FakeChannel, peer_at

OPEN, RECONNECTING, CLOSING = ChannelState.OPEN, ChannelState.RECONNECTING, ChannelState.CLOSING


class FakeSession:
    """As much of a session as it takes to recognise it: 7 on our side, 8 on the peer's."""

    def remembers(self, theirs: pb.HelloPacket) -> bool:
        return (theirs.session_id, theirs.peer_session_id) == (8, 7)

    def introduce(self, ours: pb.HelloPacket) -> None:
        ours.session_id, ours.peer_session_id = 7, 8


@dataclass(eq=False)
class SessionChannel(FakeChannel):
    session: FakeSession | None = field(default_factory=FakeSession)


@dataclass(eq=False)
class FakeControl:
    """As much of a control as an arbiter uses."""

    channel: SessionChannel
    alive: bool = True
    story: list[Any] = field(default_factory=list)

    def detach(self, why: str) -> None:
        self.channel.state = RECONNECTING if self.channel.state is OPEN else self.channel.state

    def shows_life(self, timeout: float) -> bool:
        self.story.append(("asked for life", timeout))
        return self.alive

    def end(self, reason: Reason) -> None:
        self.story.append(reason)


class Court:
    """An arbiter, and the table that it looks at."""

    def __init__(self, me: str = ALICE, **limits: Any) -> None:
        self.channels = ChannelTable()
        self.arbiter = Arbiter(me, NetworkConfig(**limits), self.channels)

    def add(self, peer: str = BOB, *, dialled: bool = True, proven: bool = True, **options: Any) -> FakeControl:
        """A channel that is there."""
        control = FakeControl(SessionChannel(peer=peer_at(identifier=peer, proven=proven), dialled=dialled, **options))
        self.channels.add(control)  # type: ignore[arg-type]
        return control

    def keeps(self, peer: str = BOB, *, dialled: bool, proven: bool = False) -> bool:
        """Whether a channel stays when there is another connection. There is a rule for peers that prove nothing."""
        return self.arbiter.find_better(peer_at(identifier=peer, proven=proven), dialled=dialled) is not None


RESUMING = pb.HelloPacket(session_id=8, peer_session_id=7)
FRESH = pb.HelloPacket(session_id=9)


# Of two that prove nothing.


def test_the_first_connection_with_a_peer_gives_way_to_nothing() -> None:
    assert not Court().keeps(dialled=True)


# Me, the peer, who dialled the channel that exists -> whether it stays when the other side's one comes.
@pytest.mark.parametrize(
    ("me", "peer", "dialled", "kept"),
    [(ALICE, BOB, True, True), (ALICE, BOB, False, False), (BOB, ALICE, True, False), (BOB, ALICE, False, True)],
)
def test_of_two_that_were_dialled_crosswise_the_smaller_identifiers_one_is_kept(
    me: str, peer: str, dialled: bool, kept: bool
) -> None:
    court = Court(me)
    court.add(peer, dialled=dialled)
    assert court.keeps(peer, dialled=not dialled) is kept


@pytest.mark.parametrize("dialled", [True, False])
def test_of_two_that_one_side_dialled_the_older_one_is_kept(dialled: bool) -> None:
    court = Court()
    court.add(dialled=dialled)
    assert court.keeps(dialled=dialled)


def test_both_sides_keep_the_same_connection() -> None:
    """Whatever order the two connections come in at either side."""
    for first_at_alice, first_at_bob in itertools.product([ALICE, BOB], repeat=2):
        kept = []
        for me, peer, first in ((ALICE, BOB, first_at_alice), (BOB, ALICE, first_at_bob)):
            court = Court(me)
            court.add(peer, dialled=first == me)
            second = peer if first == me else me
            kept.append(first if court.keeps(peer, dialled=second == me) else second)
        assert kept == [ALICE, ALICE]


# The channel's state, who dialled the new connection -> whether the channel stays, if its peer is proven.
@pytest.mark.parametrize(
    ("state", "dialled", "kept"),
    [
        (OPEN, True, True),
        (OPEN, False, True),
        (RECONNECTING, True, False),
        (RECONNECTING, False, True),
        (CLOSING, True, False),
        (CLOSING, False, True),
    ],
)
def test_of_two_with_a_proven_peer_the_open_one_is_kept(state: ChannelState, dialled: bool, kept: bool) -> None:
    court = Court()
    court.add(state=state)
    assert court.keeps(dialled=dialled, proven=True) is kept


@pytest.mark.parametrize("dialled", [True, False])
def test_a_channel_that_is_closing_is_not_kept_if_nothing_is_proven(dialled: bool) -> None:
    court = Court()
    court.add(state=CLOSING, dialled=dialled)
    assert not court.keeps(dialled=dialled)


# Before our hello on our own dial.


def test_a_dial_names_a_session_of_its_own_and_is_the_only_one_to_its_peer() -> None:
    court, ours = Court(), pb.HelloPacket()
    claim = court.arbiter.claim_dial(BOB, ours)
    assert claim is not None
    assert (ours.session_id != 0, ours.peer_session_id) == (True, 0)
    with pytest.raises(Refusal) as refused:
        court.arbiter.claim_dial(BOB, pb.HelloPacket())
    assert refused.value.reason is Reason.DUPLICATE
    claim.release()
    assert court.arbiter.claim_dial(BOB, pb.HelloPacket()) is not None


def test_a_dial_to_nobody_in_particular_claims_nothing() -> None:
    assert [Court().arbiter.claim_dial("", pb.HelloPacket()) for _ in range(2)] == [None, None]


def test_without_sessions_a_hello_names_none() -> None:
    court, ours = Court(session_ttl=0), pb.HelloPacket()
    court.arbiter.claim_dial(BOB, ours)
    assert ours.session_id == 0


@pytest.mark.parametrize("state", [OPEN, CLOSING])
def test_a_dial_to_a_peer_with_a_channel_is_given_up(state: ChannelState) -> None:
    court = Court()
    control = court.add(state=state)
    with pytest.raises(Refusal) as refused:
        court.arbiter.claim_dial(BOB, pb.HelloPacket())
    assert refused.value.reason is Reason.DUPLICATE
    control.channel.state = RECONNECTING  # and no claim is left behind
    assert court.arbiter.claim_dial(BOB, pb.HelloPacket()) is not None


def test_a_dial_for_a_channel_that_is_reconnecting_names_its_session() -> None:
    court, ours = Court(), pb.HelloPacket()
    court.add(state=RECONNECTING)
    court.arbiter.claim_dial(BOB, ours)
    assert (ours.session_id, ours.peer_session_id) == (7, 8)


# Before our answer to another's.


def test_of_two_that_ask_at_once_one_is_answered() -> None:
    court = Court()
    claim = court.arbiter.claim_answer(BOB)
    assert court.arbiter.undecided == 1
    with pytest.raises(Refusal) as refused:
        court.arbiter.claim_answer(BOB)
    assert refused.value.reason is Reason.DUPLICATE
    claim.release()
    assert court.arbiter.undecided == 0


def test_nobody_is_in_the_way_of_a_stranger() -> None:
    assert Court().arbiter.make_way(BOB, FRESH) is None


def test_who_continues_the_session_of_an_open_channel_takes_it_over() -> None:
    court = Court()
    control = court.add()
    way: object = court.arbiter.make_way(BOB, RESUMING)
    assert way is control.channel
    assert (control.channel.state, control.story) == (RECONNECTING, [])


def test_a_session_that_ends_just_now_is_not_continued() -> None:
    court = Court()
    court.add(state=CLOSING)
    assert court.arbiter.make_way(BOB, RESUMING) is None


@pytest.mark.parametrize("session", [FakeSession(), None])
def test_who_begins_anew_gives_way_to_a_channel_that_lives(session: FakeSession | None) -> None:
    court = Court(duplicate_patience=3.0)
    control = court.add(session=session)
    with pytest.raises(Refusal) as refused:
        court.arbiter.make_way(BOB, FRESH)
    assert refused.value.reason is Reason.DUPLICATE
    assert control.story == [("asked for life", 3.0)]


def test_who_begins_anew_ends_a_channel_that_shows_no_life() -> None:
    court = Court()
    control = court.add()
    control.alive = False
    assert court.arbiter.make_way(BOB, FRESH) is None
    assert control.story[1:] == [Reason.SESSION_LOST]


@pytest.mark.parametrize(("me", "peer", "refused"), [(ALICE, BOB, True), (BOB, ALICE, False)])
def test_of_two_dials_of_nobody_known_the_smaller_identifiers_one_goes_on(me: str, peer: str, refused: bool) -> None:
    court = Court(me)
    control = court.add(peer, dialled=True, proven=False)
    if refused:
        with pytest.raises(Refusal):
            court.arbiter.make_way(peer, FRESH)
    else:
        assert court.arbiter.make_way(peer, FRESH) is None
    assert control.story == []  # whether it lives does not matter


# After the hellos.


def result_of(theirs: pb.HelloPacket) -> HandshakeResult:
    return HandshakeResult(peer_at(identifier=BOB), None, None, theirs)  # type: ignore[arg-type]


def test_a_connection_goes_on_with_the_channel_that_remembers_its_session() -> None:
    court = Court()
    control = court.add(state=RECONNECTING)
    resumed: object = court.arbiter.find_resumed(result_of(RESUMING))
    assert resumed is control


@pytest.mark.parametrize("session", ["none", "another", "no channel"])
def test_a_connection_whose_session_is_gone_goes_on_with_nothing(session: str) -> None:
    court = Court()
    if session != "no channel":
        court.add(session=None if session == "none" else FakeSession())
    with pytest.raises(Refusal) as refused:
        court.arbiter.find_resumed(result_of(pb.HelloPacket(session_id=5, peer_session_id=7)))
    assert refused.value.reason is Reason.SESSION_LOST
