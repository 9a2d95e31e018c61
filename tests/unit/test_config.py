from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest

from peernet.config import KEY_EXCHANGES, KIB, MAX_UNACKNOWLEDGED, MIB, PROFILES, NetworkConfig, limits
from peernet.errors import ConfigurationError
from peernet.wire.session import MAX_TOLD_REFUSALS

NAMES = [field.name for field in dataclasses.fields(NetworkConfig)]
FIELDS = [field for field in dataclasses.fields(NetworkConfig) if not isinstance(field.default, (bool, str))]
NUMBERS = [field.name for field in FIELDS]
SWITCHES = [field.name for field in dataclasses.fields(NetworkConfig) if isinstance(field.default, bool)]


@pytest.mark.parametrize("field", FIELDS, ids=NUMBERS)
def test_a_value_below_the_least_is_refused_with_the_least_and_its_unit(field: Any) -> None:
    least, unit = field.metadata["least"], field.metadata["unit"]
    with pytest.raises(ConfigurationError, match=f"{field.name} must be at least {least} {unit}, not"):
        NetworkConfig(**{field.name: least - 1})


@pytest.mark.parametrize("field", FIELDS, ids=NUMBERS)
@pytest.mark.parametrize("value", [None, "5", True, [1], math.nan, -math.inf, math.inf])
def test_a_value_of_the_wrong_type_or_no_finite_one_is_refused_by_name(field: Any, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"{field.name} must be"):
        NetworkConfig(**{field.name: value})


WHOLE = [field.name for field in FIELDS if isinstance(field.default, int)]


@pytest.mark.parametrize("name", WHOLE)
def test_sizes_and_counts_are_whole_numbers(name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{name} must be a whole number"):
        NetworkConfig(**{name: 100_000.5})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", SWITCHES)
@pytest.mark.parametrize("value", [0, 1, "true", None])
def test_a_switch_is_true_or_false(name: str, value: Any) -> None:
    switched: dict[str, Any] = {name: True}
    assert getattr(NetworkConfig(**switched), name) is True
    with pytest.raises(ConfigurationError, match=f"{name} must be true or false"):
        NetworkConfig(**{name: value})


@pytest.mark.parametrize("value", ["", "HYBRID", "x448", None, True, 1, ["hybrid"]])
def test_a_choice_is_one_of_its_words(value: Any) -> None:
    assert [NetworkConfig(key_exchange=word).key_exchange for word in KEY_EXCHANGES] == ["hybrid", "x25519"]
    with pytest.raises(ConfigurationError, match="key_exchange must be hybrid or x25519, not "):
        NetworkConfig(key_exchange=value)


def test_seconds_may_be_whole_numbers() -> None:
    assert NetworkConfig(connect_timeout=5).connect_timeout == 5


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        (
            {"max_handshake_frame": 16 * KIB, "max_control_packet": 8 * KIB},
            "max_handshake_frame must not exceed max_con",
        ),
        ({"max_control_packet": 2 * MIB}, "max_control_packet must not exceed max_frame"),
        ({"heartbeat_interval": 31}, "heartbeat_interval must not exceed dead_after"),
        ({"backoff_base": 61}, "backoff_base must not exceed backoff_cap"),
        ({"max_frame": 5 * MIB}, "must hold a frame of max_frame bytes"),
    ],
)
def test_values_that_contradict_each_other_are_refused(values: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        NetworkConfig(**values)


def test_no_more_packets_are_kept_than_a_receiver_remembers_refusals_of() -> None:
    assert MAX_UNACKNOWLEDGED == MAX_TOLD_REFUSALS
    assert NetworkConfig(session_packets=8191, session_reserve_packets=1).session_packets == 8191
    with pytest.raises(ConfigurationError, match="must not exceed 8192"):
        NetworkConfig(session_packets=8192, session_reserve_packets=1)


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"max_frame": 2**31, "outbox_bytes": 2**32}, "max_frame must be at most 2147483647 bytes"),
        (
            {"heartbeat_interval": 2**32 / 1000, "dead_after": 2**32},
            "heartbeat_interval must be at most 2592000 seconds",
        ),
    ],
)
def test_a_value_that_no_hello_could_tell_is_refused(values: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        NetworkConfig(**values)


def test_a_handshake_frame_is_small_enough_to_be_received_in_one_piece() -> None:
    assert NetworkConfig(max_handshake_frame=16 * KIB).max_handshake_frame == 16 * KIB
    with pytest.raises(ConfigurationError, match="max_handshake_frame must be at most 16384 bytes"):
        NetworkConfig(max_handshake_frame=16 * KIB + 1)


def test_a_configuration_cannot_be_changed_in_place() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        NetworkConfig().max_frame = 5  # type: ignore[misc]


def test_variants_are_checked_too() -> None:
    assert dataclasses.replace(NetworkConfig(), max_pending=3).max_pending == 3
    with pytest.raises(ConfigurationError, match="max_pending"):
        dataclasses.replace(NetworkConfig(), max_pending=0)


def test_a_table_of_values_makes_a_configuration() -> None:
    config = NetworkConfig.from_mapping({"max_frame": 8 * KIB, "max_control_packet": 4 * KIB, "send_timeout": 0})
    assert (config.max_frame, config.max_control_packet, config.send_timeout) == (8 * KIB, 4 * KIB, 0)
    assert NetworkConfig.from_mapping({}) == NetworkConfig()


@pytest.mark.parametrize("name", ["max_frames", "", "MAX_FRAME"])
def test_a_name_that_is_no_limit_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"unknown limit '{name}'.*peernet-node limits"):
        NetworkConfig.from_mapping({name: 5, "max_frame": 1 * MIB})


def test_every_limit_is_listed_with_its_value_default_unit_and_consequence() -> None:
    rows = limits(NetworkConfig(max_pending=3))
    assert [row.name for row in rows] == NAMES
    assert all(row.unit and row.at_limit for row in rows)
    (changed,) = [row for row in rows if row.value != row.default]
    assert (changed.name, changed.value, changed.default) == ("max_pending", 3, 64)


@pytest.mark.parametrize(
    ("name", "default"),
    [
        ("max_frame", 1 * MIB),
        ("max_control_packet", 64 * KIB),
        ("max_handshake_frame", 4 * KIB),
        ("handshake_timeout", 10),
        ("dead_after", 30),
        ("max_handshakes", 64),
        ("early_drop_from", 32),
        ("max_handshakes_per_address", 8),
        ("accept_rate", 20),
        ("accept_burst", 40),
        ("descriptor_reserve", 64),
        ("max_inbound", 128),
        ("max_outbound", 16),
        ("frame_timeout", 30),
        ("untrusted_frame_rate", 2000),
        ("untrusted_frame_burst", 4000),
        ("allow_loopback_burst", False),
        ("key_exchange", "hybrid"),
    ],
)
def test_the_limits_that_the_protocol_names_have_these_defaults(name: str, default: float | str) -> None:
    assert getattr(NetworkConfig(), name) == default


def test_a_slow_peer_costs_no_more_than_four_mebibytes() -> None:
    config = NetworkConfig()
    assert config.outbox_bytes + config.outbox_reserve_bytes == 4 * MIB


@pytest.mark.parametrize("name", PROFILES)
def test_a_profile_is_a_configuration_whose_values_fit_together(name: str) -> None:
    config = NetworkConfig.profile(name)
    assert {limit: getattr(config, limit) for limit in PROFILES[name]} == PROFILES[name]


def test_the_default_profile_is_the_default() -> None:
    assert NetworkConfig.profile("default") == NetworkConfig()


@pytest.mark.parametrize("name", sorted({limit for profile in PROFILES.values() for limit in profile} & set(WHOLE)))
def test_a_tiny_machine_is_given_no_more_than_a_server(name: str) -> None:
    """Except what one channel may keep, of which a server has many."""
    tiny, server = (getattr(NetworkConfig.profile(profile), name) for profile in ("tiny", "server"))
    assert tiny <= server


def test_all_channels_of_a_tiny_machine_together_keep_less_than_64_mebibytes() -> None:
    config = NetworkConfig.profile("tiny")
    kept = config.outbox_bytes + config.outbox_reserve_bytes + config.session_bytes + config.session_reserve_bytes
    assert (config.max_inbound + config.max_outbound) * kept < 64 * MIB


def test_a_profile_may_be_changed() -> None:
    assert NetworkConfig.profile("tiny", max_inbound=5).max_inbound == 5
    assert NetworkConfig.profile("tiny", max_inbound=5).max_outbound == PROFILES["tiny"]["max_outbound"]


def test_a_profile_that_does_not_exist_is_refused_with_those_that_do() -> None:
    with pytest.raises(ConfigurationError, match="no profile 'huge'; there are tiny, default, server"):
        NetworkConfig.profile("huge")


def test_changes_that_contradict_the_profile_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="must hold a frame of max_frame bytes"):
        NetworkConfig.profile("tiny", max_frame=1 * MIB)
