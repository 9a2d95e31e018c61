"""What the silence of a peer means."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import gevent
import pytest

from peernet.channel.liveness import MAX_PATIENCE, PROBE, Liveness, shows_life
from peernet.errors import TransportError
from peernet.reasons import Reason
from peernet.runtime import clock
from peernet.wire.session import Session
from tests.support import scaled
from tests.unit.channels import Linked, begun_session
from tests.unit.transport.pairs import fill

LIMITS = {"heartbeat_interval": 15.0, "dead_after": 30.0, "write_timeout": 8.0}


class Setup(Linked):
    """A link whose peer is judged, on a clock that the test moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **limits: float) -> None:
        self.now = 1000.0
        monkeypatch.setattr(clock, "monotonic", lambda: self.now)
        super().__init__(**LIMITS | limits)
        self.liveness = Liveness(self.config)
        self.session: Session | None = begun_session(max_packets=2)

    def after(self, seconds: float, *, heard: bool = False) -> Reason | None:
        """The judgement when time has passed, in which something was heard or not."""
        self.now += seconds
        if heard:
            self.link.last_received = self.now
        return self.liveness.examine(self.link, self.session, self.now)

    def fill_session(self) -> None:
        assert self.session is not None
        while not self.session.full:
            self.session.keep(b"packet")

    def stall(self) -> None:
        """Something waits to be written, and the transport takes nothing."""
        fill(self.near)
        self.link.outbox.put(b"", b"waits")

    def heartbeats(self) -> int:
        return sum(packet.HasField("heartbeat") for packet in self.hear())


@pytest.fixture
def setup(monkeypatch: pytest.MonkeyPatch) -> Iterator[Setup]:
    made = Setup(monkeypatch)
    yield made
    made.end()


class TestSilence:
    def test_a_peer_that_speaks_is_alive(self, setup: Setup) -> None:
        assert [setup.after(29, heard=True) for _ in range(5)] == [None] * 5

    def test_a_peer_that_is_silent_for_longer_than_the_patience_is_dead(self, setup: Setup) -> None:
        assert setup.after(30) is None
        assert setup.after(0.01) is Reason.TIMEOUT

    @pytest.mark.parametrize(
        ("promised", "patience"),
        [(0, 30), (10, 30), (15, 30), (20, 40), (300, 600), (301, 600), (10**9, 600)],
    )
    def test_the_patience_is_twice_what_the_peer_has_promised_within_limits(
        self, setup: Setup, promised: float, patience: float
    ) -> None:
        setup.liveness.promised = promised
        assert setup.liveness.patience == patience
        assert patience <= 2 * MAX_PATIENCE * setup.config.dead_after
        assert setup.after(patience) is None
        assert setup.after(0.01) is Reason.TIMEOUT

    def test_bytes_that_nobody_has_read_yet_are_a_sign_of_life(self, setup: Setup) -> None:
        for _ in range(3):
            setup.far.transport.send(b"x")
            assert setup.after(29) is None
        assert setup.after(31) is Reason.TIMEOUT

    def test_a_peer_that_may_be_kept_from_speaking_is_not_dead(self, setup: Setup) -> None:
        fill(setup.far.transport)
        assert setup.after(1) is None
        assert setup.after(100) is None

    def test_a_broken_link_is_lost(self, setup: Setup) -> None:
        setup.link.broken = TransportError("the connection broke")
        assert setup.after(0, heard=True) is Reason.CONNECTION_LOST


class TestWriting:
    def test_a_writer_that_stalls_for_a_while_is_no_trouble(self, setup: Setup) -> None:
        setup.stall()
        assert setup.after(8, heard=True) is None

    @pytest.mark.parametrize("heard", [True, False], ids=["that speaks", "that is silent"])
    def test_a_peer_that_takes_nothing_loses_its_connection(self, setup: Setup, heard: bool) -> None:
        setup.stall()
        assert setup.after(8.01, heard=heard) is Reason.TIMEOUT

    def test_so_it_does_without_a_session(self, setup: Setup) -> None:
        setup.session = None
        setup.stall()
        assert setup.after(8.01) is Reason.TIMEOUT

    def test_one_whose_session_is_full_all_that_time_is_slow(self, setup: Setup) -> None:
        setup.stall()
        setup.fill_session()
        assert setup.after(0, heard=True) is None
        assert setup.after(8.01, heard=True) is Reason.SLOW_PEER

    def test_what_was_heard_just_after_the_writer_has_stalled_says_nothing(self, setup: Setup) -> None:
        """It may have been on its way when the peer fell silent."""
        setup.stall()
        assert setup.after(1.9, heard=True) is None
        assert setup.after(6.2) is Reason.TIMEOUT

    def test_a_writer_that_makes_progress_is_not_stalled(self, setup: Setup) -> None:
        setup.stall()
        assert setup.after(7, heard=True) is None
        setup.far.transport.recv()
        gevent.sleep(0)  # the transport calls back
        assert setup.after(7, heard=True) is None


class TestSession:
    def test_a_peer_that_speaks_and_acknowledges_nothing_of_a_full_session_is_slow(self, setup: Setup) -> None:
        setup.fill_session()
        assert setup.after(0) is None
        assert setup.after(8, heard=True) is None
        assert setup.after(0.01, heard=True) is Reason.SLOW_PEER

    def test_a_silent_one_is_away(self, setup: Setup) -> None:
        setup.fill_session()
        assert setup.after(0) is None
        assert setup.after(8.01) is Reason.TIMEOUT

    def test_every_acknowledgement_gives_it_new_time(self, setup: Setup) -> None:
        assert setup.session is not None
        for number in (1, 2, 3):
            setup.fill_session()
            assert setup.after(7, heard=True) is None
            setup.session.release(number)
        setup.fill_session()
        assert setup.after(7, heard=True) is None
        assert setup.after(8.01, heard=True) is Reason.SLOW_PEER

    def test_room_in_between_gives_it_new_time(self, setup: Setup) -> None:
        assert setup.session is not None
        setup.fill_session()
        assert setup.after(0, heard=True) is None
        setup.session.full = False
        assert setup.after(7, heard=True) is None
        setup.session.full = True
        assert setup.after(7, heard=True) is None
        assert setup.after(8, heard=True) is None

    def test_another_link_gives_it_new_time(self, setup: Setup) -> None:
        setup.fill_session()
        assert setup.after(0, heard=True) is None
        setup.liveness.start_again()
        assert setup.after(8.01, heard=True) is None
        assert setup.after(8.01, heard=True) is Reason.SLOW_PEER


class TestHeartbeats:
    def test_one_is_sent_when_nothing_was_for_an_interval_as_far_as_looks_allow(self, setup: Setup) -> None:
        """A look a second: the last one that may be a half late is at 13.5 s."""
        assert setup.config.tick_interval == 1
        setup.after(13.4, heard=True)
        assert setup.heartbeats() == 0
        setup.after(0.1, heard=True)
        assert setup.heartbeats() == 1
        setup.after(13.4, heard=True)
        assert setup.heartbeats() == 1
        setup.after(0.1, heard=True)
        assert setup.heartbeats() == 2

    @pytest.mark.parametrize("interval", [0.05, 0.5, 3.0, 15.0])
    def test_the_silence_between_two_is_never_longer_than_the_hello_promises(
        self, monkeypatch: pytest.MonkeyPatch, interval: float
    ) -> None:
        """Looks come when they come: each a tenth late, and the silence begins anywhere between two of them."""
        setup = Setup(monkeypatch, heartbeat_interval=interval)
        spoken = [setup.now]
        while len(spoken) < 12:
            before = setup.heartbeats()
            setup.after(1.1 * setup.config.tick_interval, heard=True)
            if setup.heartbeats() > before:
                spoken.append(setup.now)
        silences = [after - before for before, after in pairwise(spoken)]
        assert interval / 2 < min(silences)
        assert max(silences) <= interval
        setup.end()

    def test_none_is_sent_behind_what_waits_to_be_written(self, setup: Setup) -> None:
        setup.stall()
        waiting = setup.link.outbox.packets, setup.link.outbox.bytes
        for _ in range(3):
            setup.link.outbox.last_progress = setup.now
            setup.after(7, heard=True)
        setup.now += 7
        setup.after(0, heard=True)
        assert (setup.link.outbox.packets, setup.link.outbox.bytes) == waiting

    def test_they_are_more_frequent_while_a_callback_leaves_something_unread(self, setup: Setup) -> None:
        """So that a node that is busy looks different from one that is dead."""
        setup.far.transport.send(b"x")
        setup.after(0)
        setup.after(1.9)
        assert setup.heartbeats() == 0
        setup.after(0.1)
        assert setup.heartbeats() == 1

    def test_and_not_more_frequent_while_the_reader_waits_for_bytes(self, setup: Setup) -> None:
        setup.link.handling = False
        setup.far.transport.send(b"x")
        setup.after(0)
        setup.after(3)
        assert setup.heartbeats() == 0


class TestSignsOfLife:
    @pytest.fixture
    def linked(self) -> Iterator[Linked]:
        made = Linked()
        yield made
        made.end()

    def test_the_peer_is_asked(self, linked: Linked) -> None:
        shows_life(linked.link, 0.001)
        (packet,) = linked.hear()
        assert packet.HasField("heartbeat")
        assert packet.request_id == PROBE < 2**53, "JavaScript holds no larger number"

    def test_bytes_that_were_read_are_one(self, linked: Linked) -> None:
        asking = gevent.spawn(shows_life, linked.link, scaled(5))
        gevent.sleep(0)
        linked.link.received_bytes += 1
        assert asking.get(timeout=scaled(4)) is True

    def test_time_that_is_forgiven_is_none(self, linked: Linked) -> None:
        asking = gevent.spawn(shows_life, linked.link, 0.05)
        gevent.sleep(0)
        linked.link.forgive(0.001)
        assert asking.get(timeout=scaled(5)) is False

    def test_bytes_that_nobody_reads_are_one(self, linked: Linked) -> None:
        linked.far.transport.send(b"old")
        asking = gevent.spawn(shows_life, linked.link, scaled(5))
        gevent.sleep(0)
        linked.far.transport.send(b"new")
        assert asking.get(timeout=scaled(4)) is True

    def test_bytes_that_had_come_before_are_none(self, linked: Linked) -> None:
        linked.far.transport.send(b"old")
        assert shows_life(linked.link, 0.01) is False

    def test_a_link_that_is_lost_shows_none(self, linked: Linked) -> None:
        asking = gevent.spawn(shows_life, linked.link, scaled(60))
        gevent.sleep(0)
        linked.link.abort()
        assert asking.get(timeout=scaled(5)) is False
