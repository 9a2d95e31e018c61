from __future__ import annotations

import pytest

from peernet.reasons import Reason
from peernet.v1 import packet_pb2 as pb
from peernet.wire.disconnect import disconnect_packet


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
