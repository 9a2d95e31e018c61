"""The control socket: lines of JSON between a command and the running node."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import gevent
import gevent.socket
import pytest

from peernet.errors import ConnectTimeout, HomeInUseError
from peernet.node.control import client as control
from peernet.node.control import protocol
from peernet.node.control import server as server_module
from peernet.node.control.server import ControlServer, Streaming
from peernet.node.failures import ControlTimeout, ExitCode, NodeBusyError, NodeFailure, NotRunningError, TimeIsUp
from peernet.state.home import Home
from tests.support import wait_until


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


@pytest.fixture
def serve(home: Home, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Start a server in this process; the client, which uses plain sockets, is made cooperative."""
    monkeypatch.setattr(socket, "socket", gevent.socket.socket)
    monkeypatch.setattr(time, "sleep", gevent.sleep)
    servers = []

    def start(answer: Callable[[str, dict[str, Any]], Any]) -> None:
        server = ControlServer(home, answer)
        server.start()
        servers.append(server)

    yield start
    for server in servers:
        server.stop()


def test_a_question_and_its_answer(home: Home, serve: Callable[..., None]) -> None:
    serve(lambda command, arguments: {"command": command, **arguments})
    assert control.call(home, "greet", arguments={"name": "x" * 200_000})["name"] == "x" * 200_000
    assert control.call(home, "greet") == {"command": "greet"}


def test_only_the_owner_can_connect(home: Home, serve: Callable[..., None]) -> None:
    serve(lambda command, arguments: None)
    assert home.socket_file.stat().st_mode & 0o777 == 0o600


def test_errors_keep_their_sentence_and_exit_code(home: Home, serve: Callable[..., None]) -> None:
    def answer(command: str, arguments: dict[str, Any]) -> None:
        raise ConnectTimeout("nobody there")

    serve(answer)
    with pytest.raises(NodeFailure, match="nobody there") as caught:
        control.call(home, "connect")
    assert caught.value.exit_code == ExitCode.TIMEOUT


@pytest.mark.parametrize("line", [b"junk\n", b"[]\n", b"{}\n", b'{"command": "x", "arguments": 5}\n', b"\xff\n"])
def test_nonsense_is_answered_and_does_no_harm(home: Home, serve: Callable[..., None], line: bytes) -> None:
    serve(lambda command, arguments: dict(**arguments))
    with home.socket_address() as address, gevent.socket.socket(socket.AF_UNIX) as client:
        client.connect(address)
        client.sendall(line)
        assert "does not understand" in protocol.decode(client.recv(65536))["error"]
    assert control.call(home, "x") == {}


def test_more_clients_than_it_serves_are_told_that_it_is_busy(
    home: Home, serve: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "MAX_CLIENTS", 2)
    serve(lambda command, arguments: "fine")
    with ExitStack() as stack:
        for _ in range(2):  # who say nothing, and take a place each
            client = stack.enter_context(gevent.socket.socket(socket.AF_UNIX))
            client.connect(str(home.socket_file))
        with pytest.raises(NodeFailure, match="busy with 2 other commands") as caught:
            control.call(home, "x")
        assert caught.value.exit_code == ExitCode.TIMEOUT
    wait_until(lambda: answers(home), 5, "a place to be free again")


def answers(home: Home) -> bool:
    try:
        return bool(control.call(home, "x") == "fine")
    except NodeFailure:
        return False


def test_while_nobody_is_accepted_a_command_waits_and_then_says_that_the_node_is_busy(home: Home) -> None:
    with home.socket_address() as address, socket.socket(socket.AF_UNIX) as deaf, ExitStack() as stack:
        deaf.bind(address)
        deaf.listen(1)
        for _ in range(2):  # as many as wait to be accepted
            stack.enter_context(socket.socket(socket.AF_UNIX)).connect(address)
        with pytest.raises(NodeBusyError, match="is busy with many other commands"):
            control.call(home, "x", 0.05)


def ask_raw(home: Home, request: bytes) -> dict[str, Any]:
    with home.socket_address() as address, gevent.socket.socket(socket.AF_UNIX) as client:
        client.connect(address)
        client.sendall(request)
        client.shutdown(socket.SHUT_WR)
        return protocol.decode(client.makefile("rb").readline())


@pytest.mark.parametrize(
    "error", [AttributeError("x"), OSError(28, "full"), RuntimeError("x"), AssertionError("x"), gevent.Timeout(0.1)]
)
def test_whatever_fails_inside_a_request_is_answered_and_logged(
    home: Home,
    serve: Callable[..., None],
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    error: BaseException,
) -> None:
    def answer(command: str, arguments: dict[str, Any]) -> None:
        raise error

    serve(answer)
    with caplog.at_level(logging.ERROR), pytest.raises(NodeFailure, match="failed at this request") as caught:
        control.call(home, "x")
    assert caught.value.exit_code == ExitCode.ERROR
    assert "a control request failed" in caplog.text
    assert "Traceback" not in capfd.readouterr().err


def test_an_answer_that_is_no_json_is_an_error(home: Home, serve: Callable[..., None]) -> None:
    serve(lambda command, arguments: {"what": object()})
    with pytest.raises(NodeFailure):
        control.call(home, "x")


def test_a_request_that_is_too_long_is_told_so(
    home: Home, serve: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "MAX_LINE", 100)
    serve(lambda command, arguments: "fine")
    assert "may have 100 bytes" in ask_raw(home, b"x" * 200)["error"]


def test_a_request_nested_too_deeply_is_not_understood(home: Home, serve: Callable[..., None]) -> None:
    serve(lambda command, arguments: "fine")
    assert "does not understand" in ask_raw(home, b"[" * 100_000 + b"\n")["error"]


def test_a_stream_that_breaks_down_is_logged(
    home: Home, serve: Callable[..., None], caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    def lines() -> Iterator[bytes]:
        yield b"{}\n"
        raise RuntimeError("no more")

    serve(lambda command, arguments: Streaming(None, lines()))
    assert list(control.stream(home, "listen", 5)) == [{}]
    assert "cannot be told more" in caplog.text
    assert "Traceback" not in capfd.readouterr().err


def test_whoever_hangs_up_does_no_harm(home: Home, serve: Callable[..., None]) -> None:
    serve(lambda command, arguments: "fine")
    with home.socket_address() as address, gevent.socket.socket(socket.AF_UNIX) as client:
        client.connect(address)
        client.sendall(b'{"comm')
    assert control.call(home, "x") == "fine"


def test_a_stream(home: Home, serve: Callable[..., None]) -> None:
    serve(lambda command, arguments: Streaming(None, (protocol.encode({"n": number}) for number in range(3))))
    assert list(control.stream(home, "listen", 5)) == [{"n": 0}, {"n": 1}, {"n": 2}]


def test_a_stream_ends_when_the_time_is_up_and_the_server_notices(home: Home, serve: Callable[..., None]) -> None:
    ended = gevent.event.Event()

    def lines() -> Iterator[bytes]:
        try:
            gevent.event.Event().wait()
            yield b"{}\n"
        finally:
            ended.set()

    serve(lambda command, arguments: Streaming(None, lines()))
    with pytest.raises(TimeIsUp):
        list(control.stream(home, "listen", 0.02))
    assert ended.wait(5)


def test_no_node(home: Home) -> None:
    with pytest.raises(NotRunningError, match=r"no node is running on .*; start one with"):
        control.call(home, "status")


def test_a_home_that_another_program_uses_is_no_place_to_start_a_node(home: Home) -> None:
    with home.locked(), pytest.raises(NotRunningError) as caught:
        control.call(home, "status")
    assert str(caught.value) == (
        f"no node answers on {home}: another program (process {os.getpid()}) uses this home and takes no commands; "
        "if it is a node that is just starting, try again, and else end that program first"
    )


def test_a_socket_left_by_a_node_that_was_killed(home: Home, serve: Callable[..., None]) -> None:
    with home.socket_address() as address, gevent.socket.socket(socket.AF_UNIX) as dead:
        dead.bind(address)
    with pytest.raises(NotRunningError):
        control.call(home, "status")
    serve(lambda command, arguments: "alive")
    assert control.call(home, "status") == "alive"


def test_a_node_that_does_not_answer(home: Home, serve: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "GRACE", 0.02)
    serve(lambda command, arguments: gevent.event.Event().wait(5))
    with pytest.raises(ControlTimeout, match="did not answer in time"):
        control.call(home, "status", 0.01)


def test_without_a_node_it_is_done_here_alone(home: Home) -> None:
    assert control.ask_or(home, home.holder, "x", 1, {}) is not None
    assert home.holder() is None


def test_the_time_for_waiting_counts_too(home: Home) -> None:
    began = time.monotonic()
    with home.locked(), pytest.raises(HomeInUseError):
        control.ask_or(home, lambda: "here", "x", 0.1, {})
    assert time.monotonic() - began < 1


def test_while_somebody_else_uses_the_home_it_waits(
    home: Home, serve: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    with home.locked():
        starting = gevent.spawn_later(0.05, serve, lambda command, arguments: "by the node")
        assert control.ask_or(home, lambda: "here", "x", 1, {}) == "by the node"
        starting.get()
