"""`outbox`, as far as it needs no node."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from peernet.durable.packet import NewPacket, Setback
from peernet.durable.store import DurableStore
from peernet.node.failures import ExitCode
from peernet.state.home import Home
from tests.unit.cli.conftest import Run

ALICE, BOB = "a" * 52, "b" * 52


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """With three packets for Alice, one of which is set aside and one failing, and one for Bob."""
    home = Home(tmp_path / "home")
    home.folder.mkdir(mode=0o700)
    store = DurableStore(home.outbox_file)
    with store.transaction():
        numbers = [
            store.add(NewPacket(peer, "", bytes(16), "pure_message", b"body", 1000.0))
            for peer in (ALICE, ALICE, ALICE, BOB)
        ]
        store.set_back([Setback(numbers[0], 10, None), Setback(numbers[1], 4, 7.0)], 2000.0)
    store.close()
    return home


def packets(run: Run) -> list[tuple[Any, ...]]:
    rows = json.loads(run("outbox", "list", "--packets", "-o", "json").stdout)
    return [(row["peer"], row["aside"], row["attempts"], row["reason"], row["retry_at"]) for row in rows]


@pytest.mark.usefixtures("home")
def test_the_list_tells_what_is_set_aside_and_how_often_it_has_failed(run: Run) -> None:
    rows = json.loads(run("outbox", "list", "-o", "json").stdout)
    assert [(row["peer"], row["packets"], row["aside"]) for row in rows] == [(ALICE, 3, 1), (BOB, 1, 0)]
    assert packets(run) == [
        (ALICE, True, 10, "handler_failed", None),
        (ALICE, False, 4, "handler_failed", 2007.0),
        (ALICE, False, 0, None, None),
        (BOB, False, 0, None, None),
    ]


@pytest.mark.usefixtures("home")
def test_people_see_it_too(run: Run) -> None:
    head, alice, _ = run("outbox", "list").stdout.splitlines()
    assert ("ASIDE" in head, alice.split()[:3]) == (True, [ALICE[:12], "3", "1"])
    head, *rows = run("outbox", "list", "--packets").stdout.splitlines()
    assert head.split()[-2:] == ["ATTEMPTS", "STATE"]
    assert [row.split()[-2:] for row in rows] == [["10", "aside"], ["4", "failing"], ["0", "waiting"], ["0", "waiting"]]


@pytest.mark.usefixtures("home")
def test_what_is_set_aside_is_left_to_the_next_node(run: Run) -> None:
    assert run("outbox", "retry", "bbbb").stdout == "0 packets for bbbbbbbbbbbb are to be sent again\n"
    assert packets(run)[0][1]
    assert json.loads(run("outbox", "retry", "aaaa", "-o", "json").stdout) == {"retried": 1, "peer": ALICE}
    assert [row[1:3] for row in packets(run)] == [(False, 0), (False, 4), (False, 0), (False, 0)]
    assert run("outbox", "retry").stdout == "0 packets for all peers are to be sent again\n"


@pytest.mark.usefixtures("home")
def test_dropping_takes_what_is_set_aside_as_well(run: Run) -> None:
    assert run("outbox", "drop", "aaaa").stdout == "3 packets for aaaaaaaaaaaa dropped\n"
    assert [row[0] for row in packets(run)] == [BOB]


def test_a_peer_that_nobody_knows_is_an_error(run: Run) -> None:
    assert run("outbox", "retry", "zzzz").exit_code == ExitCode.ERROR
