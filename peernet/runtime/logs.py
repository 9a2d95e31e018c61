"""get_logger: loggers that nobody can flood, and through which nothing reaches a log that could act there."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from peernet.runtime.log_budget import BYTES_PER_HOUR, LogSites, Site
from peernet.runtime.text import printable, printable_traceback

# Messages of peernet are single lines far below this. Characters.
MAX_MESSAGE = 2048
# What a handler's format usually adds to a message: the time, the level and the name. Bytes.
HEADER = 128


class SiteFilter(logging.Filter):
    """Keeps each place in the code to its budget, and cleans what it lets through.

    It sits on the loggers, and not on a handler, so that it holds for whatever handlers a
    program has. A message that is dropped is not formatted.

    Args:
        sites: the budgets.
    """

    def __init__(self, sites: LogSites) -> None:
        super().__init__()
        self._sites = sites

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record may go on."""
        now = time.monotonic()
        self.tell_dropped(now)
        site = (record.name, record.levelno, record.pathname, record.lineno)
        dropped = self._sites.admit(site, now, lambda: _clean(record))
        if dropped == 1:
            minutes = self._sites.seconds_left(site, now) / 60
            _tell(
                site,
                "more than %d KiB of messages of this kind within an hour; those of the next %.0f min are only counted",
                BYTES_PER_HOUR // 1024,
                minutes,
            )
        return not dropped

    def tell_dropped(self, now: float) -> None:
        """Log how many messages were dropped in the hours that have ended by ``now``, in monotonic seconds."""
        for site, dropped in self._sites.settle(now):
            _tell(site, "%d more messages of this kind were dropped in the last hour", dropped)


class HandlerGuard:
    """Calls the handlers of a program, and survives what they raise.

    A handler is foreign code, called in the middle of ours: what it raised would end a channel. As with
    :meth:`logging.Handler.handleError`, its error goes to stderr, unless ``logging.raiseExceptions`` is off.

    Args:
        call_handlers: gives a record to every handler.
    """

    def __init__(self, call_handlers: Callable[[logging.LogRecord], None]) -> None:
        self._call_handlers = call_handlers
        self._broken = logging.NullHandler()

    def __call__(self, record: logging.LogRecord) -> None:
        try:
            self._call_handlers(record)
        except Exception:
            self._broken.handleError(record)
        except BaseException as error:
            from peernet.runtime import interruptions  # not before: quick commands load no gevent

            foreign = interruptions.is_in_own_greenlet() and not interruptions.is_addressed_here(error)
            if not foreign:  # it is the program's, or comes from whoever ends the greenlet
                raise
            self._broken.handleError(record)
            interruptions.raise_in_main(error)


_FILTER = SiteFilter(LogSites())


def get_logger(name: str) -> logging.Logger:
    """``logging.getLogger(name)``, with the limits of peernet, and guarded against the handlers of the program.

    Every module of peernet logs through one.
    """
    logger = logging.getLogger(name)
    logger.addFilter(_FILTER)
    if not isinstance(logger.callHandlers, HandlerGuard):
        # On the instance, because the class of all loggers is the program's own.
        logger.callHandlers = HandlerGuard(logger.callHandlers)  # type: ignore[method-assign]
    return logger


def tell_dropped() -> None:
    """Log now how many messages were dropped and not told of yet: the program ends."""
    _FILTER.tell_dropped(float("inf"))


def _clean(record: logging.LogRecord) -> int:
    """Escape in a record what could act on a log or a terminal. Returns about how many bytes it will take there."""
    try:
        message = record.getMessage()
    except Exception as error:  # logging would write a traceback to stderr, each time
        message = f"{record.msg!r} could not be filled in: {error!r}"
        record.msg, record.args = message, ()
    if len(message) > MAX_MESSAGE or not message.isprintable():
        message = printable(message, MAX_MESSAGE)
        record.msg, record.args = message, ()
    if record.exc_info and record.exc_info[1] is not None:
        # Formatters take it as it is, and make their own only if there is none.
        record.exc_text = printable_traceback(record.exc_info[1])
    return HEADER + len(message.encode()) + len((record.exc_text or "").encode("utf-8", "replace"))


def _tell(site: Site, message: str, *args: object) -> None:
    name, level, path, line = site
    logger = logging.getLogger(name)
    if logger.isEnabledFor(level):
        logger.callHandlers(logger.makeRecord(name, level, path, line, message, args, None))
