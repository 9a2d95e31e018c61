"""VirtualLoop: an event loop for gevent whose time passes only when nobody has anything to do."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from typing import Any

from gevent import monkey

# What a pass of the loop takes, so that those who only let others run get older, too. Seconds.
PASS = 1e-6
# What the wall clock shows at the beginning: 2000-01-01 UTC. Seconds of Unix time.
BEGINNING = 946_684_800.0

# The system's: in a patched program, gevent's would wait in the very loop that it is to wake.
_SimpleQueue: Any = monkey.get_original("queue", "SimpleQueue")


class VirtualLoop:
    """What programs without sockets need of a gevent loop, in virtual time.

    In each pass it runs the callbacks that are queued, then fires the async watchers that
    were sent, then the timers that are due, each in the order of their coming. While
    another thread works for this one (gevent's threadpool), time stands still.
    """

    default = False
    approx_timer_resolution = PASS
    error_handler: Any = None

    def __init__(self) -> None:
        self._now = 0.0
        self._callbacks: deque[Callback] = deque()
        self._timers: list[tuple[float, int, Timer]] = []
        self._numbers = count(1)
        self._sent: Any = _SimpleQueue()
        self._awaited: set[Async] = set()

    def __getattr__(self, name: str) -> Any:
        if name in ("io", "signal", "child", "stat"):
            raise RuntimeError(f"there are no sockets, signals and processes in simulated time (loop.{name})")
        raise AttributeError(name)

    # Time.

    def monotonic(self) -> float:
        """Simulated seconds since the beginning."""
        return self._now

    def now(self) -> float:
        """Simulated seconds of Unix time."""
        return BEGINNING + self._now

    def update_now(self) -> None:
        """Nothing: no time passes without the loop."""

    # What gevent asks for.

    def run_callback(self, function: Callable[..., Any], *args: Any) -> Callback:
        callback = Callback(function, args)
        self._callbacks.append(callback)
        return callback

    def run_callback_threadsafe(self, function: Callable[..., Any], *args: Any) -> Callback:
        callback = Callback(function, args)
        self._sent.put(callback)
        return callback

    def timer(self, after: float, repeat: float = 0.0, ref: bool = True, priority: int | None = None) -> Timer:
        return Timer(self, after, repeat)

    def async_(self, ref: bool = True, priority: int | None = None) -> Async:
        return Async(self)

    def fork(self, ref: bool = True, priority: int | None = None) -> Watcher:
        return Watcher(self)  # it never fires: a simulation does not fork

    def handle_error(self, context: Any, kind: Any, error: Any, trace: Any) -> None:
        self.error_handler.handle_error(context, kind, error, trace)

    def destroy(self) -> None:
        self._callbacks.clear()
        self._timers.clear()
        self._awaited.clear()

    def _format(self) -> str:
        return f"virtual time {self._now:.6f}"

    # What watchers ask for.

    def schedule(self, timer: Timer, after: float) -> int:
        """Fire a timer so many seconds from now, if it still has the number that this returns."""
        number = next(self._numbers)
        heappush(self._timers, (self._now + max(after, 0.0), number, timer))
        return number

    def expect(self, watcher: Async) -> None:
        """Somebody waits for this, perhaps for another thread."""
        self._awaited.add(watcher)

    def forget(self, watcher: Async) -> None:
        """Nobody waits for this any more."""
        self._awaited.discard(watcher)

    def send(self, watcher: Async) -> None:
        """Fire a watcher in the next pass. Any thread may call this."""
        self._sent.put(watcher)

    # Running.

    def run(self) -> None:
        """Run until nothing can happen any more."""
        while True:
            for _ in range(len(self._callbacks)):
                self._run(self._callbacks.popleft())
            for _ in range(self._sent.qsize()):
                self._run(self._sent.get())
            if self._callbacks or not self._sent.empty():
                self._now += PASS
            elif self._awaited:
                self._run(self._sent.get())  # waits for the other thread
            elif not self._jump():
                return
            self._fire_timers()

    def _jump(self) -> bool:
        """Let time pass until the next timer is due. Returns whether there is one."""
        timers = self._timers
        while timers and timers[0][1] != timers[0][2].number:
            heappop(timers)  # it was stopped, or started again
        if timers:
            self._now = max(self._now, timers[0][0])
        return bool(timers)

    def _fire_timers(self) -> None:
        timers, last = self._timers, next(self._numbers)
        while timers and timers[0][0] <= self._now and timers[0][1] < last:
            _, number, timer = heappop(timers)
            if number == timer.number:
                timer.expired()
                self._run(timer)

    def _run(self, job: Callback | Watcher) -> None:
        function, args = job.take()
        if function is None:
            return
        try:
            function(*args)
        except BaseException as error:
            self.handle_error(job, type(error), error, error.__traceback__)
        finally:
            job.done()


class Callback:
    """A function that the loop calls once, unless it is stopped before. It is true until it has returned."""

    __slots__ = ("args", "callback")

    def __init__(self, callback: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self.callback: Callable[..., Any] | None = callback
        self.args: tuple[Any, ...] | None = args

    def __bool__(self) -> bool:
        return self.args is not None

    @property
    def pending(self) -> bool:
        """Whether it will be called."""
        return self.callback is not None

    def stop(self) -> None:
        """Do not call it."""
        self.callback = self.args = None

    close = stop

    def take(self) -> tuple[Callable[..., Any] | None, tuple[Any, ...]]:
        """What to call now."""
        callback, self.callback = self.callback, None
        return callback, self.args or ()

    def done(self) -> None:
        """It has returned."""
        self.args = None


class Watcher:
    """What the loop calls back when something has happened; this one never does."""

    ref = True
    priority = 0
    pending = False

    def __init__(self, loop: VirtualLoop) -> None:
        self.loop = loop
        self.callback: Callable[..., Any] | None = None
        self.args: tuple[Any, ...] = ()

    def __enter__(self) -> Watcher:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def active(self) -> bool:
        """Whether it is started."""
        return self.callback is not None

    def start(self, callback: Callable[..., Any], *args: Any, **options: Any) -> None:
        """Call ``callback(*args)`` when it happens."""
        self.callback, self.args = callback, args

    def stop(self) -> None:
        """Do not call back any more."""
        self.callback, self.args = None, ()

    def close(self) -> None:
        """Stop for ever."""
        self.stop()

    def take(self) -> tuple[Callable[..., Any] | None, tuple[Any, ...]]:
        """What to call now."""
        return self.callback, self.args

    def done(self) -> None:
        """It has returned."""


class Timer(Watcher):
    """Calls back when a time has passed; after that, if it repeats, again and again."""

    def __init__(self, loop: VirtualLoop, after: float, repeat: float) -> None:
        super().__init__(loop)
        self._after = after
        self._repeat = repeat
        self.number = 0  # of the entry in the loop's list that counts

    def start(self, callback: Callable[..., Any], *args: Any, **options: Any) -> None:
        super().start(callback, *args)
        self.number = self.loop.schedule(self, self._after)

    def stop(self) -> None:
        super().stop()
        self.number = 0

    def expired(self) -> None:
        """The time has passed."""
        self.number = self.loop.schedule(self, self._repeat) if self._repeat else 0

    def take(self) -> tuple[Callable[..., Any] | None, tuple[Any, ...]]:
        callback, args = self.callback, self.args
        if not self._repeat:
            super().stop()
        return callback, args


class Async(Watcher):
    """Calls back when anybody, in any thread, has sent it."""

    def start(self, callback: Callable[..., Any], *args: Any, **options: Any) -> None:
        super().start(callback, *args)
        self.loop.expect(self)

    def stop(self) -> None:
        super().stop()
        self.loop.forget(self)

    def send(self) -> None:
        """Call back in the next pass of the loop."""
        self.loop.send(self)
