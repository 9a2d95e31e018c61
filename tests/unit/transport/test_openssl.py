from __future__ import annotations

import errno
import gc
import runpy
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import gevent
import OpenSSL
import pytest
from OpenSSL import SSL, _util

from peernet.transport import openssl
from peernet.transport.base import RECORD_SIZE
from peernet.transport.openssl import (
    CALLS,
    Calls,
    DirectCalls,
    MakesCalls,
    MethodCalls,
    accept_only,
    agree_with,
    can_call_directly,
)
from tests.support import scaled
from tests.unit.transport.pairs import ALICE

Ends = tuple[SSL.Connection, SSL.Connection]


@pytest.fixture(params=[DirectCalls, MethodCalls])
def make_calls(request: pytest.FixtureRequest) -> MakesCalls:
    """Either way to call OpenSSL; whoever uses one must not notice which."""
    calls: MakesCalls = request.param
    return calls


@pytest.fixture
def ends() -> Iterator[Ends]:
    """Two ends of a TLS connection over sockets that do not wait; the second one listens."""
    near, far = socket.socketpair()
    with closing(near), closing(far):
        yield connected(near, far)


def connected(near: socket.socket, far: socket.socket) -> Ends:
    context = SSL.Context(SSL.TLS_METHOD)
    context.use_certificate(ALICE.certificate)
    context.use_privatekey(ALICE.private_key)
    context.set_options(SSL.OP_NO_TICKET)
    for end in (near, far):
        end.setblocking(False)
    dialling, listening = SSL.Connection(context, near), SSL.Connection(context, far)
    dialling.set_connect_state()
    listening.set_accept_state()
    waiting = [dialling, listening]
    for _ in range(10):  # each message of the handshake comes once
        waiting = [end for end in waiting if not shaken(end)]
    assert not waiting
    return dialling, listening


def shaken(end: SSL.Connection) -> bool:
    try:
        end.do_handshake()
    except SSL.WantReadError:
        return False
    return True


def read(calls: Calls) -> bytes:
    return calls.recv()


def read_into(calls: Calls) -> bytes:
    buffer = bytearray(9)
    with memoryview(buffer) as view:
        count = calls.recv_into(view)
    return bytes(buffer[:count])


def fill(calls: Calls) -> int:
    """Write records until there is no room. Returns how many."""
    count = 0
    try:
        while True:  # ends: nobody reads
            count += calls.send(bytes(RECORD_SIZE)) // RECORD_SIZE
    except SSL.WantWriteError:
        return count


READS = pytest.mark.parametrize("use", [read, read_into])
Use = Callable[[Calls], bytes]


def test_signatures_can_be_chosen() -> None:
    assert accept_only(SSL.Context(SSL.TLS_METHOD), ("ed25519",))


def test_a_signature_that_openssl_does_not_know_is_told() -> None:
    assert not accept_only(SSL.Context(SSL.TLS_METHOD), ("made-up",))
    assert _util.lib.ERR_peek_error() == 0  # nobody else is told instead


def test_the_first_list_of_groups_that_openssl_knows_is_used() -> None:
    context = SSL.Context(SSL.TLS_METHOD)
    assert agree_with(context, ("X25519", "P-256")) == "X25519"
    assert agree_with(context, ("*made-up/*X25519", "P-256", "X25519")) == "P-256"
    assert agree_with(context, ("made-up",)) == ""
    assert _util.lib.ERR_peek_error() == 0  # nobody else is told instead


def test_where_there_is_no_such_function_it_is_told() -> None:
    class Other:
        """A context of another version, without the private name."""

    assert not accept_only(Other(), ("ed25519",))  # type: ignore[arg-type]
    assert agree_with(Other(), ("X25519",)) == ""  # type: ignore[arg-type]


def test_the_version_that_is_installed_is_called_directly() -> None:
    assert CALLS is DirectCalls


@pytest.mark.parametrize("change", [None, lambda self: None, lambda self, ssl, result: None])
def test_where_pyopenssls_own_function_is_missing_or_another_it_is_not_called_directly(
    change: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    if change is None:
        monkeypatch.delattr(SSL.Connection, "_raise_ssl_error")
    else:
        monkeypatch.setattr(SSL.Connection, "_raise_ssl_error", change)
    assert not can_call_directly()


@pytest.mark.parametrize("name", ["_read", "_write", "_from_buffer"])
def test_a_library_without_a_function_is_not_called_directly(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openssl, name, None)
    assert not can_call_directly()


def test_a_library_whose_functions_do_something_else_is_not_called_directly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openssl, "_read", lambda ssl, buffer, size: 1)
    assert not can_call_directly()


def test_without_the_private_module_the_methods_are_called(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(OpenSSL, "_util")
    monkeypatch.setitem(sys.modules, "OpenSSL._util", None)
    found = runpy.run_path(str(openssl.__file__), run_name="without_util")
    assert found["CALLS"] is found["MethodCalls"]
    assert not found["accept_only"](SSL.Context(SSL.TLS_METHOD), ("ed25519",))
    assert found["agree_with"](SSL.Context(SSL.TLS_METHOD), ("X25519",)) == ""


@READS
def test_what_was_sent_is_read(use: Use, make_calls: MakesCalls, ends: Ends) -> None:
    near, far = make_calls(ends[0]), make_calls(ends[1])
    assert near.send(memoryview(b"a message")) == 9
    assert use(far) == b"a message"
    assert far.send(b"an answer") == 9
    assert use(near) == b"an answer"


def test_a_write_ends_with_a_record(make_calls: MakesCalls, ends: Ends) -> None:
    near, far = make_calls(ends[0]), make_calls(ends[1])
    assert near.send(bytes(3 * RECORD_SIZE)) == RECORD_SIZE
    assert far.recv() == bytes(RECORD_SIZE)


@READS
def test_a_read_that_finds_nothing_says_so(use: Use, make_calls: MakesCalls, ends: Ends) -> None:
    with pytest.raises(SSL.WantReadError):
        use(make_calls(ends[0]))


def test_a_write_without_room_says_so_and_is_repeated_from_elsewhere(make_calls: MakesCalls, ends: Ends) -> None:
    near, far = make_calls(ends[0]), make_calls(ends[1])
    for _ in range(fill(near)):
        assert far.recv() == bytes(RECORD_SIZE)
    assert near.send(bytes(RECORD_SIZE)) == RECORD_SIZE  # other memory than before
    assert far.recv() == bytes(RECORD_SIZE)


@READS
def test_a_goodbye_is_the_end(use: Use, make_calls: MakesCalls, ends: Ends) -> None:
    ends[1].shutdown()
    with pytest.raises(SSL.ZeroReturnError):
        use(make_calls(ends[0]))


@READS
def test_an_end_without_goodbye_is_told_apart(use: Use, make_calls: MakesCalls, ends: Ends) -> None:
    ends[1].sock_shutdown(socket.SHUT_WR)
    with pytest.raises(SSL.SysCallError) as found:
        use(make_calls(ends[0]))
    assert found.value.args == (-1, "Unexpected EOF")
    assert _util.lib.ERR_peek_error() == 0


@READS
def test_a_reset_has_the_number_of_the_system(use: Use, make_calls: MakesCalls) -> None:
    near, far = socket.socketpair()
    with closing(near), closing(far):
        dialling, _ = connected(near, far)
        near.send(b"what the other end never reads")
        far.close()
        with pytest.raises(SSL.SysCallError) as found:
            use(make_calls(dialling))
        assert found.value.args == (errno.ECONNRESET, "ECONNRESET")


@READS
def test_a_record_that_is_not_one_has_a_reason(use: Use, make_calls: MakesCalls) -> None:
    near, far = socket.socketpair()
    with closing(near), closing(far):
        dialling, _ = connected(near, far)
        far.send(b"\x17\x03\x03\x00\x20" + bytes(32))
        with pytest.raises(SSL.Error) as found:
            use(make_calls(dialling))
    assert "decryption failed or bad record mac" in str(found.value)
    assert _util.lib.ERR_peek_error() == 0


def test_a_write_after_the_other_end_is_gone_is_an_error(make_calls: MakesCalls) -> None:
    near, far = socket.socketpair()
    with closing(near), closing(far):
        dialling, _ = connected(near, far)
        far.close()
        with pytest.raises(SSL.SysCallError) as found:
            make_calls(dialling).send(b"to nobody")
        assert found.value.args == (errno.EPIPE, "EPIPE")


def test_the_error_of_an_earlier_call_is_not_taken_for_one_of_this(make_calls: MakesCalls, ends: Ends) -> None:
    near, far = make_calls(ends[0]), make_calls(ends[1])
    library = _util.lib
    library.ERR_put_error(library.ERR_LIB_EVP, 0, 100, b"earlier", 1)
    try:
        with pytest.raises(SSL.WantReadError):
            near.recv()
        assert far.send(b"a message") == 9
        assert near.recv() == b"a message"
    finally:
        library.ERR_clear_error()


def test_what_must_not_change_is_not_read_into(make_calls: MakesCalls, ends: Ends) -> None:
    near, far = make_calls(ends[0]), make_calls(ends[1])
    far.send(b"hello")
    constant = bytes(5)
    with pytest.raises((TypeError, BufferError)):
        near.recv_into(memoryview(constant))
    assert constant == bytes(5)


def test_no_call_holds_the_memory_that_it_was_given(make_calls: MakesCalls, ends: Ends) -> None:
    near, far = make_calls(ends[0]), make_calls(ends[1])
    data = bytearray(b"some bytes")
    with memoryview(data) as view:
        with pytest.raises(SSL.WantReadError):
            near.recv_into(view)
        assert near.send(view) == 10
    data.clear()  # BufferError while anybody can still write there
    buffer = bytearray(20)
    with memoryview(buffer) as view:
        assert far.recv_into(view) == 10
    buffer.clear()


def test_a_connection_lives_as_long_as_its_calls(make_calls: MakesCalls) -> None:
    near, far = socket.socketpair()
    with closing(near), closing(far):
        calls = [make_calls(end) for end in connected(near, far)]
        gc.collect()
        assert calls[0].send(b"still there") == 11
        assert calls[1].recv() == b"still there"


def test_a_failure_that_nobody_explains_is_an_error_all_the_same(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SSL.Connection, "_raise_ssl_error", lambda *_: None)
    with pytest.raises(SSL.Error):
        DirectCalls(ends[0]).recv()


def test_who_reads_in_the_middle_of_a_read_has_a_buffer_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the handler of a signal could, or another thread: OpenSSL runs without the interpreter's lock."""
    pairs = [socket.socketpair() for _ in range(2)]
    (one, other), (far_one, far_other) = zip(*(map(DirectCalls, connected(*pair)) for pair in pairs), strict=True)
    far_one.send(b"for one")
    far_other.send(b"for the other")
    real: Any = openssl.__dict__["_read"]
    inner: list[bytes] = []

    def interrupted(*arguments: Any) -> Any:
        count = real(*arguments)
        monkeypatch.setattr(openssl, "_read", real)
        inner.append(other.recv())
        return count

    monkeypatch.setattr(openssl, "_read", interrupted)
    assert (one.recv(), inner) == (b"for one", [b"for the other"])
    for pair in pairs:
        for end in pair:
            end.close()


def test_threads_do_not_mix_what_they_read() -> None:
    pool = gevent.get_hub().threadpool
    with gevent.Timeout(scaled(20)):
        workers = [pool.spawn(own_bytes_come_back, number) for number in (1, 2, 3)]
        assert [worker.get() for worker in workers] == [True] * 3


def own_bytes_come_back(number: int) -> bool:
    """Whether a connection within one thread carries what that thread has sent. Only sockets of the system are used."""
    near, far = socket.socketpair()
    record = bytes([number]) * RECORD_SIZE
    with closing(near), closing(far):
        one, other = map(DirectCalls, connected(near, far))
        return all(one.send(record) == RECORD_SIZE and other.recv() == record for _ in range(400))
