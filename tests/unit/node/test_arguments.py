"""The arguments of a request: typed as the method that answers it says."""

from __future__ import annotations

from typing import Any

import pytest

from peernet.node.control.arguments import check_arguments
from peernet.node.failures import ExitCode, RequestError, exit_code_of
from peernet.node.requests import COMMANDS


class Commands:
    def send(self, peer: str, message: dict[str, Any], timeout: float, count: int = 1, confirm: bool = True) -> None:
        """Takes one of each."""

    def unban(self, who: str | None) -> None:
        """Takes nothing, too."""


GOOD = {"peer": "abc", "message": {}, "timeout": 1, "count": 3, "confirm": False}


def test_arguments_of_the_right_types_pass() -> None:
    check_arguments(Commands.send, GOOD)
    check_arguments(Commands.send, {"peer": "", "message": {"x": 1}, "timeout": 0.5})
    check_arguments(Commands.unban, {"who": None})
    check_arguments(Commands.unban, {"who": "ünban"})


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"peer": ["abc"]}, r"'peer' must be a text, not \["),
        ({"peer": None}, "'peer' must be a text, not null"),
        ({"peer": "\ud800"}, "'peer' must be a text"),
        ({"message": "hi"}, "'message' must be an object"),
        ({"timeout": "1"}, "'timeout' must be a number"),
        ({"timeout": float("nan")}, "'timeout' must be a number"),
        ({"timeout": 10**400}, "'timeout' must be a number"),
        ({"timeout": True}, "'timeout' must be a number, not true"),
        ({"count": 1.5}, "'count' must be a whole number"),
        ({"count": True}, "'count' must be a whole number"),
        ({"confirm": 1}, "'confirm' must be true or false"),
        ({"x": 1}, "there is no argument 'x'"),
    ],
    ids=repr,
)
def test_others_are_refused_by_name(changed: dict[str, Any], complaint: str) -> None:
    with pytest.raises(RequestError, match=f"does not understand the request: {complaint}") as caught:
        check_arguments(Commands.send, GOOD | changed)
    assert exit_code_of(caught.value) == ExitCode.USAGE


def test_what_is_missing_is_named() -> None:
    with pytest.raises(RequestError, match="the argument 'message' is missing"):
        check_arguments(Commands.send, {"peer": "abc", "timeout": 1})


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_of_the_node_has_arguments_that_can_be_checked(command: str) -> None:
    with pytest.raises(RequestError):
        check_arguments(COMMANDS[command], {"no such": 1})
