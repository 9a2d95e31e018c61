"""get_logger: no place floods a log, and nothing that a peer has written acts on one."""

from __future__ import annotations

import io
import logging
import pkgutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path

import gevent
import pytest

import peernet
from peernet.runtime import logs
from peernet.runtime.greenlets import spawn
from peernet.runtime.log_budget import BYTES_PER_HOUR, HOUR, LogSites
from peernet.runtime.logs import SiteFilter, get_logger
from tests.support import FAILURES, scaled
from tests.unit.hostile import HOSTILE, assert_harmless


class Clock:
    """What the filter takes for the time."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(logs, "time", clock)
    return clock


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> SiteFilter:
    """Budgets that no other test has used."""
    fresh = SiteFilter(LogSites())
    monkeypatch.setattr(logs, "_FILTER", fresh)
    return fresh


@pytest.fixture
def logger(limits: SiteFilter) -> Iterator[logging.Logger]:
    made = get_logger("peernet.made_for_a_test")
    made.propagate = False
    made.setLevel(logging.INFO)
    yield made
    del logging.Logger.manager.loggerDict["peernet.made_for_a_test"]


@pytest.fixture
def log(logger: logging.Logger) -> io.StringIO:
    """What a handler that a program has installed writes."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logger.addHandler(handler)
    return stream


def flood(logger: logging.Logger, count: int, text: str = "x" * 1000) -> None:
    for _ in range(count):
        logger.info("said: %s", text)


def test_one_place_logs_a_mebibyte_an_hour_and_then_says_that_it_only_counts(
    logger: logging.Logger, log: io.StringIO
) -> None:
    flood(logger, 2000)
    lines = log.getvalue().splitlines()
    assert BYTES_PER_HOUR * 0.9 < len(log.getvalue()) <= BYTES_PER_HOUR
    assert lines[-1].endswith(
        "more than 1024 KiB of messages of this kind within an hour; those of the next 60 min are only counted"
    )
    assert sum("only counted" in line for line in lines) == 1


def test_another_place_is_not_concerned(logger: logging.Logger, log: io.StringIO) -> None:
    flood(logger, 2000)
    logger.info("from another line")
    assert log.getvalue().endswith("from another line\n")


def test_after_the_hour_whoever_logs_next_lets_the_number_be_told(
    logger: logging.Logger, log: io.StringIO, clock: Clock
) -> None:
    flood(logger, 2000)
    admitted = log.getvalue().count("said:")
    clock.now = HOUR + 1
    logger.info("from another line")
    flood(logger, 1)
    *_, summary, other, again = log.getvalue().splitlines()
    assert summary.endswith(f"{2000 - admitted} more messages of this kind were dropped in the last hour")
    assert other.endswith("from another line")
    assert again.endswith("said: " + "x" * 1000)


def test_at_the_end_of_a_program_the_number_is_told_at_once(logger: logging.Logger, log: io.StringIO) -> None:
    flood(logger, 2000)
    logs.tell_dropped()
    logs.tell_dropped()
    assert log.getvalue().count("more messages of this kind were dropped in the last hour") == 1


def test_what_is_dropped_is_not_formatted(logger: logging.Logger, log: io.StringIO) -> None:
    class Costly:
        formatted = 0

        def __str__(self) -> str:
            self.formatted += 1
            return "x" * 2000

    texts = [Costly() for _ in range(2000)]
    for text in texts:
        logger.info("%s", text)
    assert sum(text.formatted > 0 for text in texts) == log.getvalue().count("x\n") + 1


def test_a_level_that_is_switched_off_costs_no_budget(
    logger: logging.Logger, log: io.StringIO, limits: SiteFilter
) -> None:
    for _ in range(5000):
        logger.debug("said: %s", "x" * 1000)
    assert log.getvalue() == ""
    assert limits.filter(logger.makeRecord(logger.name, 10, __file__, 1, "still admitted", (), None))


@pytest.mark.parametrize("text", HOSTILE)
def test_a_message_can_hold_nothing_that_acts_on_a_log(logger: logging.Logger, log: io.StringIO, text: str) -> None:
    logger.warning("a peer said %s", text)
    assert_harmless(log.getvalue().removesuffix("\n"))
    assert log.getvalue().count("\n") == 1


@pytest.mark.parametrize("text", HOSTILE)
def test_nor_can_the_error_that_is_logged_with_it(logger: logging.Logger, log: io.StringIO, text: str) -> None:
    def fail() -> None:
        try:
            raise KeyError(text)
        except KeyError as error:
            raise ValueError(text) from error

    try:
        fail()
    except ValueError:
        logger.exception("a callback failed")
    lines = log.getvalue().splitlines()
    for line in lines:
        assert_harmless(line)
    assert [line.partition(":")[0] for line in lines if "Error: " in line] == ["KeyError", "ValueError"]
    assert any("in fail" in line for line in lines)


def test_a_message_whose_arguments_do_not_fit_is_logged_all_the_same(
    logger: logging.Logger, log: io.StringIO, capsys: pytest.CaptureFixture[str]
) -> None:
    logger.warning("%d peers", "many")
    assert "'%d peers' could not be filled in: TypeError" in log.getvalue()
    assert capsys.readouterr().err == ""


class Kept(logging.Handler):
    """A handler that keeps what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


def test_arguments_are_left_to_those_who_read_them(logger: logging.Logger) -> None:
    seen = Kept()
    logger.addHandler(seen)
    logger.info("%s has %d", "somebody", 5)
    assert (seen.records[0].msg, seen.records[0].args) == ("%s has %d", ("somebody", 5))


def test_every_logger_of_peernet_has_the_limits() -> None:
    modules = [module.name for module in pkgutil.walk_packages(peernet.__path__, "peernet.")]
    for name in modules:
        import_module(name)
    loggers = [logging.Logger.manager.loggerDict[name] for name in modules if name in logging.Logger.manager.loggerDict]
    own = [logger for logger in loggers if isinstance(logger, logging.Logger)]
    assert len(own) > 10
    assert [one.name for one in own if not any(isinstance(each, SiteFilter) for each in one.filters)] == []


class RaisingHandler(logging.Handler):
    """A handler of a program that has a mistake."""

    def emit(self, record: logging.LogRecord) -> None:
        raise ValueError("this handler is broken")


def test_a_handler_that_raises_hurts_nobody(logger: logging.Logger, capsys: pytest.CaptureFixture[str]) -> None:
    handler = RaisingHandler()
    logger.addHandler(handler)
    try:
        logger.error("the disk is full")
    finally:
        logger.removeHandler(handler)
    assert "this handler is broken" in capsys.readouterr().err


@pytest.mark.parametrize("failure", FAILURES)
def test_a_handler_that_raises_what_is_no_error_hurts_no_greenlet_of_ours(
    logger: logging.Logger, capsys: pytest.CaptureFixture[str], failure: Callable[[], BaseException]
) -> None:
    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise failure() from ValueError("this handler is broken")

    def work() -> str:
        logger.error("the disk is full")
        return "done"

    handler = Broken()
    logger.addHandler(handler)
    try:
        assert spawn("work", work).get(timeout=scaled(5)) == "done"
    finally:
        logger.removeHandler(handler)
    assert "this handler is broken" in capsys.readouterr().err


def test_a_handler_that_waits_does_not_keep_a_greenlet_of_ours_from_being_ended(logger: logging.Logger) -> None:
    class Slow(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            gevent.sleep(scaled(60))

    went_on: list[bool] = []

    def work() -> None:
        logger.error("the disk is slow")
        went_on.append(True)

    handler = Slow()
    logger.addHandler(handler)
    try:
        greenlet = spawn("work", work)
        gevent.sleep(0)
        greenlet.kill(timeout=scaled(5))
    finally:
        logger.removeHandler(handler)
    assert (greenlet.dead, went_on) == (True, [])


def test_a_handler_may_be_interrupted(logger: logging.Logger) -> None:
    class Interrupted(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise gevent.Timeout

    handler = Interrupted()
    logger.addHandler(handler)
    try:
        with pytest.raises(gevent.Timeout):
            logger.error("the disk is slow")
    finally:
        logger.removeHandler(handler)


def test_a_logger_is_guarded_once(logger: logging.Logger) -> None:
    guard = logger.callHandlers
    assert get_logger(logger.name).callHandlers is guard


def test_the_check_of_the_layers_finds_a_logger_without_limits(tmp_path: Path) -> None:
    package = tmp_path / "peernet"
    package.mkdir()
    (package / "config.py").write_text("import logging\nlogger = logging.getLogger(__name__)\nlogging.info('hello')\n")
    (package / "errors.py").write_text("from logging import getLogger\n")
    checked = subprocess.run([sys.executable, "tools/check_layers", package], capture_output=True, text=True)
    assert checked.returncode == 1
    assert [line.partition(": ")[0] for line in checked.stdout.splitlines()] == [
        "peernet/config.py:2",
        "peernet/config.py:3",
        "peernet/errors.py:1",
    ]
