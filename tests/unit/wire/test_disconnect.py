from __future__ import annotations

import pytest

from peernet.config import NetworkConfig
from peernet.reasons import Reason
from peernet.v1 import packet_pb2 as pb
from peernet.wire.disconnect import (
    OUTCOMES,
    TIMEOUTS,
    Outcome,
    Phase,
    disconnect_packet,
    keeps_session,
    outcome,
    refusal_packet,
)


def test_a_goodbye_carries_its_reason_message_and_pause() -> None:
    assert disconnect_packet(Reason.BUSY, "come back", retry_after=1.5) == pb.DisconnectPacket(
        reason=pb.DISCONNECT_REASON_BUSY, message="come back", retry_after_ms=1500
    )


def test_a_goodbye_needs_a_reason_only() -> None:
    assert disconnect_packet(Reason.CLOSED) == pb.DisconnectPacket(reason=pb.DISCONNECT_REASON_CLOSED)


@pytest.mark.parametrize("reason", [Reason.CONNECTION_LOST, Reason.HANDSHAKE_FAILED])
def test_this_sides_own_findings_are_not_told(reason: Reason) -> None:
    assert disconnect_packet(reason).reason == pb.DISCONNECT_REASON_UNSPECIFIED


def test_a_long_message_is_cut_to_what_receivers_keep() -> None:
    assert disconnect_packet(Reason.CLOSED, "ü" * 1000).message == "ü" * 127 + "…"


def test_a_message_that_is_no_utf8_and_a_time_beyond_the_field_still_make_a_goodbye() -> None:
    goodbye = disconnect_packet(Reason.BUSY, "half a \udcff", 1e9)
    assert (goodbye.message, goodbye.retry_after_ms) == ("half a \\udcff", 2**32 - 1)


def test_a_refusal_without_a_message_says_its_reason_in_words() -> None:
    assert refusal_packet(Reason.BUSY, retry_after=5) == pb.DisconnectPacket(
        reason=pb.DISCONNECT_REASON_BUSY, message=Reason.BUSY.sentence, retry_after_ms=5000
    )
    assert refusal_packet(Reason.REJECTED, "not today").message == "not today"


ON_THE_WIRE = [reason for reason in Reason if reason.number or reason is Reason.UNSPECIFIED]


def test_every_reason_on_the_wire_has_an_outcome_in_every_phase_and_so_has_the_loss_of_a_connection() -> None:
    assert list(OUTCOMES) == [*ON_THE_WIRE, Reason.CONNECTION_LOST]
    assert {len(row) for row in OUTCOMES.values()} == {len(Phase)}


# What docs/protocol.rst says in words about the table.


def reasons_with(phase: Phase, wanted: Outcome) -> set[Reason]:
    return {reason for reason in OUTCOMES if outcome(reason, phase) is wanted}


def test_an_open_session_survives_the_loss_of_its_connection_and_two_reasons() -> None:
    kept = {Reason.TIMEOUT, Reason.DUPLICATE, Reason.CONNECTION_LOST}
    assert reasons_with(Phase.OPEN, Outcome.KEPT) == kept
    assert reasons_with(Phase.OPEN, Outcome.END) == set(OUTCOMES) - kept
    assert {reason for reason in Reason if keeps_session(reason)} == kept


def test_a_dial_for_a_session_goes_on_until_it_hears_what_will_be_the_same_next_time() -> None:
    final = {
        Reason.BLOCKED,
        Reason.NOT_ALLOWED,
        Reason.REJECTED,
        Reason.WRONG_NETWORK,
        Reason.WRONG_VERSION,
        Reason.SELF_CONNECTION,
        Reason.BANNED,
    }
    assert reasons_with(Phase.REDIAL, Outcome.END) == final
    assert reasons_with(Phase.REDIAL, Outcome.REDIAL) == set(OUTCOMES) - final


def test_a_first_dial_is_worth_another_one_only_if_there_was_no_room_or_no_answer() -> None:
    assert reasons_with(Phase.HANDSHAKE, Outcome.REDIAL) == {Reason.BUSY, Reason.CONNECTION_LOST}
    assert reasons_with(Phase.HANDSHAKE, Outcome.KEPT) == set()


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("reason", OUTCOMES)
def test_who_asks_not_to_be_redialled_is_not_redialled(reason: Reason, phase: Phase) -> None:
    asked = outcome(reason, phase, do_not_redial=True)
    expected = outcome(reason, phase)
    assert asked is (Outcome.END if expected is Outcome.REDIAL else expected)


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("reason", [Reason.HANDSHAKE_FAILED, Reason.EXPIRED, Reason.UNHANDLED])
def test_what_is_no_reason_on_the_wire_counts_as_unspecified(reason: Reason, phase: Phase) -> None:
    assert outcome(reason, phase) is outcome(Reason.UNSPECIFIED, phase)


def test_every_timeout_is_a_limit_and_is_told_with_a_reason_on_the_wire() -> None:
    for name, timeout in TIMEOUTS.items():
        assert getattr(NetworkConfig(), name) > 0
        assert timeout.reason is None or timeout.reason.number


def test_a_peer_that_is_slow_or_silent_loses_its_connection_and_not_its_session() -> None:
    kept = {name for name, timeout in TIMEOUTS.items() if timeout.outcome is Outcome.KEPT}
    assert kept == {"dead_after", "frame_timeout", "write_timeout"}
    assert {TIMEOUTS[name].reason for name in kept} == {Reason.TIMEOUT}
    assert TIMEOUTS["session_ttl"].outcome is Outcome.END
