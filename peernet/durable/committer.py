"""Committer: the one who uses the store, in a native thread; all who wait share one transaction."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import gevent
from gevent.event import AsyncResult
from gevent.event import Event as Flag

from peernet.durable.store import DurableStore
from peernet.errors import StorageError
from peernet.runtime.greenlets import spawn
from peernet.runtime.interruptions import OwnedGreenlet
from peernet.runtime.logs import get_logger

logger = get_logger(__name__)

Result = TypeVar("Result")
Job = Callable[[DurableStore], Any]

# So many jobs share one transaction at most, which bounds how long the first of them waits.
MAX_JOBS = 1000


class Committer:
    """Runs jobs on a store.

    A job is done when its transaction is on the disk. Those that come while another transaction is
    under way go together into the next one, in the order in which they came.

    Args:
        path: of the store's file, which is opened in the background. If it cannot be, every job fails.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._jobs: list[tuple[Job, AsyncResult[Any]]] = []
        self._news = Flag()
        self._closing = False
        # Nobody kills it: a thread cannot be interrupted, and nobody else may use the store meanwhile.
        self._greenlet: OwnedGreenlet = spawn("durable outbox", self._run)

    def run(self, job: Callable[[DurableStore], Result]) -> Result:
        """What ``job(store)`` returns, when it is on the disk. It is done even if whoever waits is killed.

        Raises:
            StorageError: it cannot be done.
        """
        return cast(Result, self.submit(job).get())

    def submit(self, job: Job) -> AsyncResult[Any]:
        """:meth:`run` for those who do not wait, or wait later."""
        result: AsyncResult[Any] = AsyncResult()
        if self._closing:
            result.set_exception(StorageError("the durable outbox is closed: the network is stopped"))
        else:
            self._jobs.append((job, result))
            self._news.set()
        return result

    def close(self) -> None:
        """Do what was asked for, and close the file, in the background. Idempotent."""
        self._closing = True
        self._news.set()

    def join(self) -> None:
        """Wait until the file is closed. The disk may take any time."""
        self._greenlet.join()

    def _run(self) -> None:
        threadpool = gevent.get_hub().threadpool
        store = threadpool.apply(_attempt, (DurableStore, self._path))
        while self._jobs or not self._closing:
            self._news.wait()
            self._news.clear()
            while self._jobs:
                jobs, self._jobs = self._jobs[:MAX_JOBS], self._jobs[MAX_JOBS:]
                self._tell(jobs, threadpool.apply(_attempt, (_do, store, [job for job, _ in jobs])))
        if isinstance(store, DurableStore):
            threadpool.apply(store.close)

    @staticmethod
    def _tell(jobs: list[tuple[Job, AsyncResult[Any]]], outcome: Any) -> None:
        for index, (_, result) in enumerate(jobs):
            if isinstance(outcome, BaseException):
                result.set_exception(outcome)
            else:
                result.set(outcome[index])


def _do(store: DurableStore | BaseException, jobs: list[Job]) -> list[Any]:
    """In the native thread.

    Raises:
        BaseException: why there is no store.
    """
    if isinstance(store, BaseException):
        raise store
    with store.transaction():
        return [job(store) for job in jobs]


def _attempt(function: Callable[..., Any], *args: Any) -> Any:
    """In the native thread. What it raised would be printed there by gevent, so it is returned.

    What is no ``Exception``, as log handlers may raise it, would end the thread, and nobody would get an answer.
    """
    try:
        return function(*args)
    except BaseException as error:
        return error
