"""`bans` and `unban` without a running node."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from peernet.node.failures import ExitCode
from peernet.switch.stores import BANS
from peernet.trust.bans import Ban
from tests.unit.cli.conftest import Run

SOMEBODY = "s" * 52


def keep_bans(home: Path, *bans: Ban) -> None:
    home.mkdir(mode=0o700)
    BANS.save(home / "bans.json", list(bans))


def test_bans_that_are_kept_are_listed_and_lifted(run: Run, tmp_path: Path) -> None:
    now = time.time()
    mallory = Ban(SOMEBODY, "bad_packet", 100.0, now - 7200, now + 79_200)
    customer = Ban("2001:db8::/56", "noise", 0.0, now - 60, now + 60, manual=True)
    over = Ban("203.0.113.7", "rate_limited", 100.0, now - 60, now - 1)
    keep_bans(tmp_path / "home", mallory, customer, over)
    assert json.loads(run("bans", "-o", "json").output) == [mallory.to_dict(), customer.to_dict()]
    lines = run("bans").output.splitlines()
    assert lines[0].split() == ["WHO", "WHY", "SCORE", "SINCE", "EXPIRES", "BY", "HAND"]
    assert lines[1].split() == [SOMEBODY[:12], "bad_packet", "100.0", "2", "h", "ago", "in", "21", "h", "no"]
    assert run("unban", SOMEBODY[:5]).output == f"unbanned {SOMEBODY[:12]}\n"
    assert json.loads(run("unban", "2001:db8::1", "-o", "json").output) == {"unbanned": ["2001:db8::/56"]}
    assert run("bans").output == "nobody is banned\n"


def test_all_bans_can_be_lifted_at_once(run: Run, tmp_path: Path) -> None:
    now = time.time()
    keep_bans(tmp_path / "home", *(Ban(f"203.0.113.{number}", "", 0.0, now, now + 60) for number in range(3)))
    assert len(json.loads(run("unban", "--all", "-o", "json").output)["unbanned"]) == 3
    assert run("unban", "--all").output == "unbanned nobody\n"
    assert run("bans", "-o", "json").output == "[]\n"


@pytest.mark.parametrize("arguments", [(), (SOMEBODY, "--all"), ("10.0.0.0/8",), ("no one",)])
def test_unban_wants_one_or_all(run: Run, arguments: tuple[str, ...]) -> None:
    assert run("unban", *arguments).exit_code == ExitCode.USAGE


@pytest.mark.parametrize("who", [SOMEBODY, "203.0.113.7", "somebody"])
def test_who_is_not_banned_cannot_be_unbanned(run: Run, who: str) -> None:
    result = run("unban", who)
    assert result.exit_code == ExitCode.ERROR
    assert "Error:" in result.stderr


def test_looking_leaves_damaged_bans_where_they_are(run: Run, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir(mode=0o700)
    (tmp_path / "home" / "bans.json").write_text("junk")
    result = run("bans")
    assert (result.exit_code, result.stdout) == (0, "nobody is banned\n")
    assert "bans.json is damaged" in result.stderr
    assert [file.name for file in (tmp_path / "home").iterdir()] == ["bans.json"]
    assert "bans.json" in run("doctor").output


@pytest.mark.parametrize(
    ("time_given", "seconds"),
    [("3600", 3600), ("90s", 90), ("15min", 900), ("15m", 900), ("1h", 3600), ("1.5h", 5400), ("7 d", 604_800)],
)
def test_a_ban_is_kept_for_the_next_node(run: Run, time_given: str, seconds: float) -> None:
    result = json.loads(run("ban", SOMEBODY, "--for", time_given, "-o", "json").output)
    (kept,) = json.loads(run("bans", "-o", "json").output)
    assert result | {"since": 0, "expires": 0} == kept | {"since": 0, "expires": 0}
    assert (kept["who"], kept["manual"], kept["expires"] - kept["since"]) == (SOMEBODY, True, pytest.approx(seconds))


def test_bans_of_addresses_and_without_a_time(run: Run) -> None:
    assert run("ban", "203.0.113.7").output == "203.0.113.7 is banned for 1 d\n"
    assert run("ban", "2001:db8::1", "--for", "90").output == "2001:db8::/56 is banned for 90 s\n"
    assert run("ban", "203.0.113.7", "--for", "1h").output == "203.0.113.7 is banned for 1 h\n"  # replaces it
    assert [row["who"] for row in json.loads(run("bans", "-o", "json").output)] == ["2001:db8::/56", "203.0.113.7"]


@pytest.mark.parametrize("time_given", ["", "0", "-1", "1x", "h", "nan", "1e9", "1 h h"])
def test_what_is_no_time(run: Run, time_given: str) -> None:
    assert run("ban", SOMEBODY, f"--for={time_given}").exit_code == ExitCode.USAGE


def test_a_time_that_is_too_long_is_a_sentence(run: Run) -> None:
    result = run("ban", SOMEBODY, "--for", "99999d")
    assert result.exit_code == ExitCode.ERROR
    assert "a ban lasts from 0 to" in result.stderr


def test_networks_are_blocked_and_not_banned(run: Run) -> None:
    result = run("ban", "10.0.0.0/8")
    assert result.exit_code == ExitCode.USAGE
    assert " block 10.0.0.0/8` keeps this one out" in result.stderr
    assert "`peernet-node --home" in result.stderr
    assert "host:port, or an IP address" in run("ban", "1.2.3").stderr


def test_whom_it_could_be_is_found_as_everywhere(run: Run, tmp_path: Path) -> None:
    run("trust", SOMEBODY)
    result = run("unban", SOMEBODY[:4])
    assert result.exit_code == ExitCode.ERROR
    assert f"{SOMEBODY[:12]} is not banned" in result.stderr
    assert run("ban", SOMEBODY[:4], "--for", "1d").output == f"{SOMEBODY} is banned for 1 d\n"
    assert run("unban", SOMEBODY[:4]).output == f"unbanned {SOMEBODY[:12]}\n"
