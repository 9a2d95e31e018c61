from __future__ import annotations

import json

import pytest

from peernet.reasons import Reason
from peernet.v1 import packet_pb2 as pb

NUMBERS = dict(pb.DisconnectReason.items())
OWN_FINDINGS = {
    Reason.CONNECTION_LOST,
    Reason.EXPIRED,
    Reason.FRAME_TIMEOUT,
    Reason.SESSION_LOST,
    Reason.HANDSHAKE_FAILED,
    Reason.NO_SESSION,
    Reason.NOT_PERMITTED,
    Reason.UNHANDLED,
    Reason.TOO_BIG,
    Reason.HANDLER_FAILED,
    Reason.DROPPED,
    Reason.REFUSED,
}
REFUSALS = dict(pb.RefusalReason.items())


@pytest.mark.parametrize(("name", "number"), NUMBERS.items(), ids=NUMBERS)
def test_every_reason_on_the_wire_has_a_member_and_back(name: str, number: int) -> None:
    reason = Reason.from_number(number)
    assert name == f"DISCONNECT_REASON_{reason.name}"
    assert reason.number == number


def test_every_member_travels_unless_it_is_this_sides_own_finding() -> None:
    assert {reason for reason in Reason if f"DISCONNECT_REASON_{reason.name}" not in NUMBERS} == OWN_FINDINGS


@pytest.mark.parametrize("reason", sorted(OWN_FINDINGS))
def test_what_never_travels_would_travel_as_unspecified(reason: Reason) -> None:
    assert reason.number == pb.DISCONNECT_REASON_UNSPECIFIED


@pytest.mark.parametrize("number", [22, 1000, -1, 2**31 - 1, -(2**31)])
def test_numbers_that_only_newer_peers_know_are_unspecified(number: int) -> None:
    assert Reason.from_number(number) is Reason.UNSPECIFIED


@pytest.mark.parametrize("reason", Reason)
def test_a_reason_is_its_name_in_lower_case_and_has_a_sentence(reason: Reason) -> None:
    assert reason == str(reason) == f"{reason}" == reason.value == reason.name.lower()
    assert Reason(reason.value) is reason
    assert json.dumps(reason) == f'"{reason.value}"'
    assert reason.sentence.endswith(".")


@pytest.mark.parametrize("reason", [Reason.NOT_PERMITTED, Reason.UNHANDLED, Reason.TOO_BIG, Reason.HANDLER_FAILED])
def test_every_refusal_of_a_packet_has_its_number_and_back(reason: Reason) -> None:
    assert REFUSALS[f"REFUSAL_REASON_{reason.name}"] == reason.refusal_number
    assert Reason.from_refusal_number(reason.refusal_number) is reason


def test_a_refusal_that_only_newer_peers_know_is_a_refusal() -> None:
    assert Reason.from_refusal_number(99) is Reason.REFUSED
    assert Reason.CLOSED.refusal_number == pb.REFUSAL_REASON_UNSPECIFIED
