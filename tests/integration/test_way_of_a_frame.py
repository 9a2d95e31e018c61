"""The rooms that a received frame passes, traced from the read of the transport to the callback."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import gevent
import pytest

import peernet
from tests.integration.meetings import Meeting, Networks, meet, text
from tests.support import wait_until

PACKAGE = Path(peernet.__file__).parent
ROW: dict[str, int] = runpy.run_path(str(PACKAGE.parent / "tools" / "check_layers"))["ROW"]
READS = {"recv", "recv_into"}
MOST_ROOMS, MOST_CLIMBS = 6, 2


def room_of(frame: FrameType | None) -> str:
    """The room in which a function stands; empty if it is none of the package's."""
    path = Path(frame.f_code.co_filename) if frame is not None else Path()
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py") if path.is_relative_to(PACKAGE) else ""


class Trace:
    """A callback for texts that traces how the second one has come to it.

    Attributes:
        calls: the function called, its room, and the room it was called from, since the transport was last read.
    """

    def __init__(self) -> None:
        self.calls: list[tuple[str, str, str]] = []
        self.done = False
        self._greenlet: object = None

    def __call__(self, channel: Any, packet: Any) -> None:
        if packet.pure_message.message == "first":
            self._greenlet = gevent.getcurrent()
            sys.setprofile(self._profile)
        else:
            sys.setprofile(None)
            self.done = True

    def _profile(self, frame: FrameType, event: str, argument: object) -> None:
        room = room_of(frame)
        if event != "call" or not room or gevent.getcurrent() is not self._greenlet:
            return
        if room == "transport" and frame.f_code.co_name in READS:
            self.calls = []  # the way of the next frame begins here
        self.calls.append((frame.f_code.co_name, room, room_of(frame.f_back)))

    @property
    def rooms(self) -> list[str]:
        """The rooms, each where it is entered for the first time."""
        return list(dict.fromkeys(room for _, room, _ in self.calls))

    @property
    def climbs(self) -> list[str]:
        """The calls into a room of a higher row."""
        return [
            f"{caller} -> {room}: {name}" for name, room, caller in self.calls if caller and ROW[room] < ROW[caller]
        ]


def traced(meeting: Meeting) -> Trace:
    meeting.bob.handlers["pure_message"] = trace = Trace()
    for message in ("first", "second"):
        meeting.to_bob.send(text(message))
        meeting.to_bob.ping()
    wait_until(lambda: trace.done)
    return trace


@pytest.mark.parametrize("insecure", [False, True], ids=["tls", "plain"])
def test_a_frame_passes_few_rooms_and_seldom_climbs(networks: Networks, insecure: bool) -> None:
    trace = traced(meet(networks, insecure=insecure))
    print(*(f"{room:12} {name}" for name, room, _ in trace.calls), "", *trace.climbs, sep="\n")
    assert trace.rooms[0] == "transport"
    assert {"channel", "wire"} <= set(trace.rooms)
    assert len(trace.rooms) <= MOST_ROOMS
    assert len(trace.climbs) <= MOST_CLIMBS
