"""From errors to exit codes, and to one sentence on stderr."""

from __future__ import annotations

from enum import IntEnum

from peernet.errors import (
    ChannelClosedError,
    ConnectTimeout,
    DeliveryFailed,
    IdentityMismatchError,
    PeerNetError,
    PingTimeout,
    RefusedByPeerError,
    RefusedByPolicyError,
    SendTimeout,
    UnprovenPeerError,
)


class ExitCode(IntEnum):
    """What ``peernet-node`` exits with. Part of the contract with scripts."""

    OK = 0
    ERROR = 1
    USAGE = 2
    NOT_RUNNING = 3
    REFUSED = 4
    TIMEOUT = 5
    CHECK_FAILED = 6
    INTERRUPTED = 130  # by Ctrl-C; what shells report of a program that the signal has ended


class NotRunningError(PeerNetError):
    """No node runs on the home folder."""


class ControlTimeout(PeerNetError):
    """The running node did not answer in time."""


class TimeIsUp(ControlTimeout):
    """Events were listened to for as long as was asked."""


class RequestError(PeerNetError):
    """A request to the running node that is none: it does not parse, or its arguments are wrong."""

    def __str__(self) -> str:
        return f"the node does not understand the request: {super().__str__()}"


class NodeBusyError(ControlTimeout):
    """The running node serves as many commands as it can."""


class CheckFailedError(PeerNetError):
    """A check found something wrong.

    Attributes:
        mistakes: a sentence about each thing.
    """

    def __init__(self, *mistakes: str) -> None:
        super().__init__(mistakes[0])
        self.mistakes = mistakes


class NodeFailure(PeerNetError):
    """What the running node says about a request it could not fulfil."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


# Reasons of a closed channel that mean "no" rather than "broken".
REFUSALS = frozenset(
    {
        "blocked",
        "not_allowed",
        "rejected",
        "decision_timeout",
        "not_permitted",
        "unhandled",
        "too_big",
        "handler_failed",
    }
)

CODES: dict[type[PeerNetError], ExitCode] = {
    NotRunningError: ExitCode.NOT_RUNNING,
    RefusedByPeerError: ExitCode.REFUSED,
    RefusedByPolicyError: ExitCode.REFUSED,
    IdentityMismatchError: ExitCode.REFUSED,
    UnprovenPeerError: ExitCode.REFUSED,
    ConnectTimeout: ExitCode.TIMEOUT,
    ControlTimeout: ExitCode.TIMEOUT,
    PingTimeout: ExitCode.TIMEOUT,
    SendTimeout: ExitCode.TIMEOUT,
    NodeBusyError: ExitCode.TIMEOUT,
    RequestError: ExitCode.USAGE,
    CheckFailedError: ExitCode.CHECK_FAILED,
}


def exit_code_of(error: PeerNetError) -> int:
    """The exit code for an error."""
    if isinstance(error, NodeFailure):
        return error.exit_code
    if isinstance(error, (ChannelClosedError, DeliveryFailed)) and str(error.reason) in REFUSALS:
        return ExitCode.REFUSED
    return CODES.get(type(error), ExitCode.ERROR)
