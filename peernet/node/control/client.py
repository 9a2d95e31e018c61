"""The command's end of the control socket. Only the standard library is used, so that commands start quickly."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any, TypeVar

from peernet.errors import HomeError, HomeInUseError
from peernet.node.control.protocol import decode, encode
from peernet.node.failures import ControlTimeout, NodeBusyError, NodeFailure, NotRunningError, TimeIsUp
from peernet.runtime.deadline import Deadline
from peernet.state.home import Home

# How long the node may take for what needs no waiting. Seconds.
ANSWER_TIMEOUT = 5.0
# How much longer than the node the command waits: the node's answer says more than "too late". Seconds.
GRACE = 0.5
# How long a command waits, at most, for another one that uses the same home without a node. Seconds.
PATIENCE = 5.0
# What the node gets when nothing is left: it then says itself what could not be done in time. Seconds.
LEAST_TIME = 0.001
# Between attempts to get what somebody else has now. Seconds.
PAUSE = 0.05

Result = TypeVar("Result")


def call(home: Home, command: str, timeout: float = ANSWER_TIMEOUT, arguments: dict[str, Any] | None = None) -> Any:
    """Have the running node do something.

    Args:
        home: whose node.
        command: what to do.
        timeout: seconds that the node may take; it hears of it only if it is among the arguments.
        arguments: plain values.

    Raises:
        NotRunningError: no node runs on this home.
        ControlTimeout: it did not answer in time.
        NodeFailure: it could not do it.
    """
    with _asked(home, command, arguments or {}, timeout + GRACE) as (_, result):
        return result


def stream(home: Home, command: str, timeout: float | None) -> Iterator[dict[str, Any]]:
    """Have the running node tell of events until it stops.

    Args:
        timeout: seconds after which it is enough; ``None`` means never.

    Raises:
        TimeIsUp: what the name says.
        NotRunningError, NodeFailure: as :func:`call`.
    """
    ends = None if timeout is None else time.monotonic() + timeout
    with _asked(home, command, {}, ANSWER_TIMEOUT) as (lines, _):
        while True:
            try:
                line = lines.read(None if ends is None else ends - time.monotonic())
            except ControlTimeout as error:
                raise TimeIsUp(str(error)) from error
            if not line:
                return
            yield decode(line)


def stop(home: Home, timeout: float) -> None:
    """Stop the running node, and wait until it is gone.

    Raises:
        ControlTimeout: it is still there.
        NotRunningError: there was none.
    """
    ends = time.monotonic() + timeout
    with _asked(home, "stop", {}, timeout) as (lines, answer):
        lines.read(ends - time.monotonic())  # the node keeps this connection open until it has said all goodbyes
    # The node's last act is to give up the lock: only then can another one start on this home.
    while home.holder() == answer["pid"]:
        if time.monotonic() >= ends:
            raise ControlTimeout(f"the node on {home} is still stopping; `peernet-node status` tells when it is gone")
        time.sleep(0.01)


def ask_or(
    home: Home, otherwise: Callable[[], Result], command: str, timeout: float, arguments: dict[str, Any]
) -> Result:
    """Have the running node do something, or do it here, alone on the home, if there is none.

    Args:
        timeout: seconds for all of it; ``otherwise`` keeps to them by itself.

    Raises:
        HomeInUseError: something that is no node uses the home for too long.
    """
    deadline = Deadline(timeout)
    ends = time.monotonic() + min(PATIENCE, timeout)
    while True:
        left = max(LEAST_TIME, deadline.cap(timeout))
        if "timeout" in arguments:
            arguments = {**arguments, "timeout": left}
        try:
            return call(home, command, left, arguments)  # type: ignore[no-any-return]
        except NotRunningError:
            try:
                with home.locked():
                    return otherwise()
            except HomeInUseError:
                # A node that is just starting, or another command like this one.
                if time.monotonic() >= ends:
                    raise
        time.sleep(PAUSE)


class _Lines:
    """Lines read from a socket, each within its own time."""

    def __init__(self, sock: socket.socket, home: Home) -> None:
        self._socket = sock
        self._home = home
        self._buffer = bytearray()

    def read(self, timeout: float | None) -> bytes:
        """The next line; empty at the end of the stream."""
        ends = None if timeout is None else time.monotonic() + timeout
        while b"\n" not in self._buffer:  # ends: each turn reads something, or finds the end or that time is up
            data = self._receive(ends)
            if not data:
                return b""
            self._buffer += data
        line, _, rest = bytes(self._buffer).partition(b"\n")
        self._buffer = bytearray(rest)
        return line

    def _receive(self, ends: float | None) -> bytes:
        remaining = None if ends is None else ends - time.monotonic()
        try:
            if remaining is not None and remaining <= 0:
                raise TimeoutError
            self._socket.settimeout(remaining)
            return self._socket.recv(65536)
        except TimeoutError:
            raise ControlTimeout(f"the node on {self._home} did not answer in time; try again") from None
        except ConnectionError:
            return b""


@contextmanager
def _asked(home: Home, command: str, arguments: dict[str, Any], timeout: float) -> Iterator[tuple[_Lines, Any]]:
    """The connection on which the answer came, and the result in it."""
    deadline = Deadline(timeout)
    with closing(_connect(home, timeout)) as sock:
        lines = _Lines(sock, home)
        try:
            sock.settimeout(max(LEAST_TIME, deadline.cap(timeout)))
            sock.sendall(encode({"command": command, "arguments": arguments}))
        except TimeoutError:
            raise ControlTimeout(f"the node on {home} does not take requests; is it overloaded?") from None
        except ConnectionError:
            pass  # it may have said why
        yield lines, _result(lines.read(deadline.remaining), home)


def _connect(home: Home, timeout: float) -> socket.socket:
    if not hasattr(socket, "AF_UNIX"):
        raise _missing(home)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with home.socket_address() as address:
            _await_turn(sock, address, timeout)
    except BlockingIOError:
        sock.close()
        raise NodeBusyError(f"the node on {home} is busy with many other commands; try again later") from None
    except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
        sock.close()
        raise _missing(home) from None
    except OSError as error:
        sock.close()
        raise NotRunningError(f"the node on {home} cannot be reached ({error}); check the folder's owner") from error
    except BaseException:
        sock.close()
        raise
    return sock


def _missing(home: Home) -> NotRunningError:
    """The error for a home whose socket nobody answers: a program with a network of its own may use it all the same."""
    holder = _holder(home)
    if holder is None:
        return NotRunningError(f"no node is running on {home}; start one with `peernet-node --home {home} run`")
    return NotRunningError(
        f"no node answers on {home}: another program (process {holder or 'unknown'}) uses this home and takes no "
        "commands; if it is a node that is just starting, try again, and else end that program first"
    )


def _holder(home: Home) -> int | None:
    if not os.path.exists(home.lock_file):
        return None
    try:
        return home.holder()
    except HomeError:  # it cannot be written; whoever has to write it says so
        return None


def _await_turn(sock: socket.socket, address: str, timeout: float) -> None:
    """Connect, as soon as not too many others wait to be accepted: a socket with a timeout does not wait for that."""
    deadline = Deadline(timeout)
    sock.settimeout(timeout)
    while True:
        try:
            return sock.connect(address)
        except BlockingIOError:
            if deadline.expired:
                raise
        time.sleep(PAUSE)


def _result(line: bytes, home: Home) -> Any:
    if not line:
        raise NotRunningError(f"the node on {home} ended before it answered; look at its log")
    answer = decode(line)
    if "error" in answer:
        raise NodeFailure(answer["error"], answer["exit_code"])
    return answer["result"]
