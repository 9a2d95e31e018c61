from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peernet.errors import LocalProtocolError, RemoteProtocolError
from peernet.reasons import Reason
from peernet.v1 import packet_pb2 as pb
from peernet.wire.framing import packet_length
from peernet.wire.packets import WITHDRAWN_FRAME, encode_frame
from peernet.wire.session import (
    ACKNOWLEDGE_NOW,
    AWAITED,
    GO_ALONG,
    MAX_TOLD_REFUSALS,
    REFUSALS_PER_PACKET,
    TRANSITIONS,
    Session,
    SessionState,
    resumes,
)

NEW, ATTACHED, DETACHED, ENDED = SessionState
EVENTS = ("attach", "detach", "end")

# The table of docs/protocol.rst, written down a second time.
SPECIFIED: dict[SessionState, tuple[SessionState | None, ...]] = {
    NEW: (ATTACHED, None, ENDED),
    ATTACHED: (None, DETACHED, ENDED),
    DETACHED: (ATTACHED, None, ENDED),
    ENDED: (None, None, None),
}


def session(session_id: int = 1, peer: int = 2, *, max_packets: int = 100, max_bytes: int = 10_000) -> Session:
    """A session on its first connection."""
    made = Session(session_id, max_packets=max_packets, max_bytes=max_bytes)
    made.begin(peer)
    return made


def hello(**fields: Any) -> pb.HelloPacket:
    return pb.HelloPacket(session_id=2, peer_session_id=1, **fields)


def told(one: Session) -> pb.HelloPacket:
    made = pb.HelloPacket()
    one.introduce(made)
    return made


def keep(one: Session, count: int, size: int = 10) -> list[bytes]:
    frames = [f"{number:{size}}".encode() for number in range(count)]
    for frame in frames:
        one.keep(frame)
    return frames


def handle(one: Session) -> None:
    """What was received last is handled now."""
    one.handled = one.received


def take(one: Session, count: int = 1) -> None:
    """Receive and handle packets."""
    for _ in range(count):
        if one.receive():
            handle(one)


def in_state(state: SessionState) -> Session:
    one: Session = Session(1, max_packets=1, max_bytes=1)
    if state in (ATTACHED, DETACHED):
        one.begin(2)
    if state is DETACHED:
        one.detach()
    if state is ENDED:
        one.end()
    return one


class TestStates:
    @pytest.mark.parametrize("state", SessionState)
    @pytest.mark.parametrize(("column", "event"), list(enumerate(EVENTS)))
    def test_every_event_in_every_state_does_what_the_protocol_says(
        self, state: SessionState, column: int, event: str
    ) -> None:
        one = in_state(state)
        happen = {"attach": lambda: one.begin(2), "detach": one.detach, "end": one.end}[event]
        after = SPECIFIED[state][column]
        if after is None:
            with pytest.raises(LocalProtocolError, match=f"{state.value} cannot {event}"):
                happen()
            assert one.state is state
        else:
            happen()
            assert one.state is after

    def test_the_table_holds_exactly_the_specified_transitions(self) -> None:
        specified = {
            (state, event): after
            for state, row in SPECIFIED.items()
            for event, after in zip(EVENTS, row, strict=True)
            if after
        }
        assert specified == TRANSITIONS

    def test_the_end_keeps_nothing(self) -> None:
        one = session()
        keep(one, 3)
        one.keep_large(b"head", b"content")
        one.end()
        assert one.kept_bytes == 0
        assert not one.kept


class TestSending:
    def test_packets_are_numbered_from_one(self) -> None:
        one = session()
        assert [one.keep(b"small"), one.keep_large(b"head", b"content"), one.keep(b"")] == [1, 2, 3]

    def test_an_acknowledgement_releases_everything_up_to_its_number(self) -> None:
        one = session()
        frames = keep(one, 3)
        one.release(2)
        assert (one.kept, one.kept_bytes) == (frames[2:], 10)
        one.release(3)
        assert (one.kept, one.kept_bytes) == ([], 0)

    def test_both_parts_of_a_large_frame_count_until_it_is_released(self) -> None:
        one = session()
        one.keep_large(b"head", b"content")
        one.keep(b"small")
        one.keep_large(b"head", b"other")
        assert one.kept_bytes == 11 + 5 + 9
        one.release(2)
        assert one.kept_bytes == 9
        one.release(3)
        assert one.kept_bytes == 0

    def test_an_acknowledgement_that_comes_after_the_end_means_nothing(self) -> None:
        one = session()
        keep(one, 3)
        one.end()
        one.release(2)
        assert (one.acknowledged, one.kept_bytes) == (0, 0)

    def test_an_old_acknowledgement_releases_nothing(self) -> None:
        one = session()
        frames = keep(one, 3)
        for number in (2, 2, 1, 0):
            one.release(number)
        assert one.kept == frames[2:]
        assert one.acknowledged == 2

    def test_a_number_that_was_never_given_cannot_be_acknowledged(self) -> None:
        one = session()
        keep(one, 3)
        with pytest.raises(RemoteProtocolError, match="packet 4 is acknowledged, but 3 was the last") as caught:
            one.release(4)
        assert caught.value.reason == Reason.BAD_PACKET

    def test_it_is_full_at_what_is_allowed_until_more_is(self) -> None:
        one = session()
        one.allow(50)
        keep(one, 5)
        assert one.full
        one.allow(60)
        assert not one.full
        keep(one, 1)
        assert one.full
        one.release(1)
        assert not one.full
        one.allow(20_000)
        assert one.allowed_bytes == one.max_bytes

    def test_contents_that_others_may_keep_too_are_told(self) -> None:
        one, content = session(), bytes(100)
        keep(one, 1)
        one.keep_large(b"header", content)
        assert [kept is content for kept in one.contents] == [True]
        one.release(2)
        assert one.contents == []

    @pytest.mark.parametrize(("packets", "size"), [(100, 10), (10, 1000)], ids=["packets", "bytes"])
    def test_it_is_full_at_its_limits_and_half_empty_later(self, packets: int, size: int) -> None:
        one = session()
        keep(one, packets - 1, size)
        assert not one.full
        keep(one, 1, size)
        assert one.full
        one.release(packets // 2 - 1)
        assert not one.full
        assert not one.half_empty
        one.release(packets // 2)
        assert one.half_empty


class TestReceiving:
    def test_a_packet_is_owed_an_acknowledgement_when_it_is_handled_and_not_before(self) -> None:
        one = session()
        one.receive()
        assert not one.owes
        handle(one)
        assert one.owes
        assert one.acknowledge() == (1, [])
        assert not one.owes

    def test_a_number_on_a_packet_must_be_the_one_that_was_counted(self) -> None:
        one = session()
        one.receive()
        one.check(1)
        with pytest.raises(RemoteProtocolError, match="packet 1 says that it is 7") as caught:
            one.check(7)
        assert caught.value.reason == Reason.BAD_PACKET


class TestRefusals:
    def test_they_are_told_once_with_the_number_that_covers_them(self) -> None:
        one = session()
        take(one)
        one.receive()
        one.refuse(Reason.UNHANDLED)
        handle(one)
        assert one.acknowledge() == (2, [(2, Reason.UNHANDLED)])
        assert one.acknowledge() == (2, [])

    def test_as_many_as_one_packet_holds_fit_into_the_smallest_limit_that_a_peer_may_have(self) -> None:
        refusals = [pb.Refusal(sequence=2**64 - 1, reason=pb.REFUSAL_REASON_TOO_BIG)] * REFUSALS_PER_PACKET
        packet = pb.Packet(acknowledge=pb.AcknowledgePacket(refusals=refusals), acknowledged=2**64 - 1)
        assert packet.ByteSize() <= 4096

    def test_more_than_one_packet_holds_come_in_several_and_the_number_in_the_last(self) -> None:
        one = session()
        for _ in range(REFUSALS_PER_PACKET + 1):
            one.receive()
            one.refuse(Reason.UNHANDLED)
            handle(one)
        number, first = one.acknowledge()
        assert (number, len(first)) == (0, REFUSALS_PER_PACKET)
        assert one.acknowledge() == (REFUSALS_PER_PACKET + 1, [(REFUSALS_PER_PACKET + 1, Reason.UNHANDLED)])


class TestResuming:
    def test_a_connection_on_which_nothing_was_acknowledged_or_handled_has_made_no_progress(self) -> None:
        one = session()
        assert not one.progressed
        keep(one, 2)
        assert not one.progressed
        one.release(1)
        assert one.progressed
        one.detach()
        assert one.progressed
        one.resume(told(one), hello(last_sequence_received=2))
        assert not one.progressed
        take(one)
        assert one.progressed

    def test_a_hello_that_names_both_numberings_is_remembered(self) -> None:
        one = session(1, 2)
        assert one.remembers(pb.HelloPacket(session_id=2, peer_session_id=1))
        one.detach()
        assert one.remembers(pb.HelloPacket(session_id=2, peer_session_id=1))

    @pytest.mark.parametrize("ids", [(0, 0), (2, 0), (0, 1), (3, 1), (2, 3)])
    def test_any_other_hello_is_not(self, ids: tuple[int, int]) -> None:
        assert not session(1, 2).remembers(pb.HelloPacket(session_id=ids[0], peer_session_id=ids[1]))

    def test_a_session_that_has_ended_is_not_remembered(self) -> None:
        one = session(1, 2)
        one.end()
        assert not one.remembers(pb.HelloPacket(session_id=2, peer_session_id=1))

    @pytest.mark.parametrize(
        ("ours", "theirs", "expected"),
        [
            ((1, 2), (2, 1), True),
            ((1, 2), (2, 0), False),
            ((1, 0), (2, 1), False),
            ((1, 2), (3, 1), False),
            ((0, 0), (0, 0), False),
            ((0, 2), (2, 0), False),
            ((1, 0), (0, 1), False),
        ],
    )
    def test_a_connection_resumes_if_both_hellos_say_so(
        self, ours: tuple[int, int], theirs: tuple[int, int], expected: bool
    ) -> None:
        def saying(ids: tuple[int, int]) -> pb.HelloPacket:
            return pb.HelloPacket(session_id=ids[0], peer_session_id=ids[1])

        assert resumes(saying(ours), saying(theirs)) is expected

    def test_acknowledgements_after_a_hello_show_that_another_connection_came_later(self) -> None:
        one = session()
        keep(one, 2)
        one.release(1)
        hello_then = told(one)
        assert not one.went_on_since(hello_then)
        one.release(2)
        assert one.went_on_since(hello_then)

    def test_what_the_peer_has_not_received_is_sent_again_in_order(self) -> None:
        one = session()
        frames = keep(one, 3)
        one.keep_large(b"head", b"content")
        one.release(1)
        one.detach()
        again = one.resume(told(one), hello(last_sequence_received=2))
        assert again == [(frames[2], b""), (b"head", b"content")]
        assert one.kept == [*frames[1:], b"head"]

    def test_packets_that_arrived_after_the_hello_was_made_are_duplicates(self) -> None:
        one = session()
        take(one, 2)
        ours = told(one)
        take(one, 2)
        one.detach()
        one.resume(ours, hello())
        assert [one.receive() for _ in range(3)] == [False, False, True]
        assert one.received == 5

    def test_a_lost_acknowledgement_is_owed_again(self) -> None:
        one = session()
        take(one, 3)
        one.acknowledge()
        one.detach()
        one.resume(told(one), hello(last_acknowledgement_received=1))
        assert one.owes
        assert one.acknowledge() == (3, [])

    def test_lost_refusals_are_told_again_before_newer_ones(self) -> None:
        one = session()
        for _ in range(3):
            one.receive()
            one.refuse(Reason.UNHANDLED)
            handle(one)
        one.acknowledge()
        one.receive()
        one.refuse(Reason.NOT_PERMITTED)
        handle(one)
        one.detach()
        one.resume(told(one), hello(last_acknowledgement_received=1))
        expected = [(2, Reason.UNHANDLED), (3, Reason.UNHANDLED), (4, Reason.NOT_PERMITTED)]
        assert one.acknowledge() == (4, expected)

    def test_refusals_that_are_remembered_are_bounded(self) -> None:
        one = session()
        for _ in range(MAX_TOLD_REFUSALS + 100):
            one.receive()
            one.refuse(Reason.UNHANDLED)
            handle(one)
            one.acknowledge()
        one.detach()
        one.resume(told(one), hello())
        assert len(one.refused) == MAX_TOLD_REFUSALS

    @pytest.mark.parametrize(
        "fields",
        [
            {"last_sequence_received": 1},
            {"last_sequence_received": 5},
            {"last_sequence_received": 3, "last_acknowledgement_received": 3},
        ],
        ids=["less received than acknowledged", "more received than sent", "more acknowledged than handled"],
    )
    def test_a_peer_that_says_what_cannot_be_is_refused(self, fields: dict[str, Any]) -> None:
        one = session()
        keep(one, 4)
        one.release(2)
        take(one, 2)
        one.detach()
        with pytest.raises(RemoteProtocolError, match="the peer resumes with") as caught:
            one.resume(told(one), hello(**fields))
        assert caught.value.reason == Reason.BAD_PACKET
        assert one.state is DETACHED


class Link:
    """Two sessions and the packets on their way between them; a cut loses a random part of those."""

    def __init__(self) -> None:
        self.sides = [session(1, 2), session(2, 1)]
        self.accepted: list[list[bytes]] = [[], []]
        self.handled: list[list[bytes]] = [[], []]
        self.on_the_way: list[list[Any]] = [[], []]  # by sender: frames, and acknowledged numbers

    def send(self, side: int) -> None:
        frame = f"{side}-{len(self.accepted[side])}".encode()
        self.accepted[side].append(frame)
        self.sides[side].keep(frame)
        self.on_the_way[side].append(frame)

    def acknowledge(self, side: int) -> None:
        self.on_the_way[side].append(self.sides[side].acknowledge()[0])

    def deliver(self, side: int, count: int) -> None:
        """The first ``count`` things that ``side`` has sent arrive."""
        receiver = self.sides[1 - side]
        arriving, self.on_the_way[side] = self.on_the_way[side][:count], self.on_the_way[side][count:]
        for thing in arriving:
            if isinstance(thing, int):
                receiver.release(thing)
            elif receiver.receive():
                self.handled[1 - side].append(thing)
                handle(receiver)

    def cut(self, late: list[int]) -> None:
        """Lose the connection and make another; ``late`` things still arrive after the hellos are made."""
        hellos = [told(one) for one in self.sides]
        for side in (0, 1):
            self.deliver(side, late[side])
        for side, one in enumerate(self.sides):
            one.detach()
            again = one.resume(hellos[side], hellos[1 - side])
            self.on_the_way[side] = [one.acknowledge()[0], *(header for header, _ in again)]


@given(
    st.lists(
        st.tuples(st.sampled_from(["send", "acknowledge", "deliver", "cut"]), st.integers(0, 1), st.integers(0, 5))
    )
)
def test_whatever_is_cut_every_packet_arrives_once_and_in_order(steps: list[tuple[str, int, int]]) -> None:
    link = Link()
    for step, side, count in steps:
        if step == "send":
            link.send(side)
        elif step == "acknowledge":
            link.acknowledge(side)
        elif step == "deliver":
            link.deliver(side, count)
        else:
            # What arrives late on the side that said less is why the receiver counts.
            link.cut([count, 0] if side else [0, count])
    for side in (0, 1, 0, 1):
        link.deliver(side, 10_000)
        link.acknowledge(side)
        link.acknowledge(1 - side)
    for side in (0, 1):
        link.deliver(side, 10_000)
    assert link.handled == link.accepted[::-1]
    assert [one.acknowledged for one in link.sides] == [len(accepted) for accepted in link.accepted]
    assert not any(one.kept for one in link.sides)


class TestWithdrawing:
    """What the peer accepts may have become smaller on another connection."""

    LIMIT = 4096

    def resumed(self, *frames: bytes, received: int = 0, max_frame: int = LIMIT) -> tuple[Session, list[Any]]:
        one = session(max_bytes=1_000_000)
        for frame in frames:
            one.keep(frame)
        one.detach()
        return one, one.resume(told(one), hello(last_sequence_received=received, max_frame=max_frame))

    def test_an_empty_packet_goes_in_the_place_of_one_that_is_too_large_now(self) -> None:
        small, large = encode_frame(pb.PureMessagePacket(message="x")), encode_frame(text_of(5000))
        one, again = self.resumed(small, large, small)
        assert again == [(small, b""), (WITHDRAWN_FRAME, b""), (small, b"")]
        assert one.kept_bytes == 2 * len(small) + len(WITHDRAWN_FRAME)
        one.release(3)
        assert (one.kept_bytes, one.full) == (0, False)

    def test_the_content_of_a_large_one_is_given_back(self) -> None:
        one = session(max_bytes=1_000_000)
        frame = encode_frame(text_of(50_000))
        one.keep_large(frame[:10], frame[10:])
        one.detach()
        assert one.resume(told(one), hello(max_frame=self.LIMIT)) == [(WITHDRAWN_FRAME, b"")]
        assert (one.kept_bytes, one.contents) == (len(WITHDRAWN_FRAME), [])

    def test_what_the_peer_has_received_already_stays(self) -> None:
        large = encode_frame(text_of(5000))
        one, again = self.resumed(large, large, received=1)
        assert again == [(WITHDRAWN_FRAME, b"")]
        assert one.kept == [large, WITHDRAWN_FRAME]

    def test_the_largest_that_is_accepted_stays(self) -> None:
        body = text_of(self.LIMIT)
        fits = encode_frame(pb.PureMessagePacket(message=body.message[: self.LIMIT - 7]))
        assert packet_length(fits) == self.LIMIT
        _, again = self.resumed(fits)
        assert again == [(fits, b"")]


def text_of(size: int) -> pb.PureMessagePacket:
    return pb.PureMessagePacket(message="x" * size)


def asking(**limits: int) -> Session:
    """A session with a peer that asks when it waits, and acknowledges when it is asked."""
    made = session(**limits)
    made.take_hello(hello(capabilities=["time travel", ACKNOWLEDGE_NOW]))
    return made


class TestAsking:
    def test_a_peer_has_the_capability_while_its_last_hello_names_it(self) -> None:
        one = asking()
        assert one.acknowledges_now
        one.take_hello(hello(capabilities=["time travel"]))
        assert not one.acknowledges_now

    def test_what_was_sent_by_then_is_asked_for_once(self) -> None:
        one = asking()
        keep(one, 3)
        assert [one.ask(2), one.ask(3), one.ask(1), one.waits, one.asked] == [True, False, False, True, 3]
        one.release(2)
        assert one.waits
        one.release(3)
        assert not one.waits
        keep(one, 1)
        assert one.ask(4)

    def test_a_peer_without_the_capability_is_not_asked(self) -> None:
        one = session()
        keep(one, 1)
        one.note_waiting(1)
        assert [one.ask(1), one.waits, one.pressing, one.ask_with_next()] == [False, False, False, False]

    @pytest.mark.parametrize(("most", "half"), [(1, 1), (2, 2), (3, 2), (4, 3), (10, 6)])
    def test_a_session_that_is_over_half_full_presses_until_it_has_asked(self, most: int, half: int) -> None:
        one = asking(max_packets=most)
        for number in range(1, most + 1):
            keep(one, 1)
            assert one.pressing is (number == most or number >= half)
            assert one.full is (number == most)
        assert one.ask(one.sent)
        assert one.pressing is one.full is True
        one.release(most)
        assert one.pressing is one.full is False

    def test_bytes_press_too(self) -> None:
        one = asking(max_bytes=100)
        keep(one, 5)
        assert not one.pressing
        keep(one, 1)
        assert (one.pressing, one.full) == (True, False)
        one.ask(5)
        assert not one.pressing
        keep(one, 4)
        assert one.pressing is one.full is True

    def test_less_may_be_allowed_than_the_half(self) -> None:
        one = asking(max_bytes=100)
        one.allow(20)
        keep(one, 2)
        assert one.pressing is one.full is True
        one.allow(100)
        assert one.pressing is one.full is False

    def test_without_the_capability_only_a_full_session_presses(self) -> None:
        one = session(max_packets=4, max_bytes=100)
        for count in (1, 2, 3, 4):
            keep(one, 1)
            assert one.pressing is one.full is (count == 4)

    def test_the_packet_after_one_that_was_waited_for_asks_itself_if_nothing_is_under_way(self) -> None:
        one = asking()
        keep(one, 1)
        one.ask(1)
        assert not one.pressing
        one.note_waiting(1)
        assert one.pressing
        one.release(1)
        assert one.pressing
        assert one.ask_with_next()
        keep(one, 1)
        assert (one.asked, one.waits) == (2, True)
        assert not one.ask(2)
        assert not one.ask_with_next()
        one.note_waiting(1)
        assert not one.pressing
        one.note_waiting(2)
        one.release(2)
        for _ in range(AWAITED - 1):
            assert one.ask_with_next()
            keep(one, 1)
            one.release(one.sent)
        assert one.ask_with_next()
        keep(one, 1)
        one.release(one.sent)
        assert not one.pressing
        assert not one.ask_with_next()

    def test_an_acknowledgement_goes_along_when_much_is_handled_or_somebody_has_said_so(self) -> None:
        one = asking()
        assert one.tell_at == GO_ALONG
        one.receive()
        handle(one)
        one.let_go_along()
        assert one.tell_at == 1
        assert one.take_acknowledgement() == 1
        assert one.tell_at == 1 + GO_ALONG

    def test_without_the_capability_it_goes_along_with_the_next_packet(self) -> None:
        one = session()
        one.receive()
        handle(one)
        assert one.tell_at == one.take_acknowledgement() == 1
        assert one.tell_at == 2
