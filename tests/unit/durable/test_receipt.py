"""What a receipt of the durable outbox says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gevent
import pytest

from peernet.durable.receipt import DurableReceipt
from peernet.errors import ConfigurationError, DeliveryFailed, SelfWaitError
from peernet.reasons import Reason
from tests.support import FAILURES, Recorder, scaled


def make_receipt() -> DurableReceipt:
    return DurableReceipt("peer", b"\xab", lambda peer: None)


def state(receipt: DurableReceipt) -> tuple[bool, bool, bool, bool]:
    return receipt.done, receipt.acknowledged, receipt.failed, receipt.stored


def test_it_is_pending_and_then_acknowledged() -> None:
    receipt = make_receipt()
    assert state(receipt) == (False, False, False, True)
    assert repr(receipt) == "<DurableReceipt ab pending>"
    receipt.settle()
    assert state(receipt) == (True, True, False, False)
    assert receipt.wait(0)
    assert repr(receipt) == "<DurableReceipt ab acknowledged>"


@pytest.mark.parametrize("reason", [Reason.NOT_PERMITTED, Reason.DROPPED])
def test_a_refused_or_dropped_packet_is_not_stored_any_more(reason: Reason) -> None:
    receipt = make_receipt()
    receipt.settle(reason)
    assert state(receipt) == (True, False, True, False)
    with pytest.raises(DeliveryFailed, match="packet ab was not delivered") as caught:
        receipt.wait()
    assert caught.value.reason is reason


def test_a_packet_is_still_stored_when_the_network_stops() -> None:
    receipt = make_receipt()
    receipt.settle(Reason.SHUTDOWN)
    assert state(receipt) == (True, False, True, True)
    with pytest.raises(DeliveryFailed, match="stays stored"):
        receipt.wait()


def test_a_packet_is_still_stored_when_it_is_set_aside() -> None:
    receipt = make_receipt()
    receipt.settle(Reason.HANDLER_FAILED)
    assert state(receipt) == (True, False, True, True)
    with pytest.raises(DeliveryFailed, match="is set aside") as caught:
        receipt.wait()
    assert caught.value.reason is Reason.HANDLER_FAILED


def test_waiting_ends_with_the_time_or_with_the_verdict() -> None:
    receipt = make_receipt()
    assert not receipt.wait(0.01)
    waiting = gevent.spawn(receipt.wait, 10)
    gevent.sleep(0.01)
    receipt.settle()
    assert waiting.get(timeout=5)


def test_a_callback_that_would_wait_for_itself_is_told_so() -> None:
    def refuse(peer: str) -> None:
        raise SelfWaitError(peer)

    receipt = DurableReceipt("peer", b"", refuse)
    with pytest.raises(SelfWaitError, match="peer"):
        receipt.wait()
    receipt.settle()
    assert receipt.wait()


@pytest.mark.parametrize("failure", FAILURES)
def test_callbacks_are_told_once_and_none_hurts_another(
    caplog: pytest.LogCaptureFixture, failure: Callable[[], BaseException]
) -> None:
    receipt, early, late = make_receipt(), Recorder(), Recorder()

    def fail(done: DurableReceipt) -> None:
        raise failure() from ValueError("oops")

    receipt.add_done_callback(fail)
    waiting = gevent.spawn(receipt.wait, scaled(5))
    gevent.sleep(0)
    receipt.add_done_callback(early)
    receipt.settle()
    receipt.add_done_callback(late)
    receipt.add_done_callback(fail)
    assert early.calls == late.calls == [(receipt,)]
    assert waiting.get(timeout=scaled(1)) is True
    assert caplog.text.count("ValueError: oops") == 2


async def coroutine(receipt: DurableReceipt) -> None: ...


@pytest.mark.parametrize("callback", [coroutine, None])
def test_a_callback_that_would_run_nothing_is_refused(callback: Any) -> None:
    with pytest.raises(ConfigurationError, match="a done callback must be "):
        make_receipt().add_done_callback(callback)
