"""docs/security.rst promises only what there is."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from peernet.config import KEY_EXCHANGES, PROFILES, NetworkConfig
from peernet.reasons import Reason
from tests.hostile.__main__ import ATTACKS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "security.rst").read_text(encoding="utf-8")
LIMITS = {field.name for field in dataclasses.fields(NetworkConfig)}
OTHERS = {
    "T",
    "G",
    "status",
    "TCP_NODELAY",
    "allowed_identifiers",
    "allowed_networks",
    "trust.json",
    "bans.json",
    "SECURITY.rst",
    *KEY_EXCHANGES,
}
LITERALS = sorted(set(re.findall(r"``([^`]+)``", PAGE)))
TESTS = [one for one in LITERALS if one.startswith("tests/")]
PROMISES = [f"T{number}" for number in range(1, 32)] + [f"G{number}" for number in range(1, 7)]


@pytest.mark.parametrize("name", TESTS)
def test_every_test_that_is_named_exists(name: str) -> None:
    path, _, function = name.partition("::")
    assert f"def {function}(" in (ROOT / path).read_text(encoding="utf-8") if function else (ROOT / path).is_file()


def test_every_limit_reason_and_attack_that_is_named_exists() -> None:
    names = {one for one in LITERALS if re.fullmatch(r"[\w.]+", one)}
    assert names - LIMITS - set(ATTACKS) - set(map(str, Reason)) - set(PROFILES) - OTHERS == set()


def test_every_limit_is_behind_some_promise_or_said_to_be_none() -> None:
    waiting = {"decision_timeout", "connect_timeout", "acknowledge_after"}  # they protect this side from nobody
    assert {limit for limit in LIMITS if f"``{limit}``" not in PAGE} == waiting


@pytest.mark.parametrize("threat", PROMISES)
def test_there_is_a_word_on_every_threat_and_a_test_for_it_if_it_is_promised(threat: str) -> None:
    promise = PAGE.partition(f"**{threat},")[2].partition("\n\n**")[0]
    missing = PAGE.partition("Not there yet\n~~~")[2]
    shown = "\n:Tests: ``tests/" in promise or threat == "T11"
    assert ("\n:Limits: " in promise and shown) or f"* **{threat}**" in missing
