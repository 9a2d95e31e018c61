"""The node's end of the control socket."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

import gevent
from gevent import socket
from gevent.pool import Pool
from gevent.server import StreamServer

from peernet.errors import HomeError, PeerNetError
from peernet.node.control.protocol import MAX_LINE, Request, decode_request, encode
from peernet.node.failures import ExitCode, NodeBusyError, RequestError, exit_code_of
from peernet.runtime.logs import get_logger
from peernet.state.home import Home
from peernet.transport.tcp import new_socket

logger = get_logger(__name__)

# Programs of one user on one machine; each costs a greenlet and a descriptor.
MAX_CLIENTS = 64
# Those that are told so when it is more. They take no longer than that; the rest waits to be accepted.
MAX_TURNED_AWAY = 256
# How long a client may take to say what it wants, and to read the answer. Seconds.
CLIENT_TIMEOUT = 10.0

Answer = Callable[[str, dict[str, Any]], Any]


class Streaming:
    """A result after which ``lines`` follow for as long as they come."""

    def __init__(self, result: object, lines: Iterable[bytes]) -> None:
        self.result = result
        self.lines = lines


class ControlServer:
    """Takes requests, one per connection.

    Args:
        home: the home folder, which the caller has locked.
        answer: ``answer(command, arguments)`` returns the result, or a :class:`Streaming`.
    """

    def __init__(self, home: Home, answer: Answer) -> None:
        self._home = home
        self._answer = answer
        self._server: StreamServer | None = None
        self._serving = 0

    def start(self) -> None:
        """Listen.

        Raises:
            HomeError: the socket cannot be made.
        """
        self._server = StreamServer(self._listen(), self._serve, spawn=Pool(MAX_CLIENTS + MAX_TURNED_AWAY))
        self._server.start()

    def stop(self) -> None:
        """Take no more requests, and end those that run. Idempotent."""
        if self._server is not None:
            server, self._server = self._server, None
            self._home.socket_file.unlink(missing_ok=True)
            server.stop(timeout=1)

    def _listen(self) -> socket.socket:
        listener = new_socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._home.socket_file.unlink(missing_ok=True)  # of a node that was killed: we have the lock
            with self._home.socket_address() as address:
                previous = os.umask(0o177)  # so that it is never open to others, not even for a moment
                try:
                    listener.bind(address)
                finally:
                    os.umask(previous)
            listener.listen(MAX_CLIENTS)
        except OSError as error:
            listener.close()
            raise HomeError(
                f"cannot make the control socket {self._home.socket_file} ({error}); choose another --home"
            ) from error
        return listener

    def _serve(self, client: socket.socket, _: object) -> None:
        client.settimeout(CLIENT_TIMEOUT)
        self._serving += 1
        try:
            answer, lines = self._respond(client)
            client.sendall(answer)
            if lines is not None:
                _send_all(client, lines)
        except OSError as error:
            logger.debug("a control client went away: %s", error)
        except Exception:
            logger.exception("a control client cannot be told more")
        finally:
            self._serving -= 1

    def _respond(self, client: socket.socket) -> tuple[bytes, Iterable[bytes] | None]:
        """The answer to a request, and what follows it. Whatever is wrong with the request is an answer."""
        try:
            if self._serving > MAX_CLIENTS:
                raise NodeBusyError(f"the node is busy with {MAX_CLIENTS} other commands; try again later")
            return self._result(decode_request(_read_line(client)))
        except PeerNetError as error:
            return _failure(str(error), exit_code_of(error)), None

    def _result(self, request: Request) -> tuple[bytes, Iterable[bytes] | None]:
        try:
            result = self._answer(*request)
            if isinstance(result, Streaming):
                return encode({"result": result.result}), result.lines
            return encode({"result": result}), None
        except PeerNetError:
            raise
        except (Exception, gevent.Timeout) as error:
            logger.exception("a control request failed")
            return _failure(f"the node failed at this request ({error!r}); its log says more"), None


def _failure(sentence: str, exit_code: int = ExitCode.ERROR) -> bytes:
    return encode({"error": sentence, "exit_code": exit_code})


def _read_line(client: socket.socket) -> bytes:
    buffer = bytearray()
    while not buffer.endswith(b"\n"):  # ends: whoever asks too slowly or too much is hung up on
        data = client.recv(65536)
        if not data:
            raise ConnectionResetError("it hung up before it asked")
        buffer += data
        if len(buffer) > MAX_LINE:
            raise RequestError(f"it may have {MAX_LINE} bytes")
    return bytes(buffer)


def _send_all(client: socket.socket, lines: Iterable[bytes]) -> None:
    """Send lines until they or the client end."""
    sender = gevent.getcurrent()  # one of the server's pool
    # Nothing else comes from this client, so whatever comes is the end.
    watcher = gevent.spawn(_kill_at_end, client, sender)
    try:
        for line in lines:
            client.sendall(line)
    finally:
        watcher.kill()


def _kill_at_end(client: socket.socket, sender: Any) -> None:
    gevent.socket.wait_read(client.fileno())
    sender.kill(block=False)
