"""Several processes that serve one listening socket: each is forked before anything of the application is there, one that
dies is replaced, and a signal to the parent is one to all.

The socket is shared, not one for each by SO_REUSEPORT: what waits in the queue of a process that dies would be lost with
it.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import selectors
import signal
import socket
import sys
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING

from meshlib.telemetry.catching_up import record_all

if TYPE_CHECKING:
    from meshlib.clock import Clock

log = logging.getLogger("meshlib.serving")

FIRST_BACKOFF = 0.5
LONGEST_BACKOFF = 30.0
"""Seconds until one that dies again and again is replaced."""
WELL = 10.0
"""Seconds after which a worker that dies has served well: it is replaced at once."""
BEYOND_DRAIN = 5.0
"""Seconds beyond its own drain that a worker has to end."""
LONGEST_WAIT = 3600.0
"""Seconds that the system is asked to wait at once: it refuses very long ones."""
FAILED = 1

Work = Callable[[Callable[[], None], int, int], int]
"""What a worker does: is given what tells that it is ready, a descriptor that ends with the parent, and its slot: a number
from 0 that its replacement has after it. Returns its exit code."""


def backoff(failures: int) -> float:
    """Seconds until a worker is replaced that has died so many times without serving well. Pure."""
    return 0.0 if failures <= 0 else min(FIRST_BACKOFF * 2.0 ** min(failures - 1, 10), LONGEST_BACKOFF)


class Workers:
    """``run`` returns when all have ended: 0 after a signal, else the exit code of the one that could not start. ``drain``:
    seconds that they have, ``math.inf`` for as long as they want."""

    def __init__(
        self,
        count: int,
        work: Work,
        clock: Clock,
        drain: float,
        told: Callable[[str], object] = lambda _: None,
        *,
        every: float = math.inf,
        beat: Callable[[], object] = lambda: None,
    ) -> None:
        """``told`` is called with "ready", once all serve, and "stopping"; ``beat`` every so many seconds."""
        self._told = told
        self._count = count
        self._work = work
        self._clock = clock
        self._drain = drain
        self._every = every
        self._beat = beat
        self._beat_at = clock.monotonic()
        self._running: dict[int, _Worker] = {}
        self._due: list[tuple[float, int]] = []
        """When a slot is filled again."""
        self._failures = 0
        self._code = 0
        self._until: float | None = None  # when those that are told to stop are killed
        self._ever_ready = False
        self._serving: set[int] = set()  # slots that have ever been ready
        self._said_ready = False
        self._selector = selectors.DefaultSelector()
        self._woken, self._wake = socket.socketpair()
        self._ours, self._parents = os.pipe()  # its end tells workers that we are gone

    @property
    def pids(self) -> dict[int, int]:
        """By slot, of those that run. From any thread."""
        return {worker.slot: pid for pid, worker in list(self._running.items())}

    @property
    def stopping(self) -> bool:
        """Whether they have been told to end."""
        return self._until is not None

    def run(self) -> int:
        """In the main thread of a process without others."""
        for end in (self._woken, self._wake):
            end.setblocking(False)
        self._selector.register(self._woken, selectors.EVENT_READ)
        before = {each: signal.signal(each, self._noted) for each in (*_OURS, signal.SIGCHLD)}
        fd = signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        try:
            for slot in range(self._count):
                self._fork(slot)
            while self._running or (self._due and self._until is None):
                self._turn()
        finally:
            signal.set_wakeup_fd(fd)
            for each, handler in before.items():
                signal.signal(each, handler)
            self._close()
        return self._code

    def _close(self) -> None:
        self._selector.close()
        self._woken.close()
        self._wake.close()
        for fd in (self._ours, self._parents):
            os.close(fd)

    @staticmethod
    def _noted(number: int, frame: FrameType | None) -> None:
        """The wakeup descriptor has it."""

    def _turn(self) -> None:
        now = self._clock.monotonic()
        if self._every < math.inf and now >= self._beat_at:
            self._beat_at = now + self._every
            self._beat()
        waits = [max(0.0, due - now) for due, _ in self._due if self._until is None]
        if self._every < math.inf:
            waits.append(self._beat_at - now)
        if self._until is not None:
            waits.append(max(0.0, self._until - now))
        for key, _ in self._selector.select(min([*waits, LONGEST_WAIT]) if waits else None):
            if key.fileobj is self._woken:
                self._hear()
            else:
                self._ready(key.data)
        self._reap()
        self._replace()

    def _hear(self) -> None:
        with contextlib.suppress(BlockingIOError):
            for number in self._woken.recv(4096):
                if number in (signal.SIGTERM, signal.SIGINT):
                    self._stop(0)
                elif number in (signal.SIGHUP, signal.SIGUSR1):
                    self._tell(signal.Signals(number))

    def _stop(self, code: int) -> None:
        if self._until is None:
            self._told("stopping")
            self._code = code
            self._until = self._clock.monotonic() + self._drain + BEYOND_DRAIN
            self._tell(signal.SIGTERM)
        else:  # told twice
            self._until = self._clock.monotonic()

    def _tell(self, number: signal.Signals) -> None:
        for pid in self._running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def _ready(self, worker: _Worker) -> None:
        if os.read(worker.pipe, 1):
            worker.ready_at = self._clock.monotonic()
            self._ever_ready = True
            self._serving.add(worker.slot)
            if len(self._serving) == self._count and not self._said_ready:
                self._said_ready = True
                self._told("ready")
        self._selector.unregister(worker.pipe)
        os.close(worker.pipe)
        worker.pipe = -1

    def _reap(self) -> None:
        while self._running:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            worker = self._running.pop(pid, None)
            if worker is None:
                continue
            if worker.pipe >= 0:
                self._ready(worker)
            if self._until is None:
                self._died(pid, worker, os.waitstatus_to_exitcode(status))

    def _died(self, pid: int, worker: _Worker, code: int) -> None:
        now = self._clock.monotonic()
        if worker.ready_at is None and not self._ever_ready and code > 0:
            self._stop(code)  # it cannot start, and neither can the others: it has said why
            return
        well = worker.ready_at is not None and now - worker.ready_at >= WELL
        self._failures = 0 if well else self._failures + 1
        wait = backoff(self._failures)
        how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
        log.error("worker %d has ended %s; it is replaced in %.1f s", pid, how, wait)
        self._due.append((now + wait, worker.slot))

    def _replace(self) -> None:
        now = self._clock.monotonic()
        if self._until is not None:
            if now >= self._until:
                self._tell(signal.SIGKILL)
                self._until = now + BEYOND_DRAIN
            return
        for due in [each for each in self._due if each[0] <= now]:
            self._due.remove(due)
            self._fork(due[1])

    def _fork(self, slot: int) -> None:
        reads, writes = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(reads)
            os.close(self._parents)
            os._exit(self._worked(writes, slot))
        os.close(writes)
        worker = self._running[pid] = _Worker(reads, slot)
        self._selector.register(reads, selectors.EVENT_READ, worker)

    def _worked(self, writes: int, slot: int) -> int:
        """In the child."""
        code = FAILED
        try:
            signal.set_wakeup_fd(-1)
            for each in (*_OURS, signal.SIGCHLD):
                signal.signal(each, signal.SIG_DFL)
            self._selector.close()
            code = self._work(lambda: _told(writes), self._ours, slot)
        except SystemExit as left:
            code = left.code if isinstance(left.code, int) else FAILED
        except KeyboardInterrupt:
            code = 0
        except BaseException:
            log.exception("a worker has failed")
        finally:
            record_all()  # a worker ends without atexit
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(OSError, ValueError):
                    stream.flush()
        return code


def _told(pipe: int) -> None:
    os.write(pipe, b"1")
    os.close(pipe)


class _Worker:
    """A process of ours. ``pipe``: where it tells that it is ready, -1 when it has."""

    __slots__ = ("pipe", "ready_at", "slot")

    def __init__(self, pipe: int, slot: int) -> None:
        self.pipe = pipe
        self.slot = slot
        self.ready_at: float | None = None


_OURS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
