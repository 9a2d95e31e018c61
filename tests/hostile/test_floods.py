"""What may be said, but not so often; and peers that do not listen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.hostile import floods, idle, words
from tests.hostile.conftest import Victims
from tests.hostile.node import Program

pytestmark = pytest.mark.stress

MB = 1.0
NO_RATE: dict[str, Any] = {"untrusted_frame_rate": 0}


def test_storms_of_acknowledgements_and_heartbeats_are_not_answered_and_cost_nothing(victims: Victims) -> None:
    victim = victims(**NO_RATE)
    for storm in (floods.acknowledgements, floods.heartbeats):
        figures = storm(victim, packets=20_000)
        assert figures["answers"] == 0
        assert figures["memory_mb"] < 5 * MB
        assert not figures["channel_lost"]


def test_large_packets_of_a_kind_that_is_refused_are_not_held(victims: Victims) -> None:
    figures = floods.unwanted(victims(**NO_RATE), peers=20, packets=4)
    assert figures["counters"]["refused"] == 20 * 4
    assert figures["memory_mb"] < 5 * MB  # and not twenty
    assert not figures["channel_lost"]


def test_questions_have_one_answer_at_most(victims: Victims) -> None:
    figures = floods.questions(victims(), packets=3000)
    assert figures["most_answers_to_one"] == 1
    assert figures["bytes_for_each_byte"] <= 1
    assert figures["memory_mb"] < 5 * MB


def test_who_asks_and_does_not_read_is_cut_off_and_forgotten(victims: Victims) -> None:
    figures = floods.deaf(victims(write_timeout=1, **NO_RATE), peers=1, patience=40)
    assert figures["counters"] == {"timeout": 1}
    assert figures["memory_mb"] < 4 * MB
    assert max(figures["descriptors_left"], figures["greenlets_left"]) <= 0
    assert not figures["channel_lost"]


def test_who_falls_silent_is_given_up_and_forgotten(victims: Victims) -> None:
    figures = floods.silent(victims(dead_after=1, heartbeat_interval=0.5), peers=5, patience=20)
    assert figures["reasons"] == {"timeout": 5}
    assert max(figures["descriptors_left"], figures["greenlets_left"]) <= 0


def test_hellos_and_goodbyes_in_the_wrong_place_end_one_channel_each(victims: Victims) -> None:
    figures = floods.rude(victims(), times=5)
    assert figures["outcomes"] == {
        "hello twice": {"unexpected_packet": 5},
        "hello, and a session, in the midst": {"unexpected_packet": 5},
        "goodbyes": {"silence": 5},
        "goodbyes that mean to come back": {"silence": 5},
        "a goodbye, and then packets": {"silence": 5},
        "an acknowledgement of what was never sent": {"bad_packet": 5},
    }
    assert figures["errors_in_log"] == 0
    assert not figures["channel_lost"]


def test_a_session_belongs_to_a_key_whoever_knows_its_numbers(victims: Victims) -> None:
    figures = floods.impostors(victims(), attempts=20)
    assert figures["outcomes"] == {"a session of its own": 20, "a lie: bad_packet": 3}
    assert figures["the_owner_noticed_nothing"]


def test_an_identity_that_comes_back_after_misbehaviour_is_banned(tmp_path: Path) -> None:
    with Program(tmp_path / "log", bans_everybody=True) as program:
        figures = floods.comebacks(program, attempts=10)
    assert figures["outcomes"] == {"unexpected_packet": 1, "refused: banned": 9}


def test_an_identity_has_one_channel_however_often_it_connects(victims: Victims) -> None:
    figures = floods.reconnects(victims(duplicate_patience=0.1), attempts=10)
    assert figures["outcomes"] == {"let in": 10}  # each time the one before shows no life
    assert figures["channels"] == 1


def test_idle_channels_are_kept_for_little(victims: Victims) -> None:
    assert not idle.raise_limit(200)
    victim = victims(**idle.limits_for(200, heartbeat_interval=1.0, dead_after=10.0))
    figures = idle.idle(victim, channels=200, seconds=3, interval=1)
    assert figures["kib_each"] <= 60
    assert figures["fewest_heartbeats"] >= 1
    assert figures["timeouts"] == 0
    assert not figures["channel_lost"]


def test_strangers_who_come_and_go_write_little_into_the_log_and_lines_of_bounded_length(victims: Victims) -> None:
    figures = words.words(victims(verbose=True), connects=200)
    assert figures["connects"] >= 190
    assert figures["stdout_bytes_each"] < 2048
    assert figures["log_kib"] < 64
