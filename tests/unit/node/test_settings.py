"""Settings: a flag beats the environment, which beats the file; and wrong ones say where they come from."""

from __future__ import annotations

from pathlib import Path

import pytest

from peernet.config import NetworkConfig
from peernet.errors import ConfigurationError
from peernet.node.settings import TEMPLATE, SettingsError, load_settings


def test_defaults(tmp_path: Path) -> None:
    settings = load_settings(tmp_path / "config.toml", environment={})
    assert settings.listen == ("127.0.0.1:0",)
    assert settings.network == "peernet"
    assert set(settings.sources.values()) == {"default"}


def test_a_flag_beats_the_environment_which_beats_the_file(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text('[node]\nnetwork = "file"\nplacement = "queue"\nlisten = ["127.0.0.1:1", "[::1]:2"]\n')
    environment = {"PEERNET_NETWORK": "environment", "PEERNET_PLACEMENT": "both"}
    settings = load_settings(file, {"network": "flag", "placement": None, "listen": ()}, environment)
    assert (settings.network, settings.sources["network"]) == ("flag", "flag")
    assert (settings.placement, settings.sources["placement"]) == ("both", "environment")
    assert (settings.listen, settings.sources["listen"]) == (("127.0.0.1:1", "[::1]:2"), "file")


def test_lists_and_switches_in_the_environment(tmp_path: Path) -> None:
    environment = {"PEERNET_CONNECT": "127.0.0.1:1 127.0.0.1:2", "PEERNET_INSECURE": "Yes"}
    settings = load_settings(tmp_path / "none", environment=environment)
    assert settings.connect == ("127.0.0.1:1", "127.0.0.1:2")
    assert settings.insecure is True


def test_an_empty_variable_is_not_set(tmp_path: Path) -> None:
    environment = {"PEERNET_LISTEN": "", "PEERNET_INSECURE": "", "PEERNET_NETWORK": " "}
    settings = load_settings(tmp_path / "none", environment=environment)
    assert settings == load_settings(tmp_path / "none", environment={})


def test_limits_come_from_the_file(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text("[limits]\nmax_inbound = 3\n")
    assert load_settings(file, environment={}).limits.max_inbound == 3


def test_limits_of_the_file_change_the_profile(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text('[node]\nprofile = "tiny"\n[limits]\nmax_inbound = 3\n')
    assert load_settings(file, environment={}).limits == NetworkConfig.profile("tiny", max_inbound=3)
    flags = {"profile": "server", "allow_loopback_burst": True}
    expected = NetworkConfig.profile("server", max_inbound=3, allow_loopback_burst=True)
    assert load_settings(file, flags, {}).limits == expected


def test_the_burst_may_be_allowed_among_the_limits_too(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text("[limits]\nallow_loopback_burst = true\n")
    assert load_settings(file, environment={}).limits.allow_loopback_burst
    environment = {"PEERNET_ALLOW_LOOPBACK_BURST": "no"}
    assert not load_settings(file, environment=environment).limits.allow_loopback_burst


@pytest.mark.parametrize(
    ("text", "environment", "expected"),
    [
        ("", {}, ("hybrid", "default")),
        ('[node]\nprofile = "tiny"\n', {}, ("x25519", "profile")),
        ('[node]\nprofile = "tiny"\n[limits]\nkey_exchange = "hybrid"\n', {}, ("hybrid", "file")),
        ('[node]\nkey_exchange = "x25519"\n[limits]\nkey_exchange = "hybrid"\n', {}, ("x25519", "file")),
        ('[node]\nkey_exchange = "x25519"\n', {"PEERNET_KEY_EXCHANGE": "hybrid"}, ("hybrid", "environment")),
    ],
)
def test_the_key_exchange_of_the_node_beats_the_limits_which_beat_the_profile(
    tmp_path: Path, text: str, environment: dict[str, str], expected: tuple[str, str]
) -> None:
    file = tmp_path / "config.toml"
    file.write_text(text)
    settings = load_settings(file, environment=environment)
    assert (settings.key_exchange, settings.sources["key_exchange"]) == expected
    assert settings.limits.key_exchange == settings.key_exchange


def test_a_limit_that_contradicts_the_profile_is_a_mistake(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text('[node]\nprofile = "tiny"\n[limits]\nmax_frame = 1048576\n')
    with pytest.raises(SettingsError, match="must hold a frame"):
        load_settings(file, environment={})


def test_the_template_is_valid(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(TEMPLATE)
    assert set(load_settings(file, environment={}).sources.values()) == {"default"}
    file.write_text(TEMPLATE.replace("# listen", "listen").replace("# max_inbound", "max_inbound"))
    assert load_settings(file, environment={}).listen == ("0.0.0.0:7400",)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("junk", "not valid TOML"),
        ("[nodes]\n", r"no table \[nodes\]"),
        ("node = 5\n", r"node is a table; write \[node\] on a line of its own"),
        ("limits = 5\n", r"limits is a table; write \[limits\] on a line of its own"),
        ("max_inbound = 5\n", "max_inbound stands in no table"),
        ("[limits]\nbackoff_cap = inf\n", "backoff_cap must be a finite number of seconds, not inf$"),
        ("[node]\nlissen = 5\n", "no setting 'lissen'"),
        ("[node]\nlisten = 5\n", "listen: it must be a list"),
        ('[node]\nlisten = ["nowhere"]\n', "not an address to listen on"),
        ("[node]\nnetwork = 5\n", "network: it must be a text"),
        ('[node]\ninsecure = "maybe"\n', "true or false"),
        ('[node]\nplacement = "x"\n', "one of event, queue, both"),
        ('[node]\nprofile = "huge"\n', "profile: it must be one of tiny, default, server"),
        ('[node]\nkey_exchange = "x448"\n', "key_exchange: it must be one of hybrid, x25519"),
        ('[limits]\nkey_exchange = "x448"\n', "key_exchange must be hybrid or x25519, not 'x448'"),
        ("[limits]\nmax_inbound = -1\n", "max_inbound must be at least"),
        ("[limits]\nx = 1\n", "unknown limit 'x'"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path: Path, text: str, complaint: str) -> None:
    file = tmp_path / "config.toml"
    file.write_text(text)
    with pytest.raises(ConfigurationError, match=complaint) as caught:
        load_settings(file, environment={})
    assert str(file) in str(caught.value)


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_bytes(b"\xff\xff")
    with pytest.raises(ConfigurationError, match="UTF-8"):
        load_settings(tmp_path / "config.toml", environment={})


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot read"):
        load_settings(tmp_path, environment={})


def test_a_wrong_variable_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="PEERNET_PLACEMENT"):
        load_settings(tmp_path / "none", environment={"PEERNET_PLACEMENT": "x"})
