"""Packets that no honest peer sends: what becomes of those who do, and what they cost."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.hostile import bombs, lengths, mutations, raising
from tests.hostile.conftest import Victims
from tests.hostile.reasons import REASONS

pytestmark = pytest.mark.stress

MB = 1.0


def test_a_length_costs_nothing_until_bytes_come_and_one_too_many_ends_the_channel(victims: Victims) -> None:
    figures = lengths.lengths(victims(), channels=8, silence=0.2)
    outcomes = {name: one["outcome"] for name, one in figures.items()}
    assert outcomes.pop("0") == {"bad_packet": 8}
    assert outcomes.pop("1") == outcomes.pop("the limit") == {"held back": 8}
    assert all(outcome == {"frame_too_big": 8} for outcome in outcomes.values()), outcomes
    assert max(one["memory_mb"] for one in figures.values()) <= 20 * MB
    assert not any(one["channel_lost"] for one in figures.values())


def test_no_packet_of_64_kib_takes_long_or_much(victims: Victims) -> None:
    figures = bombs.bombs(victims(), shots=3)
    assert not figures.pop("all")["channel_lost"]
    outcomes = {name: one["outcome"] for name, one in figures.items()}
    taken = {name for name, outcome in outcomes.items() if outcome == {"taken": 3}}
    assert outcomes["empty refusals"] == outcomes["groups in groups"] == outcomes["many bodies"] == {"bad_packet": 3}
    assert outcomes["a second hello"] == {"unexpected_packet": 3}
    assert outcomes["a long goodbye"] == {"silence": 3}
    assert taken >= {"as many refusals as may be", "unknown numbers", *bombs.TRUSTED_BOMBS}
    assert max(one["cpu_ms"]["median"] for one in figures.values()) <= 30
    assert max(one["memory_mb"] for one in figures.values()) <= 10 * MB


def test_strangers_who_send_costly_packets_are_slowed_down(victims: Victims) -> None:
    victim = victims(untrusted_frame_burst=100)
    assert bombs.series(victim, packets=90) > 0.5  # each counts as some 25 frames of which there are 2,000 a second
    # Nobody looks inside these, so each counts by its bytes only: 64 KiB are as many frames as they have KiB.
    assert bombs.series(victim, packets=90, bomb="peers, untrusted") > 0.5
    assert bombs.series(victim, packets=1, bomb="peers, untrusted") < 0.5


def test_a_callback_that_always_raises_costs_neither_the_channel_nor_a_log(tmp_path: Path) -> None:
    figures = raising.raising(tmp_path / "log", packets=20_000)
    assert figures["counters"] == {"callback_failed": 20_000, "handler_failing": 1}
    assert figures["log_kib"] <= 1024
    assert figures["memory_mb"] < 10 * MB


def test_conversations_with_mistakes_end_as_documented_and_leave_nothing(victims: Victims) -> None:
    victim = victims("--insecure", session_ttl=1)
    figures = mutations.mutations(victim, sessions=300)
    assert set(figures["outcomes"]) <= {*REASONS.values(), "welcome", "silence", "left", "cut off"}
    assert {"welcome", "bad_packet", "frame_too_big", "unexpected_packet"} <= set(figures["outcomes"])
    assert max(figures["descriptors_left"], figures["greenlets_left"]) <= 0
    assert figures["memory_left_mb"] < 5 * MB
    assert figures["errors_in_log"] == 0
    assert not figures["channel_lost"]


def test_the_same_over_tls(victims: Victims) -> None:
    figures = mutations.mutations(victims(session_ttl=1), sessions=30, tls=True)
    assert set(figures["outcomes"]) <= {*REASONS.values(), "welcome", "silence", "left"}
    assert max(figures["descriptors_left"], figures["greenlets_left"]) <= 0
    assert figures["errors_in_log"] == 0
