"""Lines on their way out: calls hand them over and go on; a thread in the background writes them, one thread a sink.

What waits is bounded in bytes, what it has no room for is dropped and counted. Order is kept. After a fork the child begins
with nothing: what waits is its parent's to write. At the end of a process, and when a mesh closes, what waits is written, which
takes a bounded time.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Any, Generic, Protocol, TypeVar

log = logging.getLogger("meshlib.access_log")

Item = TypeVar("Item")
Taken = TypeVar("Taken", contravariant=True)

MOST_BYTES = 8 * 1024 * 1024
"""That wait for a sink; beyond that lines are dropped."""
GATHER = 0.05
"""Seconds that lines wait for others to be written with."""
EXIT_SECONDS = 5.0
"""That the end of a process waits for what its sinks have not taken yet."""


class LinesLostError(OSError):
    """What the system has raised; ``lost``: of how many lines, those before them are written. ``works``: it takes what comes,
    but for these, and whoever raises it has told of them."""

    def __init__(self, error: OSError, lost: int, works: bool = False) -> None:
        super().__init__(*error.args)
        self.lost = lost
        self.works = works


class Output(Protocol[Taken]):
    """Where a writer writes. Only its thread comes here (and who flushes when there is none)."""

    def write(self, items: Sequence[Taken], stopping: Callable[[], bool], /) -> int:
        """Write them all, in their order, however long it takes; returns how many are lost. When ``stopping`` it does not wait
        for what takes nothing. Raises what the system raises: then all of them are lost, but where ``LinesLostError`` says how
        many."""
        ...

    def reopen(self) -> None:
        """Where there is a file: open it again before the next line."""
        ...

    def close(self) -> None:
        """Nothing is written any more."""
        ...

    def after_fork(self) -> None:
        """In a forked child."""
        ...


PUT = """
    waiting = writer._waiting + len(line)
    if waiting > writer._room:
        put(line, len(line))
    else:
        writer._waiting = waiting
        append(line)
        if writer._asleep:
            writer._wake()
"""
"""``writer.put(line, len(line))``, as lines of a function that is made of text (``alike.py``): where there is room, without a
call. ``append`` is ``writer.append``."""


class Writer(Generic[Item]):
    """``put`` never waits for the sink. ``written``, ``dropped`` (no room) and ``lost`` (the sink has failed) count lines."""

    def __init__(self, output: Output[Item], name: str, most: int = MOST_BYTES, gather: float = GATHER) -> None:
        self.name = name
        self.written = self.dropped = self.lost = 0
        self._output = output
        self._most = most
        self._gather = gather
        self._failing = self._full = False
        # always this list: calls append to it, and who writes takes its beginning away
        self._items: list[Item] = []
        self.append = self._items.append
        self._begin()
        _writers.add(self)

    def _begin(self) -> None:
        self._lock = threading.RLock()  # a signal's handler may make a call while its thread is in here
        self._writing = threading.Lock()
        self._gone = threading.Condition(self._lock)
        self._bell = threading.Event()
        self._hurry = threading.Event()
        self._items.clear()
        self._waiting = 0  # the bytes of those
        self._taken = 0  # the bytes that are being written
        self._room = self._most
        self._busy = self._unmade = False
        self._asleep = True
        self._closed = self._is_shut = False
        self._thread: threading.Thread | None = None

    @property
    def _held(self) -> int:
        """Bytes that wait or are being written, about: threads that put lines at the same moment may be counted as one, until
        the next batch is taken."""
        return self._waiting + self._taken

    def put(self, item: Item, size: int) -> None:
        """``size``: about how many bytes it takes. From any thread."""
        # no lock: it would be a third of what a line costs its call. ``append`` is whole by itself, and who writes looks
        # for lines once more when it says that it sleeps
        if type(item) is tuple:
            self._unmade = True
        waiting = self._waiting + size
        if waiting > self._room:
            with self._lock:
                self.dropped += 1  # the thread tells it: who logs may wait for the very handler that is too slow
            return
        self._waiting = waiting
        append = self.append  # CPython 3.11 would look for a method
        append(item)
        if self._asleep:
            self._wake()

    def _wake(self) -> None:
        with self._lock:
            self._asleep = False
        if self._start():
            self._bell.set()
        else:
            self._asleep = True  # the next line tries again

    def _start(self) -> bool:
        """Whether there is a thread."""
        with self._lock:
            if self._thread is None:
                _write_at_exit()
                thread = threading.Thread(target=self._work, name=f"meshlib-access-log {self.name}", daemon=True)
                try:
                    thread.start()
                except RuntimeError:  # out of threads, or the interpreter is ending
                    return False
                self._thread = thread
            return True

    def _work(self) -> None:
        try:
            while True:
                self._bell.wait()
                self._hurry.wait(self._gather)
                self.drain()
                with self._lock:
                    self._asleep = True  # first: whoever appends after the look below wakes it
                    if self._items:
                        self._asleep = False
                        continue
                    self._bell.clear()
                    self._hurry.clear()
                    if self._closed:
                        self._shut()
                        return
        finally:
            with self._lock:
                self._thread = None
                self._asleep = True

    def drain(self) -> None:
        """Write what waits, in this thread."""
        with self._writing:
            while True:
                with self._lock:
                    items = self._items[:]
                    del self._items[: len(items)]
                    self._taken, self._waiting = self._waiting if items else 0, 0
                    self._room = self._most - self._taken
                    self._busy = bool(items)
                if not items:
                    return
                lost, works = len(items), False
                error: BaseException | None = None
                try:
                    lines: Sequence[Any] = made(items) if self._unmade else items
                    lost = len(items) - len(lines) + self._output.write(lines, self._is_stopping)
                except LinesLostError as raised:
                    error, lost, works = raised, len(items) - len(lines) + raised.lost, raised.works
                except Exception as raised:  # noqa: BLE001 (of a handler or an exporter: counted, and told once)
                    error = raised
                self._tell(0 if works else lost, error)
                with self._gone:
                    self._taken, self._room, self._busy = 0, self._most, False
                    self.lost += lost
                    self.written += len(items) - lost
                    self._gone.notify_all()

    def _is_stopping(self) -> bool:
        return self._closed or _ending

    def _tell(self, lost: int, error: BaseException | None) -> None:
        """Once when it begins to fail, once when it works again."""
        if lost and not self._failing:
            self._failing = True
            why = f": {error}" if error is not None else ""
            log.error("%s cannot be written%s; lines are lost, and counted (status: access_logs)", self.name, why)
        elif not lost and self._failing:
            self._failing = False
            log.warning("%s is written again; %d lines were lost by then", self.name, self.lost)
        if self.dropped and not self._full:
            self._full = True
            log.warning("%s takes lines too slowly: some are dropped, and counted (status: access_logs)", self.name)

    def flush(self, timeout: float) -> bool:
        """Wait until all that was put is written or lost, at most so many seconds. False: it is not."""
        with self._gone:
            if self._is_idle():
                return True
            here = not self._start()
        if here:  # there is nobody else
            self.drain()
            return True
        self._hurry.set()
        self._bell.set()
        with self._gone:
            return self._gone.wait_for(self._is_idle, timeout)

    def _is_idle(self) -> bool:
        return not self._items and not self._busy

    def reopen(self) -> None:
        """What was put before goes to the old file, if it is written by then."""
        self.flush(1.0)
        self._output.reopen()

    def close(self, timeout: float = 1.0) -> None:
        """Write what waits. What a sink does not take in that time goes on in the background; 0: all of it does."""
        with self._lock:
            self._closed = True
        if timeout:
            self.flush(timeout)
        with self._lock:
            if self._thread is None and self._is_idle():
                self._shut()
                return
        self._hurry.set()
        self._wake()

    def _shut(self) -> None:
        if not self._is_shut:
            self._is_shut = True
            self._output.close()

    def after_fork(self) -> None:
        """In a forked child: the lines are the parent's, and its threads are not here."""
        closed = self._closed
        self._begin()
        self._closed = closed
        self._output.after_fork()

    def status(self) -> dict[str, object]:
        """For ``mesh.status()``."""
        return {
            "sink": self.name,
            "written": self.written,
            "dropped": self.dropped,
            "lost": self.lost,
            "waiting": self._held,
            "failing": self._failing,
        }


def made(items: Sequence[Any]) -> list[Any]:
    """Lines that calls have left as values (``alike.py``) are made here, on the writer's thread. One that cannot be made is
    left out."""
    lines = []
    for item in items:
        try:
            lines.append(item if type(item) is not tuple else item[0](item))
        except Exception:
            log.exception("a line of an access log could not be made")
    return lines


_writers: weakref.WeakSet[Writer[Any]] = weakref.WeakSet()
_ending = False
_exit_of = 0
"""The process whose end has been asked for."""


def flush_all(timeout: float = EXIT_SECONDS) -> None:
    """Every sink of this process, within so many seconds all together or nearly."""
    for writer in list(_writers):
        if not writer.flush(timeout):
            log.error("%s has not taken its last lines in time", writer.name)
            timeout = 0.1


def reopen_all() -> None:
    """Open every file again: after a rotation."""
    for writer in list(_writers):
        writer.reopen()


def _at_exit() -> None:
    global _ending
    _ending = True
    flush_all()


def _write_at_exit() -> None:
    """A process asks for it when its first writer starts: what its parent has asked for is not its own."""
    global _exit_of
    if _exit_of == os.getpid():
        return
    _exit_of = os.getpid()
    atexit.register(_at_exit)
    process, util = sys.modules.get("multiprocessing.process"), sys.modules.get("multiprocessing.util")
    if process is not None and util is not None and process.parent_process() is not None:
        util.Finalize(None, _at_exit, exitpriority=-1)  # such a child ends without atexit


def _after_fork() -> None:
    global _writers
    writers = list(_writers)
    _writers = weakref.WeakSet(writers)
    for writer in writers:
        writer.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
